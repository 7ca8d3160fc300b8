"""Guests whose addresses are learned, on a host in memory: who must be filtered, and what packets change."""

import time
from typing import Any

import pytest
from support.dhcp_packets import MAC, SERVER, dhcp
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, Running, defined, lab, running
from support.memory_host import MemoryHost, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Denied, Invalid, Unsupported
from vnetd.service.views import Attached, Caller

USER = Caller(1000, name=":1.2")
ONE, TWO = "192.168.77.50", "192.168.77.51"
TAP: dict[str, Any] = {"kind": "tap", "mac": MAC, "duplicate_mac": True}
DHCP = {"filter": "clean-traffic", "parameter.CTRL_IP_LEARNING": "dhcp"}


async def plug(daemon: Running, caller: Caller = ROOT, **spec: Any) -> Attached:
    """A guest in a network that runs."""
    if not daemon.services.networks.list():
        network = await defined(daemon, lab())
        await daemon.services.networks.start(ROOT, network.uuid)
    return await daemon.services.ports.attach(caller, "lab", {**TAP, **spec})


def admitted(host: MemoryHost, device: str) -> set[str]:
    """IPv4 addresses the rules know as the device's own."""
    return {
        key[1]
        for name, members in host.rules.tables["bridge"].elements.items()
        if name.startswith("values_")
        for key in members
        if key[0] == device and key[1].startswith("192.168.")
    }


@hastily
async def test_who_is_not_root_gets_the_guests_filter_unless_they_name_one() -> None:
    async with running(host_with_uplink()) as daemon:
        assert (await plug(daemon, USER)).port.filter == "vnetd-guest"
        assert (await plug(daemon, USER, filter="no-mac-spoofing")).port.filter == "no-mac-spoofing"
        assert (await plug(daemon, ROOT)).port.filter == ""
        assert (await plug(daemon, ROOT, filter="")).port.filter == ""
        opened = await daemon.services.ports.open_tap(USER, "lab", {})
        await daemon.host.tap_devices.close(opened.fds)
        assert opened.port.filter == "vnetd-guest"


@hastily
async def test_who_is_not_root_cannot_have_no_filter() -> None:
    async with running(host_with_uplink()) as daemon:
        port = (await plug(daemon, USER)).port
        before = daemon.host.state()
        with pytest.raises(Denied, match=r"only root may have a port without filter.*uid 1000"):
            await plug(daemon, USER, filter="")
        with pytest.raises(Denied):
            await daemon.services.ports.set_filter(USER, port.uuid, "", {})
        assert daemon.host.state() == before
        assert daemon.services.ports.get(port.device).filter == "vnetd-guest"
        await daemon.services.ports.set_filter(ROOT, port.uuid, "", {})
        assert daemon.services.ports.get(port.device).filter == ""


@hastily
async def test_leases_open_the_filter_for_their_addresses_and_releases_close_it() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        device = (await plug(daemon, **DHCP)).port.device
        assert admitted(host, device) == set()
        for address in (ONE, TWO):
            host.packets.show(dhcp(device, 5, address))
        await eventually(lambda: admitted(host, device) == {ONE, TWO}, "both leases are in force")
        host.packets.show(dhcp(device, 7, ONE))
        await eventually(lambda: admitted(host, device) == {TWO}, "the release is")
        host.packets.show(dhcp(device, 7, TWO))
        await eventually(lambda: admitted(host, device) == set(), "nothing but DHCP passes again")


@hastily
async def test_an_expired_lease_is_over() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        device = (await plug(daemon, **DHCP)).port.device
        host.packets.show(dhcp(device, 5, ONE, seconds=1))
        await eventually(lambda: admitted(host, device) == {ONE}, "the lease is in force")
        await eventually(lambda: admitted(host, device) == set(), "it has expired")


@hastily
async def test_a_lease_the_networks_own_server_has_on_record_does_not_expire() -> None:
    """Its renewal may have been missed."""
    host = host_with_uplink()
    async with running(host) as daemon:
        attached = await plug(daemon, **DHCP)
        device, asked = attached.port.device, len(host.calls)
        host.processes.kept[str(attached.port.network)] = {"leases": f"{int(time.time()) + 3600} {MAC} {ONE} * *\n"}
        host.packets.show(dhcp(device, 5, ONE, seconds=1))
        await eventually(lambda: any(one.verb == "dnsmasq.leases" for one in host.calls[asked:]), "the server is asked")
        await eventually(lambda: admitted(host, device) == {ONE}, "the lease is in force")
        left = daemon.services.filters.learning.addresses(f"port:{attached.port.uuid}")
        assert [str(one.address) for one in left] == [ONE]


@hastily
async def test_an_answer_of_another_filtered_guest_teaches_nothing_unless_it_is_named_as_server() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        device = (await plug(daemon, **DHCP)).port.device
        rogue = (await plug(daemon, filter="no-mac-spoofing", mac="52:54:00:00:00:66")).port.device
        named = (await plug(daemon, **DHCP, **{"parameter.DHCPSERVER": SERVER})).port.device
        for one in (device, named):
            host.packets.show(dhcp(one, 5, ONE, ingress=rogue))
        await eventually(lambda: admitted(host, named) == {ONE}, "the server that was named counts")
        assert admitted(host, device) == set()


@hastily
async def test_what_was_learned_is_in_force_after_a_restart_and_gone_with_its_port() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        attached = await plug(daemon, **DHCP)
        host.packets.show(dhcp(attached.port.device, 5, ONE))
        await eventually(lambda: admitted(host, attached.port.device) == {ONE}, "the lease is in force")
        before = host.state()
    async with running(host) as daemon:
        assert host.state() == before
        host.packets.show(dhcp(attached.port.device, 5, TWO))
        await eventually(lambda: admitted(host, attached.port.device) == {ONE, TWO}, "learning goes on")
        await daemon.services.ports.detach(ROOT, attached.port.uuid)
        await eventually(lambda: not host.files.files.get("run/learned"), "the record is gone")


@hastily
async def test_records_nobody_can_read_or_that_nobody_needs_do_no_harm() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await plug(daemon, **DHCP)
        await host.files.save("run/learned", "1", {"owner": 3})
        await host.files.save("run/learned", "2", {"owner": "port:2", "mac": MAC, "addresses": []})
    async with running(host) as daemon:
        assert len(daemon.services.ports.list()) == 1
        assert "2" not in host.files.files["run/learned"]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ({"filter": "clean-traffic", "parameter.CTRL_IP_LEARNING": "none"}, Invalid, "IP"),
        ({"filter": "clean-traffic", "parameter.CTRL_IP_LEARNING": "arp"}, Invalid, "none, any and dhcp"),
        ({"filter": "clean-traffic-gateway"}, Invalid, "GATEWAY_MAC"),
        ({"filter": "vnetd-guest", "parameter.CTRL_IP_LEARNING": "none"}, Invalid, "IPV6"),
    ],
)
@hastily
async def test_what_cannot_be_learned_is_refused_and_nothing_is_left(
    spec: dict[str, str], error: type[Exception], words: str
) -> None:
    async with running(host_with_uplink()) as daemon:
        await plug(daemon)
        before = daemon.host.state()
        with pytest.raises(error, match=words):
            await plug(daemon, **spec)
        assert daemon.host.state() == before


@hastily
async def test_where_packets_cannot_be_seen_learning_is_refused_by_name() -> None:
    host = host_with_uplink()
    host.packets.problem = "packet log group 30318 is refused: Device or resource busy"
    async with running(host) as daemon:
        words = (
            r"^filter .* without its guest's addresses needs packets that rules log.*: packet log group.*; give them"
        )
        with pytest.raises(Unsupported, match=words):
            await plug(daemon, **DHCP)
        assert (await plug(daemon, filter="clean-traffic", **{"parameter.IP": ONE})).port.filter == "clean-traffic"


@hastily
async def test_a_binding_without_mac_cannot_learn() -> None:
    async with running(host_with_uplink()) as daemon:
        with pytest.raises(Invalid, match="give MAC"):
            await daemon.services.filters.bind(ROOT, "tap9", "no-ip-spoofing", {})
