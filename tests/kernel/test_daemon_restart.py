"""The daemon ends, in whatever way and at whatever moment; networks, guests and their leases stay."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress

import pytest
from support.client import NETWORK, Refused, variant
from support.site import Administrator, Site
from support.traffic import Pinging
from support.waiting import eventually, wait_until

LAB = {
    "name": "lab",
    "mode": "nat",
    "addresses": [
        {"address": "192.168.77.1/24", "dhcp": {"ranges": [{"start": "192.168.77.50", "end": "192.168.77.99"}]}}
    ],
}
DOCUMENT = json.dumps(LAB)
ROUNDS = 12


def restart(site: Site, end: str = "killed") -> None:
    """End the daemon, and start it again."""
    if end == "killed":
        site.daemon.kill()
    else:
        site.daemon.stop()
    site.daemon.start()


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_no_packet_is_lost_while_the_daemon_restarts(admin: Administrator, end: str) -> None:
    site = admin.site
    network = await admin.raise_network(LAB)
    guest = await admin.add_guest("lab")
    guest.lease()
    before, serving = site.realised("virbr0"), site.dnsmasq(network)
    with Pinging(guest, site.outside.ipv4) as ping:
        await ping.goes_on()
        restart(site, end)
        await ping.goes_on()
        assert ping.lost() <= 1  # the one under way when it ended
    assert site.realised("virbr0") == before
    assert site.dnsmasq(network) == serving
    assert await admin.healed(network) == 0


async def test_leases_and_ports_are_known_after_a_restart(admin: Administrator) -> None:
    network = await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", mac="52:54:00:00:00:51")
    address = guest.lease()
    restart(admin.site)
    assert [(lease["address"], lease["mac"]) for lease in await admin.leases(network)] == [
        (address, "52:54:00:00:00:51")
    ]
    assert await admin.get(network, NETWORK, "Ports") == [guest.port]
    assert await admin.get(guest.port, "org.vnetd1.Port", "Device") == guest.device
    assert guest.lease() == address
    await admin.call(guest.port, "org.vnetd1.Port", "Detach")
    assert guest.device not in admin.site.devices()


async def test_what_broke_while_the_daemon_was_away_is_repaired_when_it_comes_back(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", "192.168.77.10/24", gateway=("192.168.77.1",))
    before = site.realised("virbr0")
    site.daemon.kill()
    os.kill(site.dnsmasq(network), signal.SIGKILL)
    site.host.run("ip", "address", "flush", "dev", "virbr0")
    site.host.run("ip", "link", "set", guest.device, "nomaster")
    site.host.run("nft", "flush", "ruleset")
    site.daemon.start()
    assert site.realised("virbr0") == before
    assert site.dnsmasq(network)
    assert guest.ping(site.outside.ipv4)


async def test_a_network_an_earlier_version_left_snooping_multicast_snoops_no_more(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", "192.168.77.10/24", gateway=("192.168.77.1",))
    before, serving = site.realised("virbr0"), site.dnsmasq(network)
    with Pinging(guest, site.outside.ipv4) as ping:
        await ping.goes_on()
        site.daemon.stop()
        site.host.run("ip", "link", "set", "virbr0", "type", "bridge", "mcast_snooping", "1")
        site.daemon.start()
        await ping.goes_on()
        assert ping.lost() <= 1  # the one under way when it ended
    assert (site.realised("virbr0"), site.dnsmasq(network)) == (before, serving)
    assert (await admin.state(network), await admin.healed(network)) == ("active", 1)


async def test_a_guest_that_went_while_the_daemon_was_away_is_forgotten(admin: Administrator) -> None:
    network = await admin.raise_network(LAB)
    guest = await admin.add_guest("lab")
    admin.site.daemon.kill()
    admin.site.host.run("ip", "link", "delete", guest.device)
    admin.site.daemon.start()
    await eventually(lambda: _has_no_ports(admin, network), "the port is forgotten")


async def _has_no_ports(admin: Administrator, network: str) -> bool:
    return await admin.get(network, NETWORK, "Ports") == []


async def killed_during(admin: Administrator, network: str, member: str, delay: float) -> None:
    """Kill the daemon ``delay`` seconds into a call, and start it again."""
    call = asyncio.ensure_future(admin.call(network, NETWORK, member))
    await asyncio.sleep(delay)
    admin.site.daemon.kill()
    with suppress(Refused):  # or it had succeeded before
        await call
    admin.site.daemon.start()


async def test_a_start_cut_short_is_completed_or_leaves_nothing(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(LAB)
    whole = site.realised("virbr0")
    await admin.stop(network)
    for step in range(ROUNDS):
        await killed_during(admin, network, "Start", step * 0.0015)
        if await admin.state(network) == "active":
            assert site.realised("virbr0") == whole
            assert site.dnsmasqs() == [site.dnsmasq(network)]
            await admin.stop(network)
        else:
            assert await admin.state(network) == "inactive"
        assert not site.leftovers()


async def test_a_stop_cut_short_is_finished_or_did_not_begin(admin: Administrator) -> None:
    site = admin.site
    network = await admin.define_network(DOCUMENT)
    for step in range(ROUNDS):
        await admin.start(network)
        guest = await admin.add_guest("lab", "192.168.77.10/24", name=f"guest{step}")
        await killed_during(admin, network, "Stop", step * 0.005)
        if await admin.state(network) == "active":
            assert site.dnsmasqs() == [site.dnsmasq(network)]
            assert guest.device not in site.devices() or guest.ping("192.168.77.1")
            await admin.stop(network)
        else:
            assert await admin.state(network) == "inactive"
        assert not site.leftovers()


async def test_an_attachment_cut_short_leaves_a_port_that_works_or_none(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(LAB)
    for step in range(ROUNDS // 2):
        inside = admin.vacant_guest(f"guest{step}")
        call = asyncio.ensure_future(admin.attach("lab", {"kind": "veth", "netns": inside.path}))
        await asyncio.sleep(step * 0.003)
        site.daemon.kill()
        with suppress(Refused):
            await call
        site.daemon.start()
        ports = await admin.get(network, NETWORK, "Ports")
        devices = {await admin.get(port, "org.vnetd1.Port", "Device") for port in ports}
        assert site.devices() == {"virbr0", *devices}
        for device in devices:
            assert (site.host.link(device) or {}).get("master") == "virbr0"
        for port in ports:
            await admin.call(port, "org.vnetd1.Port", "Detach")


async def test_a_device_made_but_not_yet_tagged_when_the_daemon_died_is_taken_over(admin: Administrator) -> None:
    site = admin.site
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", "192.168.77.10/24")
    whole = site.realised("virbr0")
    site.daemon.kill()
    for device in ("virbr0", guest.device):
        site.host.run("ip", "link", "set", device, "alias", "")
    site.daemon.start()
    assert site.realised("virbr0") == whole


async def test_a_strangers_device_of_the_same_name_is_left_alone(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(LAB)
    site.daemon.kill()
    site.host.run("ip", "link", "delete", "virbr0")
    site.host.run("ip", "link", "add", "virbr0", "type", "bridge")
    try:
        site.daemon.start()
        assert not site.host.addresses("virbr0")
        assert await admin.state(network) == "degraded"
        assert "virbr0" in str(await admin.get(network, NETWORK, "Problems"))
    finally:
        site.host.run("ip", "link", "delete", "virbr0")
    await eventually(lambda: site.host.addresses("virbr0"), "the network takes its place")


async def test_autostart_happens_once_a_boot(admin: Administrator) -> None:
    site = admin.site
    network = await admin.define_network(DOCUMENT)
    await admin.call(network, "org.freedesktop.DBus.Properties", "Set", "ssv", NETWORK, "Autostart", variant(True))
    restart(site)
    assert await admin.state(network) == "inactive"
    site.daemon.stop()
    shutil.rmtree(site.root / "run")  # as a boot does
    site.daemon.start()
    assert await admin.state(network) == "active"
    await admin.stop(network)
    restart(site)
    assert await admin.state(network) == "inactive"
    assert await admin.get(network, NETWORK, "Autostart") is True


async def test_a_transient_network_outlives_the_daemon_and_goes_when_it_is_stopped(admin: Administrator) -> None:
    network = str(await admin.call("/org/vnetd1", "org.vnetd1.Manager", "CreateNetwork", "sa{sv}", DOCUMENT, {}))
    guest = await admin.add_guest("lab", "192.168.77.10/24", gateway=("192.168.77.1",))
    restart(admin.site)
    assert await admin.state(network) == "active"
    assert await admin.get(network, NETWORK, "Persistent") is False
    assert wait_until(lambda: guest.ping(admin.site.outside.ipv4), "the guest reaches the outside")
    await admin.stop(network)
    assert await admin.networks() == {}


async def test_a_restart_heals_on(admin: Administrator) -> None:
    network = await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", "192.168.77.10/24", gateway=("192.168.77.1",))
    restart(admin.site)
    healed = await admin.listen("Healed", network)
    admin.site.host.run("ip", "link", "delete", "virbr0")
    await eventually(lambda: not healed.empty(), "the bridge heals")
    assert wait_until(lambda: guest.ping(admin.site.outside.ipv4), "the guest reaches the outside")


def rule_handles(site: Site) -> set[tuple[str, str, int]]:
    """What the kernel numbers rules by: a rule that is written again gets another number."""
    rules = [entry["rule"] for entry in site.host.nft() if "rule" in entry]
    return {(rule["table"], rule["chain"], rule["handle"]) for rule in rules}


async def test_a_restart_writes_no_rule_again(admin: Administrator) -> None:
    """Also none that libnftables lists otherwise than it was written."""
    matches = "<icmp type='3' code='1'/>", "<tcp match='no' srcipaddr='10.0.0.1' dstipaddr='10.0.0.2'/>", "<udp/>"
    rules = "".join(f"<rule action='drop' direction='in'>{match}</rule>" for match in matches)
    await admin.define_filter(f"<filter name='varied'>{rules}</filter>")
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab")
    await admin.call(guest.port, "org.vnetd1.Port", "SetFilter", "sa{sv}", "varied", {})
    before = rule_handles(admin.site)
    assert before
    restart(admin.site)
    assert rule_handles(admin.site) == before
