"""Networks on a bridge of the host's own, tried with packets: guests join it, and it outlives everything."""

from collections.abc import Iterator

import pytest
from support.client import NETWORK, PORT, Refused
from support.netns import Guest, Lab
from support.site import Administrator, Site
from support.waiting import SILENCE, eventually

BRIDGED = "<network><name>lab</name><forward mode='bridge'/><bridge name='br0'/></network>"
MAC = "52:54:00:00:77:11"
SILENT = "<filter name='silent'><rule action='drop' direction='out'><mac/></rule></filter>"


@pytest.fixture
def stranger(shared_site: Site, lab: Lab) -> Iterator[Guest]:
    """A machine on the host's own bridge br0, which vnetd had no hand in."""
    host = shared_site.host
    host.run("ip", "link", "add", "br0", "type", "bridge")
    host.run("ip", "link", "set", "br0", "mtu", "1400", "up")
    guest = lab.guest(host, "br0", "stranger")
    guest.run("ip", "address", "add", "192.168.50.1/24", "dev", "eth0")
    yield guest
    host.run("ip", "link", "delete", guest.device)
    host.run("ip", "link", "delete", "br0", check=False)


def link(admin: Administrator, device: str) -> tuple[object, ...]:
    """What must not change about a link: who it is, MTU, MAC, bridge."""
    shown = admin.site.host.link(device) or {}
    return tuple(shown.get(name) for name in ("ifindex", "mtu", "address", "master"))


async def reaches(admin: Administrator, network: str, state: str) -> None:
    """Wait until the network is in this state."""

    async def there() -> bool:
        return await admin.state(network) == state

    await eventually(there)


async def finish(admin: Administrator) -> None:
    """End the network while the bridge is there, as nothing of vnetd's may be left."""
    for network in (await admin.networks()).values():
        await admin.stop(network["path"])


async def test_guests_on_the_hosts_bridge_reach_what_is_on_it_and_a_filter_keeps_them_from_it(
    admin: Administrator, stranger: Guest
) -> None:
    host = admin.site.host
    before = link(admin, "br0")
    await admin.raise_network(BRIDGED)
    assert link(admin, "br0") == before
    guest = await admin.add_guest("lab", "192.168.50.9/24", mac=MAC)
    near = host.link(guest.device)
    assert near and (near["master"], near["mtu"]) == ("br0", 1400)
    assert guest.ping("192.168.50.1")
    await admin.define_filter(SILENT)
    await admin.call(guest.port, PORT, "SetFilter", "sa{sv}", "silent", {})
    assert not guest.ping("192.168.50.1", wait=SILENCE)
    await finish(admin)
    assert link(admin, "br0") == before, "the bridge is the host's"


async def test_a_bridge_that_goes_and_returns_gets_its_ports_back(admin: Administrator, stranger: Guest) -> None:
    host = admin.site.host
    network = await admin.raise_network(BRIDGED)
    guest = await admin.add_guest("lab", "192.168.50.9/24", mac=MAC)
    host.run("ip", "link", "delete", "br0")
    await reaches(admin, network, "degraded")
    assert "bridge br0 is not there" in (await admin.get(network, NETWORK, "Problems"))[0]
    host.run("ip", "link", "add", "br0", "type", "bridge")
    host.run("ip", "link", "set", "br0", "up")
    host.run("ip", "link", "set", stranger.device, "master", "br0")
    await reaches(admin, network, "active")
    await eventually(lambda: bool(guest.ping("192.168.50.1", wait=0.5)))
    await finish(admin)


async def test_a_restart_of_the_daemon_leaves_the_ports_on_the_hosts_bridge(
    admin: Administrator, stranger: Guest
) -> None:
    network = await admin.raise_network(BRIDGED)
    guest = await admin.add_guest("lab", "192.168.50.9/24", mac=MAC)
    near = link(admin, guest.device)
    admin.site.daemon.kill()
    assert guest.ping("192.168.50.1")
    admin.site.daemon.start()
    assert await admin.state(network) == "active"
    assert link(admin, guest.device) == near
    await finish(admin)


async def test_without_the_bridge_the_network_does_not_start(admin: Administrator) -> None:
    with pytest.raises(Refused, match="there is no such network device"):
        await admin.raise_network(BRIDGED)
