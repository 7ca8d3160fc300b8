"""Links on the real kernel: what only it can show."""

import array
import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from support.links import bridge, deletion_of, names
from support.netns import Lab, Namespace, run

from vnetd.linux import direct
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.links import NameLookup, read_group
from vnetd.linux.netlink import ReadSocket
from vnetd.model.errors import HostError
from vnetd.plan.kernel import (
    AddAddress,
    CreateBridge,
    CreateVeth,
    DeleteLink,
    DisableTxChecksum,
    Operation,
    SetLink,
    WriteSysctl,
)
from vnetd.plan.links import HostRoute


@pytest.fixture
def here(inside_host: Namespace) -> Namespace:
    """The namespace the test runs in, under a name that ``ip`` knows."""
    return inside_host


@pytest.fixture
async def kernel(here: Namespace) -> AsyncIterator[LinuxKernel]:
    made = await LinuxKernel.start()
    yield made
    await made.close()


async def test_links_look_to_us_as_they_do_to_ip(here: Namespace, kernel: LinuxKernel) -> None:
    run("ip", "-netns", here.name, "link", "add", "tun9", "type", "veth", "peer", "name", "tun8")
    await kernel.apply([bridge(), SetLink("virbr0", up=True), SetLink("tun9", master="virbr0", isolated=True, up=True)])
    for name in ("virbr0", "tun9", "lo"):
        seen, link = here.link(name), await kernel.link(name)
        assert seen is not None and link is not None
        assert (link.index, link.mac, link.mtu) == (seen["ifindex"], seen["address"], seen["mtu"])
        assert link.up == ("UP" in seen["flags"])
        assert link.alias == seen.get("ifalias", "")
        assert link.kind == seen.get("linkinfo", {}).get("info_kind", "")
    port = here.link("tun9")
    assert port is not None and port["linkinfo"]["info_slave_data"]["isolated"] is True
    shown = here.link("virbr0")
    assert shown is not None and shown["linkinfo"]["info_data"]["stp_state"] == 0
    assert await names(kernel) == {"lo", "virbr0", "tun9", "tun8"}


@pytest.mark.parametrize("mtu", [68, 1400, 1500, 9000, 65535])
async def test_a_bridge_keeps_its_mtu_whatever_its_ports_have(kernel: LinuxKernel, mtu: int) -> None:
    await kernel.apply([bridge(mtu=mtu)])
    run("ip", "link", "add", "port", "mtu", "1450", "type", "veth", "peer", "name", "peer")
    await kernel.apply([SetLink("port", master="virbr0")])
    link = await kernel.link("virbr0")
    assert link is not None and link.mtu == mtu


async def test_a_bridge_that_cannot_be_finished_is_not_left_behind(kernel: LinuxKernel) -> None:
    too_long = CreateBridge("virbr0", "52:54:00:00:00:01", 1500, False, 0, "x" * 300)
    with pytest.raises(HostError, match="create bridge virbr0"):
        await kernel.apply([too_long])
    assert await names(kernel) == {"lo"}


async def test_ipv6_addresses_are_usable_at_once_and_ipv4_ones_have_their_broadcast(
    here: Namespace, kernel: LinuxKernel
) -> None:
    addresses = ("192.0.2.1/24", "198.51.100.1/31", "203.0.113.1/32", "2001:db8::1/64", "fe80::1/64")
    adding: list[Operation] = [AddAddress("virbr0", ip_interface(address)) for address in addresses]
    await kernel.apply([bridge(), *adding, SetLink("virbr0", up=True)])
    [shown] = here.ip("address", "show", "dev", "virbr0")
    found = {f"{entry['local']}/{entry['prefixlen']}": entry for entry in shown["addr_info"]}
    assert set(addresses) <= set(found)
    assert found["192.0.2.1/24"]["broadcast"] == "192.0.2.255"
    assert "broadcast" not in found["198.51.100.1/31"] and "broadcast" not in found["203.0.113.1/32"]
    assert found["2001:db8::1/64"]["nodad"] is True and "tentative" not in found["2001:db8::1/64"]
    view = await kernel.view("virbr0")
    assert view is not None and {ip_interface(address) for address in addresses} <= view.addresses


async def test_a_veth_reaches_into_another_namespace(kernel: LinuxKernel, lab: Lab) -> None:
    guest = lab.namespace("guest")
    fd = os.open(guest.path, os.O_RDONLY | os.O_CLOEXEC)
    await kernel.apply([CreateVeth("vport", "52:54:00:00:00:01", "eth0", "52:54:00:00:00:02", fd, 1400, "vnetd:port")])
    os.close(fd)
    near, far = await kernel.link("vport"), guest.link("eth0")
    assert near is not None and far is not None
    assert (near.mac, near.mtu, near.up, near.alias) == ("52:54:00:00:00:01", 1400, False, "vnetd:port")
    assert (far["address"], far["mtu"], "UP" in far["flags"]) == ("52:54:00:00:00:02", 1400, False)
    await kernel.apply([DeleteLink("vport", "vnetd:port")])
    assert guest.link("eth0") is None


async def test_a_veth_that_finds_its_name_taken_over_there_is_not_made_here(kernel: LinuxKernel, lab: Lab) -> None:
    guest = lab.namespace("guest")
    guest.run("ip", "link", "add", "eth0", "type", "bridge")
    fd = os.open(guest.path, os.O_RDONLY | os.O_CLOEXEC)
    with pytest.raises(HostError, match="create veth vport, eth0 in its namespace: File exists"):
        await kernel.apply([CreateVeth("vport", "52:54:00:00:00:01", "eth0", "52:54:00:00:00:02", fd, 1400, "x")])
    os.close(fd)
    assert await kernel.link("vport") is None


async def test_transmit_checksums_are_off_afterwards(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge()])
    assert _tx_checksum("virbr0")
    await kernel.apply([DisableTxChecksum("virbr0")])
    assert not _tx_checksum("virbr0")


def _tx_checksum(name: str) -> bool:
    """The answer to ETHTOOL_GTXCSUM."""
    value = array.array("I", [0x16, 0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8946, struct.pack("16sQ16x", name.encode(), value.buffer_info()[0]))
    return bool(value[1])


async def test_routes_of_other_tables_and_several_next_hops_are_the_hosts(kernel: LinuxKernel) -> None:
    second = bridge(1)
    addresses = [("virbr0", "192.0.2.1/24"), ("virbr1", "198.51.100.1/24")]
    adding: list[Operation] = [AddAddress(name, ip_interface(address)) for name, address in addresses]
    await kernel.apply([bridge(), second, *adding, SetLink("virbr0", up=True), SetLink("virbr1", up=True)])
    run("ip", "route", "add", "10.1.0.0/16", "via", "192.0.2.9", "table", "1000")
    run("ip", "route", "add", "10.2.0.0/16", "nexthop", "via", "192.0.2.9", "nexthop", "via", "198.51.100.9")
    run("ip", "route", "add", "10.3.0.0/16", "via", "inet6", "fe80::9", "dev", "virbr0")
    run("ip", "route", "add", "blackhole", "10.4.0.0/16")
    routes = {route for route in await kernel.host_routes() if str(route.destination).startswith("10.")}
    assert routes == {
        HostRoute(ip_network("10.1.0.0/16"), "virbr0", 1000, 3, ip_address("192.0.2.9")),
        HostRoute(ip_network("10.2.0.0/16"), "virbr0", 254, 3, ip_address("192.0.2.9")),
        HostRoute(ip_network("10.2.0.0/16"), "virbr1", 254, 3, ip_address("198.51.100.9")),
        HostRoute(ip_network("10.3.0.0/16"), "virbr0", 254, 3, ip_address("fe80::9")),
    }
    view = await kernel.view("virbr0")
    assert view is not None and {str(route.destination) for route in view.routes} == {"10.3.0.0/16"}


async def test_a_bridge_that_takes_no_more_ports_is_named(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge()])
    ports = "".join(f"link add port{number} master virbr0 type ifb\n" for number in range(direct.MOST_PORTS))
    run("ip", "-batch", "-", stdin=ports)
    run("ip", "tuntap", "add", "tap0", "mode", "tap")
    with pytest.raises(HostError, match="plug in tap0: virbr0 has as many ports as Linux gives a bridge: 1023"):
        await kernel.apply([SetLink("tap0", master="virbr0", up=True)])


async def test_a_cancelled_creation_is_whole_or_not_at_all(kernel: LinuxKernel) -> None:
    for _ in range(10):
        creating = asyncio.create_task(kernel.apply([bridge(), SetLink("virbr0", up=True)]))
        await asyncio.sleep(0)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        link = await kernel.link("virbr0")
        assert link is None or (link.up and link.alias == "vnetd:0")
        await kernel.apply([deletion_of(0)])


async def test_a_listing_that_was_disturbed_is_made_again(kernel: LinuxKernel) -> None:
    """Links come and go all the time here; those that stay must be in every list."""
    staying = {f"virbr{number}" for number in range(100)}
    await kernel.apply([bridge(number) for number in range(100)])
    stop = asyncio.Event()

    async def disturb() -> None:
        while not stop.is_set():
            await asyncio.to_thread(run, "ip", "link", "add", "f0", "type", "veth", "peer", "name", "f1")
            await asyncio.to_thread(run, "ip", "link", "delete", "f0")

    disturbing = asyncio.create_task(disturb())
    for _ in range(30):
        assert staying <= await names(kernel)
    stop.set()
    await disturbing


async def test_names_that_are_no_paths_stay_below_proc_sys(kernel: LinuxKernel) -> None:
    outside = (
        ("..", "version"),
        ("net", "..", "..", "version"),
        ("", "etc", "hostname"),
        ("net/ipv4", "ip_forward"),
        (),
    )
    for path in outside:
        assert await kernel.sysctls([path]) == {path: None}
        with pytest.raises(HostError, match="No such file"):
            await kernel.apply([WriteSysctl(path, "1")])


async def test_an_interface_name_may_hold_dots(kernel: LinuxKernel) -> None:
    path = ("net", "ipv4", "conf", "br.1", "rp_filter")
    await kernel.apply([CreateBridge("br.1", "52:54:00:00:00:01", 1500, False, 0, "x"), WriteSysctl(path, "2")])
    assert await kernel.sysctls([path]) == {path: "2"}


async def test_a_value_the_kernel_refuses_is_named(kernel: LinuxKernel) -> None:
    with pytest.raises(HostError, match="write sysctl net/ipv4/ip_forward: Invalid argument"):
        await kernel.apply([WriteSysctl(("net", "ipv4", "ip_forward"), "maybe")])


async def test_the_members_of_a_group_are_found_by_index(here: Namespace) -> None:
    run("ip", "link", "add", "f0", "group", "77", "type", "bridge")
    sock = ReadSocket()
    assert read_group(sock, 77) == {socket.if_nametoindex("f0")}
    assert read_group(sock, 78) == set()
    sock.close()


async def test_an_alternative_name_is_taken_too_and_tells_the_links_mtu() -> None:
    kernel = await LinuxKernel.start()
    run("ip", "link", "add", "dummy7", "mtu", "1400", "type", "bridge")
    run("ip", "link", "property", "add", "dev", "dummy7", "altname", "other7")
    assert kernel.is_taken("dummy7")
    assert kernel.is_taken("other7")
    assert kernel.mtu("other7") == 1400
    assert not kernel.is_taken("dummy")  # nor is a prefix
    await kernel.close()


async def test_names_are_looked_up_one_after_the_other_whatever_was_asked_before() -> None:
    run("ip", "link", "add", "dummy7", "mtu", "1400", "type", "bridge")
    run("ip", "link", "add", "dummy8", "mtu", "1280", "type", "bridge")
    run("ip", "link", "property", "add", "dev", "dummy8", "altname", "other8")
    names = NameLookup()
    for name, mtu in (("dummy7", 1400), ("dummy8", 1280), ("none7", None), ("dummy7", 1400), ("other8", 1280)):
        assert (names.is_taken(name), names.mtu(name)) == (mtu is not None, mtu)
    run("ip", "link", "delete", "dummy8")  # the one that was asked for last
    assert not names.is_taken("other8") and names.mtu("dummy8") is None
    assert names.mtu("dummy7") == 1400
    run("ip", "link", "add", "dummy8", "mtu", "1300", "type", "bridge")
    assert names.mtu("dummy8") == 1300
    names.close()


def test_a_look_up_that_was_never_used_has_nothing_to_close() -> None:
    before = os.listdir("/proc/self/fd")
    names = NameLookup()
    assert os.listdir("/proc/self/fd") == before
    names.close()
    assert os.listdir("/proc/self/fd") == before
