"""Every member of the interfaces, driven by busctl as a person would."""

import asyncio
import shutil
from uuid import UUID

import pytest
from support.fake_services import FakeServices
from support.fake_world import network_view
from support.private_bus import PrivateBus

from vnetd.bus.objects import object_path
from vnetd.bus.server import BusServer
from vnetd.service.views import Caller

ROOT = ("org.vnetd1", "/org/vnetd1", "org.vnetd1.Manager")


async def manager(bus: PrivateBus, member: str, *arguments: str) -> str:
    return await bus.acall("call", *ROOT, member, *arguments)


async def on(bus: PrivateBus, path: str, member: str, *arguments: str) -> str:
    interface = "org.vnetd1." + path.split("/")[3].title()
    return await bus.acall("call", "org.vnetd1", path, interface, member, *arguments)


def words(line: str) -> list[str]:
    return line.split()


def network_path(name: str) -> str:
    return object_path("network", network_view(name).uuid)


async def test_network_lives_its_whole_life_through_busctl(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    path = network_path("lab")
    assert await manager(bus, "DefineNetwork", "sa{sv}", '{"name":"lab"}', "0") == f'o "{path}"'
    assert await manager(bus, "GetNetwork", "s", "lab") == f'o "{path}"'
    assert await on(bus, path, "Start") == ""
    assert services.networks.get("lab").active
    assert await on(bus, path, "Describe", "sa{sv}", "xml", "0") == 's "xml of lab"'
    assert await on(bus, path, "Stop") == ""
    assert await on(bus, path, "Undefine") == ""
    assert services.networks.list() == ()


async def test_caller_is_who_the_bus_says(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    await manager(bus, "CreateNetwork", "sa{sv}", '{"name":"lab"}', "0")
    ((_, caller, document, options),) = services.world.calls
    assert isinstance(caller, Caller)
    assert (caller.uid, caller.name[0], document, options) == (0, ":", '{"name":"lab"}', {})
    assert caller.pid > 0


async def test_options_reach_the_service_as_plain_values(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    await manager(bus, "DefineNetwork", "sa{sv}", '{"name":"lab"}', "1", "lenient", "b", "true")
    await on(
        bus,
        network_path("lab"),
        "Update",
        "sssa{sv}",
        "modify",
        "ip",
        "<ip/>",
        "2",
        "live",
        "b",
        "true",
        *words("parent_index u 1"),
    )
    await on(bus, network_path("lab"), "Describe", "sa{sv}", "json", "1", "inactive", "b", "true")
    uuid = network_view("lab").uuid
    assert services.world.calls[0][3] == {"lenient": True}
    assert services.world.calls[1][2:] == (uuid, "modify", "ip", "<ip/>", {"live": True, "parent_index": 1})
    assert services.world.calls[2] == ("describe", uuid, "json", {"inactive": True})


async def test_lists_show_path_uuid_name_and_every_property(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    view = services.world.add("network", network_view("lab", problems=("dnsmasq is missing",)))
    listed = await manager(bus, "ListNetworks", "a{sv}", "0")
    assert listed.startswith("aa{sv} 1 13 ")
    for piece in (
        f'"path" o "{network_path("lab")}"',
        f'"uuid" s "{view.uuid}"',
        '"name" s "lab"',
        '"healed_count" t 0',
        '"problems" as 1 "dnsmasq is missing"',
        '"addresses" as 1 "192.168.122.1/24"',
        '"ports" ao 0',
        '"active" b false',
    ):
        assert piece in listed


async def test_port_is_attached_filtered_and_detached(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    services.world.add("network", network_view("lab"))
    arguments = words("lab 4 kind s veth device s eth7 vlan u 5 trunks as 2 a b")
    attached = await manager(bus, "Attach", "sa{sv}", *arguments)
    assert services.world.calls[0][3] == {"kind": "veth", "device": "eth7", "vlan": 5, "trunks": ("a", "b")}
    port = services.ports.get("eth7")
    path = object_path("port", port.uuid)
    assert attached.startswith(f'oa{{sv}} "{path}" 3 ')
    assert '"device" s "eth7"' in attached and '"mtu" x 1500' in attached and '"isolated" b false' in attached
    assert await manager(bus, "GetPort", "s", "eth7") == f'o "{path}"'
    listed = await manager(bus, "ListPorts", "a{sv}", "0")
    assert '"name" s "eth7"' in listed and f'"network" o "{network_path("lab")}"' in listed
    assert (
        await on(bus, path, "SetFilter", "sa{sv}", *words("clean-traffic 2 IP as 2 192.0.2.1 192.0.2.2 MAC s x")) == ""
    )
    assert services.world.calls[1][3:] == ("clean-traffic", {"IP": ("192.0.2.1", "192.0.2.2"), "MAC": ("x",)})
    assert await on(bus, path, "Describe", "sa{sv}", "xml", "0") == f's "xml of {services.ports.list()[0].device}"'
    assert await on(bus, path, "Detach") == ""
    assert services.ports.list() == ()


async def test_filter_is_defined_bound_listed_and_unbound(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    defined = await manager(bus, "DefineFilter", "sa{sv}", '{"name":"block"}', "0")
    assert await manager(bus, "GetFilter", "s", "block") == defined
    path = defined.split('"')[1]
    assert await on(bus, path, "Describe", "sa{sv}", "xml", "0") == 's "xml of block"'
    bound = await manager(bus, "BindFilter", "ssa{sv}", *words("tap0 block 1 IP as 1 192.0.2.1"))
    assert '"name" s "tap0"' in await manager(bus, "ListBindings", "a{sv}", "0")
    assert '"parameters" a{sv} 1 "IP" as 1 "192.0.2.1"' in await manager(bus, "ListBindings", "a{sv}", "0")
    assert await on(bus, bound.split('"')[1], "Delete") == ""
    assert await on(bus, path, "Undefine") == ""
    assert await manager(bus, "ListFilters", "a{sv}", "0") == "aa{sv} 0"


async def test_leases_plan_and_reconcile_answer(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    services.world.add("network", network_view("lab"))
    leases = await on(bus, network_path("lab"), "GetLeases", "a{sv}", "0")
    assert '"address" s "192.168.122.7"' in leases and '"expiry" t 1700000000' in leases
    assert await manager(bus, "Plan", "sa{sv}", "{}", "0") == r's "{\"steps\": []}"'
    assert await manager(bus, "Reconcile") == ""
    assert [call[0] for call in services.world.calls] == ["leases", "plan", "reconcile"]


async def test_a_plan_is_that_of_a_network_unless_another_kind_is_asked_for(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    await manager(bus, "Plan", "sa{sv}", "{}", *words("1 kind s network"))
    assert "disturbs_host" in await manager(bus, "Plan", "sa{sv}", "{}", *words("2 kind s switch lenient b true"))
    assert [call[0] for call in services.world.calls] == ["plan", "plan_switch"]
    assert services.world.called("plan_switch") == [("{}", {"lenient": True})]
    assert "'filter': the plan of a network or of a switch" in await manager(
        bus, "Plan", "sa{sv}", "{}", *words("1 kind s filter")
    )
    assert "must be a string (s)" in await manager(bus, "Plan", "sa{sv}", "{}", *words("1 kind i 1"))


async def test_every_method_of_a_switch_reaches_its_service(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    defined = await manager(bus, "DefineSwitch", "sa{sv}", '{"name": "office"}', *words("1 confirm u 30"))
    path = object_path("switch", services.switches.get("office").uuid)
    assert defined == await manager(bus, "GetSwitch", "s", "office") == f'o "{path}"'
    created = await manager(bus, "CreateSwitch", "sa{sv}", '{"name": "fleeting"}', "0")
    assert created == f'o "{object_path("switch", services.switches.get("fleeting").uuid)}"'
    assert '"office"' in await manager(bus, "ListSwitches", "a{sv}", "0")
    switch = ("call", "org.vnetd1", path, "org.vnetd1.Switch")
    await bus.acall(*switch, "Start", "a{sv}", *words("1 confirm i 60"))
    assert await bus.acall("get-property", "org.vnetd1", path, "org.vnetd1.Switch", "Unconfirmed") == "b true"
    await bus.acall(*switch, "Confirm")
    await bus.acall("set-property", "org.vnetd1", path, "org.vnetd1.Switch", "Autostart", "b", "true")
    assert await bus.acall(*switch, "Describe", "sa{sv}", "json", "0") == 's "json of office"'
    await bus.acall(*switch, "Stop")
    await bus.acall(*switch, "Undefine")
    expected = ["define_switch", "create_switch", "start_switch", "confirm_switch", "set_autostart_switch"]
    assert [call[0] for call in services.world.calls] == [
        *expected,
        "describe_switch",
        "stop_switch",
        "undefine_switch",
    ]
    assert services.world.calls[2][-1] == {"confirm": 60}


async def test_addresses_of_a_port_are_listed_with_source_and_age(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    services.world.add("network", network_view("lab"))
    await manager(bus, "Attach", "sa{sv}", *words("lab 1 device s eth7"))
    port = object_path("port", services.ports.get("eth7").uuid)
    shown = await on(bus, port, "GetAddresses", "a{sv}", "0")
    assert shown == 'aa{sv} 1 4 "address" s "192.168.122.7" "family" s "ipv4" "source" s "lease" "age" u 7'


async def test_limits_and_isolation_of_a_port_are_set_and_seen(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    services.world.add("network", network_view("lab"))
    await manager(bus, "Attach", "sa{sv}", *words("lab 1 device s eth7"))
    port = object_path("port", services.ports.get("eth7").uuid)
    limits = words("2 inbound.average u 4096 outbound.average i 128")
    assert await on(bus, port, "SetBandwidth", "a{sv}", *limits) == ""
    assert await on(bus, port, "SetIsolated", "b", "true") == ""
    (_, *limited), (_, *isolated) = services.world.calls[-2:]
    assert limited[-1] == {"inbound.average": 4096, "outbound.average": 128}
    assert isolated[-1] is True
    shown = await bus.acall("get-property", "org.vnetd1", port, "org.vnetd1.Port", "Bandwidth", "Isolated")
    assert " ".join(shown.split()) == 'a{sv} 2 "inbound.average" x 4096 "outbound.average" x 128 b true'


async def test_objects_are_found_by_busctl_tree(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    services.world.add("network", network_view("lab"))
    tree = await bus.acall("tree", "--list", "org.vnetd1")
    assert network_path("lab") in tree.split()
    assert "/org/vnetd1/binding" in tree.split()


@pytest.mark.skipif(shutil.which("gdbus") is None, reason="needs gdbus, of package libglib2.0-bin")
async def test_gdbus_can_do_it_too(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    command = ["gdbus", "call", f"--address={bus.address}", "--dest=org.vnetd1", "--object-path=/org/vnetd1"]
    command += ["--method=org.vnetd1.Manager.DefineNetwork", '{"name": "lab"}', "{'lenient': <true>}"]
    done = await asyncio.to_thread(bus.run, *command)
    assert done.stdout.strip() == f"(objectpath '{network_path('lab')}',)"


async def test_managed_objects_are_the_objects(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    services.world.add("network", network_view("lab"))
    await manager(bus, "DefineFilter", "sa{sv}", '{"name":"block"}', "0")
    managed = await bus.acall(
        "call", "org.vnetd1", "/org/vnetd1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"
    )
    assert managed.startswith("a{oa{sa{sv}}} 2 ")
    assert f'"{network_path("lab")}" 1 "org.vnetd1.Network" 12 "Name" s "lab"' in managed
    assert '1 "org.vnetd1.Filter" 3 "Name" s "block"' in managed


def test_paths_are_uuids_with_underscores() -> None:
    uuid = UUID("12345678-1234-1234-1234-123456789abc")
    assert object_path("port", uuid) == "/org/vnetd1/port/12345678_1234_1234_1234_123456789abc"
