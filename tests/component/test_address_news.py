"""Other addresses of a port's guest are told, all of them, and to nobody whose guest has the same as before."""

import asyncio
from dataclasses import replace
from typing import Any

from support.dhcp_packets import MAC, dhcp
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, Running, defined, lab, running
from support.memory_host import host_with_uplink
from support.presence_packets import SOLICITATION, arp, neighbour
from support.waiting import eventually

from vnetd.service.views import AddressesChanged, PortView

DHCP = {"filter": "clean-traffic", "parameter.CTRL_IP_LEARNING": "dhcp"}
OTHER = "52:54:00:00:00:62"
LEASE = "4102444800 " + MAC + " 192.168.77.10 web1 *\n"
RENEWED = LEASE.replace("4102444800", "4102448400")


async def plugged(daemon: Running, mac: str = MAC, **spec: Any) -> PortView:
    """A guest in a network that runs."""
    if "lab" not in {one.name for one in daemon.services.networks.list()}:
        network = await defined(daemon, lab())
        await daemon.services.networks.start(ROOT, network.uuid)
    return (await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap", "mac": mac, **spec})).port


async def taught(daemon: Running) -> PortView:
    """A guest whose filter has learned 192.168.77.50 of a DHCP server's answer, and that was told."""
    port = await plugged(daemon, **DHCP)
    daemon.host.packets.show(dhcp(port.device, 5, "192.168.77.50"))
    await eventually(lambda: told(daemon, port), "it is told")
    return port


def told(daemon: Running, port: PortView) -> list[list[tuple[str, str]]]:
    """Address and source of what was told of this port, a list each time."""
    return [
        [(one.address, one.source) for one in notice.addresses]
        for notice in daemon.told(AddressesChanged)
        if (notice.port, notice.name) == (port.uuid, port.device)
    ]


@hastily
async def test_a_lease_that_comes_and_goes_is_told_of_its_port_only_and_a_renewal_of_none() -> None:
    async with running(host_with_uplink()) as daemon:
        mine, theirs = await plugged(daemon), await plugged(daemon, OTHER)
        for text in (LEASE, RENEWED, LEASE + "4102444800 52:54:00:00:00:99 192.168.77.11 * *\n"):
            daemon.host.processes.write(str(mine.network), "leases", text)
            await daemon.looked()
            await eventually(lambda: told(daemon, mine), "it is told")
        daemon.host.processes.write(str(mine.network), "leases", "")
        await eventually(lambda: len(told(daemon, mine)) > 1, "its end is told")
        assert told(daemon, mine) == [[("192.168.77.10", "lease")], []]
        assert told(daemon, theirs) == []


@hastily
async def test_what_a_filter_learns_and_forgets_is_listed_and_told() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await taught(daemon)
        host.packets.show(dhcp(port.device, 5, "192.168.77.50", seconds=7200))
        await daemon.looked()
        (listed,) = await daemon.services.ports.addresses(port.uuid)
        assert (listed.address, listed.family, listed.source) == ("192.168.77.50", "ipv4", "learned")
        host.packets.show(dhcp(port.device, 7, "192.168.77.50"))
        await eventually(lambda: len(told(daemon, port)) > 1, "it is told as well")
        assert told(daemon, port) == [[("192.168.77.50", "learned")], []]
        assert await daemon.services.ports.addresses(port.uuid) == ()


@hastily
async def test_what_was_learned_goes_with_the_filter_and_that_is_told() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await taught(daemon)
        await daemon.services.ports.set_filter(ROOT, port.uuid, "", {})
        await eventually(lambda: len(told(daemon, port)) > 1, "the filter is gone, and what it knew")
        assert told(daemon, port) == [[("192.168.77.50", "learned")], []]


@hastily
async def test_nothing_is_told_of_a_port_that_is_gone() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await taught(daemon)
        await daemon.services.ports.detach(ROOT, port.uuid)
        daemon.host.processes.write(str(port.network), "leases", LEASE)
        await daemon.looked()
        assert len(told(daemon, port)) == 1


def snooped(text: str) -> tuple[str, str]:
    return text, "snooped"


@hastily
async def test_what_a_guest_is_seen_to_use_is_listed_and_told_and_ends_after_ten_minutes() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await plugged(daemon)
        host.packets.show(arp(port.device, MAC, "10.9.9.9"))
        await eventually(lambda: told(daemon, port), "it is told")
        await asyncio.sleep(500)
        host.packets.show(neighbour(port.device, MAC, SOLICITATION, "fd77::9", "fd77::1"))
        await eventually(lambda: len(told(daemon, port)) > 1, "the second is told")
        listed = [(one.address, one.family, one.age // 10) for one in await daemon.services.ports.addresses(port.uuid)]
        assert listed == [("fd77::9", "ipv6", 0), ("10.9.9.9", "ipv4", 50)]
        host.packets.show(neighbour(port.device, MAC, SOLICITATION, "fd77::9", "fd77::1"))
        await asyncio.sleep(200)
        assert [one.address for one in await daemon.services.ports.addresses(port.uuid)] == ["fd77::9"]
        await asyncio.sleep(500)
        first, second = snooped("10.9.9.9"), snooped("fd77::9")
        assert told(daemon, port) == [[first], [second, first], [second], []]


@hastily
async def test_who_goes_on_using_an_address_keeps_it_and_who_gives_it_back_loses_it_at_once() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await plugged(daemon)
        for _ in range(5):
            host.packets.show(arp(port.device, MAC, "192.168.77.50"))
            await asyncio.sleep(400)
            (one,) = await daemon.services.ports.addresses(port.uuid)
            assert 399 <= one.age <= 401
        host.packets.show(replace(dhcp(port.device, 7, "192.168.77.50"), snooped=True))
        await eventually(lambda: len(told(daemon, port)) > 1, "it is told")
        assert told(daemon, port) == [[snooped("192.168.77.50")], []]


@hastily
async def test_a_guest_counts_under_its_own_mac_address_only_and_keeps_no_more_than_64() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        mine, theirs = await plugged(daemon), await plugged(daemon, OTHER)
        host.packets.show(arp(mine.device, OTHER, "10.9.9.9"))
        host.packets.show(arp(mine.device, MAC, "10.9.9.9", says=OTHER))
        host.packets.show(replace(arp(mine.device, MAC, "10.9.9.9"), towards_guest=True))
        host.packets.show(arp("eth7", MAC, "10.9.9.9"))
        for number in range(1, 101):
            host.packets.show(arp(mine.device, MAC, f"10.0.0.{number}"))
        ports = daemon.services.ports
        assert {one.address for one in await ports.addresses(mine.uuid)} == {f"10.0.0.{n}" for n in range(37, 101)}
        assert await ports.addresses(theirs.uuid) == ()


@hastily
async def test_what_is_snooped_teaches_a_filter_nothing_and_introduces_nobody() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await plugged(daemon, filter="clean-traffic")
        unseen = await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap", "learn_mac": True})
        before = daemon.host.state()
        for device in (port.device, unseen.port.device):
            host.packets.show(arp(device, MAC, "192.168.77.50"))
            host.packets.show(replace(dhcp(device, 5, "192.168.77.51"), snooped=True))
        await daemon.looked()
        assert daemon.host.state() == before
        assert daemon.services.ports.get(unseen.port.device).mac == ""
        assert [one.source for one in await daemon.services.ports.addresses(port.uuid)] == ["snooped"]


@hastily
async def test_a_port_of_an_open_network_adds_no_rule_and_one_that_moves_is_snooped_where_it_goes() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon, lab("open", 78, mode="open"))
        await daemon.services.networks.start(ROOT, network.uuid)
        port = (await daemon.services.ports.attach(ROOT, "open", {"kind": "tap", "mac": MAC})).port
        assert not host.ruleset()
        await plugged(daemon, OTHER)
        await daemon.services.ports.move(ROOT, port.uuid, "lab")
        assert (port.device,) in host.rules.tables["bridge"].elements["snooped"]
        await daemon.services.ports.move(ROOT, port.uuid, "open")
        assert (port.device,) not in host.rules.tables["bridge"].elements["snooped"]


@hastily
async def test_ports_of_bridges_are_snooped_where_the_host_can_and_one_chain_serves_all() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        ports = [await plugged(daemon), await plugged(daemon, OTHER, isolated=True)]
        table = host.rules.tables["bridge"]
        assert set(table.elements["snooped"]) == {(port.device,) for port in ports}
        for port in ports:
            await daemon.services.ports.detach(ROOT, port.uuid)
        assert not [one for one in host.rules.tables.values() if one.elements.get("snooped")]
        host.packets.problem = "packet log group 7 is refused"
        await plugged(daemon)
        assert not [one for one in host.rules.tables.values() if "snooped" in one.elements]
