"""Properties are read, written and announced."""

from support.fake_services import FakeServices, one_of_each
from support.fake_world import network_view
from support.private_bus import PrivateBus

from vnetd import __version__
from vnetd.bus import contracts
from vnetd.bus.objects import object_path
from vnetd.bus.server import BusServer

LAB = object_path("network", network_view("lab").uuid)


async def get(bus: PrivateBus, path: str, interface: str, *names: str) -> str:
    return await bus.acall("get-property", "org.vnetd1", path, interface, *names)


async def test_every_property_can_be_read(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    loaded = contracts.load_contracts()
    for interface, path in (await one_of_each(services)).items():
        properties = loaded[interface].properties
        lines = (await get(bus, path, interface, *properties)).splitlines()
        assert [line.split()[0] for line in lines] == [known.signature for known in properties.values()]


async def test_values_are_those_of_the_services(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    paths = await one_of_each(services)
    lab, port = services.networks.get("lab"), services.ports.list()[0]
    services.world.change("network", lab.uuid, ports=(port.uuid,), healed_count=1 << 40)
    path = paths[contracts.NETWORK]
    assert await get(bus, path, contracts.NETWORK, "Ports") == f'ao 1 "{paths[contracts.PORT]}"'
    assert await get(bus, path, contracts.NETWORK, "HealedCount") == f"t {1 << 40}"
    assert await get(bus, paths[contracts.PORT], contracts.PORT, "Network") == f'o "{path}"'
    assert await get(bus, paths[contracts.BINDING], contracts.BINDING, "Parameters") == 'a{sv} 1 "IP" as 1 "192.0.2.1"'
    assert await get(bus, "/org/vnetd1", contracts.MANAGER, "Version") == f's "{__version__}"'
    capabilities = await get(bus, "/org/vnetd1", contracts.MANAGER, "Capabilities")
    assert '"dnsmasq" (bs) true "2.90"' in capabilities
    assert '"sr-iov" (bs) false "no device of this host' in capabilities


async def test_autostart_is_set(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    services.world.add("network", network_view("lab"))
    assert await bus.acall("set-property", "org.vnetd1", LAB, contracts.NETWORK, "Autostart", "b", "true") == ""
    assert await get(bus, LAB, contracts.NETWORK, "Autostart") == "b true"
    ((what, caller, uuid, enabled),) = services.world.calls
    assert (what, caller.uid, uuid, enabled) == ("set_autostart", 0, network_view("lab").uuid, True)


async def test_what_cannot_be_set_is_refused(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    services.world.add("network", network_view("lab"))
    calls = {
        ("Autostart", "s", "yes"): "Autostart has type 'b', not 's'",
        ("Name", "s", "other"): "property Name cannot be set",
        ("Nonsense", "s", "x"): "has no property Nonsense",
    }
    for arguments, words in calls.items():
        assert words in await bus.acall("set-property", "org.vnetd1", LAB, contracts.NETWORK, *arguments)
    manager = ("set-property", "org.vnetd1", "/org/vnetd1", contracts.MANAGER, "Version", "s", "2")
    assert "cannot be set" in await bus.acall(*manager)
    assert services.world.calls == []


async def test_empty_interface_means_the_object_s_own(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    services.world.add("network", network_view("lab"))
    call = ("call", "org.vnetd1", LAB, contracts.PROPERTIES)
    assert await bus.acall(*call, "Get", "ss", "", "Name") == 'v s "lab"'
    assert (await bus.acall(*call, "GetAll", "s", "")).startswith('a{sv} 12 "Name" s "lab"')
    assert await bus.acall(*call, "GetAll", "s", contracts.PEER) == "a{sv} 0"
