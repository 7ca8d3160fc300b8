"""What every ``host.Kernel`` does: the same statements about the one in memory and the real one."""

import errno
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from support.memory_kernel import MemoryKernel
from support.policy_rules import rule
from support.waiting import eventually

from vnetd.host.events import AddressEvent, HostEvent, LinkEvent, RouteEvent, SysctlEvent
from vnetd.host.protocols import Kernel
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.rtnl_events import RtnlEvents
from vnetd.model.errors import HostError
from vnetd.plan.kernel import (
    AddAddress,
    AddConnectedRoute,
    AddRoute,
    CreateBridge,
    CreateVeth,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    DisableTxChecksum,
    GiveRule,
    Operation,
    SetLink,
    TakeRule,
    WriteSysctl,
)
from vnetd.plan.links import BridgeState, HostRoute, KernelRoute

OURS = "vnetd:network:1"
BRIDGE = CreateBridge("virbr0", "52:54:00:12:34:56", 1500, stp=False, forward_delay=0, alias=OURS)
V4, V6 = ip_interface("192.168.77.1/24"), ip_interface("fd77::1/64")
STATIC4 = KernelRoute(ip_network("10.20.0.0/16"), ip_address("192.168.77.2"))
STATIC6 = KernelRoute(ip_network("fd20::/48"), ip_address("fd77::2"), 1024)
ADDRESSED = (BRIDGE, AddAddress("virbr0", V4), AddAddress("virbr0", V6), SetLink("virbr0", up=True))
ROUTED = (*ADDRESSED, AddRoute("virbr0", STATIC4), AddRoute("virbr0", STATIC6))
ACCEPT_RA = ("net", "ipv6", "conf", "virbr0", "accept_ra")
IP_FORWARD = ("net", "ipv4", "ip_forward")


@dataclass
class Tried:
    """A kernel and the events it has reported."""

    kernel: Kernel
    events: list[HostEvent] = field(default_factory=list)

    async def reports(self, expected: Callable[[HostEvent], Any]) -> None:
        await eventually(lambda: any(expected(event) for event in self.events), "event")

    async def index(self, name: str = "virbr0") -> int:
        link = await self.kernel.link(name)
        assert link is not None
        return link.index


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def tried(request: pytest.FixtureRequest) -> AsyncIterator[Tried]:
    if request.param == "memory":
        memory = MemoryKernel()
        tried = Tried(memory)
        memory.subscribe(tried.events.append)
        yield tried
        return
    linux = await LinuxKernel.start()
    tried = Tried(linux)
    events = RtnlEvents(tried.events.append)
    yield tried
    events.close()
    await linux.close()


@pytest.fixture
def kernel(tried: Tried) -> Kernel:
    return tried.kernel


async def refused(kernel: Kernel, *operations: Any) -> HostError:
    with pytest.raises(HostError) as refusal:
        await kernel.apply(operations)
    return refusal.value


async def test_a_link_that_does_not_exist_is_seen_as_none(kernel: Kernel) -> None:
    assert await kernel.link("virbr0") is None
    assert await kernel.view("virbr0") is None


async def test_a_new_bridge_has_all_it_was_asked_to_have_and_is_down(kernel: Kernel) -> None:
    await kernel.apply([replace(BRIDGE, mtu=1400, stp=True, forward_delay=200)])
    link = await kernel.link("virbr0")
    assert link is not None
    assert (link.name, link.kind, link.mac, link.mtu) == ("virbr0", "bridge", "52:54:00:12:34:56", 1400)
    assert (link.up, link.alias, link.master) == (False, OURS, 0)
    assert link.bridge == BridgeState(stp=True, forward_delay=200)


async def test_a_bridge_without_stp_may_have_no_forward_delay(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE])
    link = await kernel.link("virbr0")
    assert link is not None and link.bridge == BridgeState(stp=False, forward_delay=0)


async def test_a_name_that_is_taken_is_named_in_the_error(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE])
    error = await refused(kernel, BRIDGE)
    assert (error.errno, str(error)) == (errno.EEXIST, "create bridge virbr0: File exists")


async def test_operations_stop_at_the_first_that_fails(kernel: Kernel) -> None:
    error = await refused(kernel, BRIDGE, SetLink("nosuch", up=True), SetLink("virbr0", up=True))
    assert (error.errno, str(error)) == (errno.ENODEV, "set up of nosuch: No such device")
    link = await kernel.link("virbr0")
    assert link is not None and not link.up


async def test_every_property_of_a_link_can_be_changed(kernel: Kernel) -> None:
    changes = SetLink("virbr0", mac="52:54:00:65:43:21", mtu=9000, up=True, alias="x", stp=True, forward_delay=300)
    await kernel.apply([BRIDGE, changes])
    link = await kernel.link("virbr0")
    assert link is not None
    assert (link.mac, link.mtu, link.up, link.alias) == ("52:54:00:65:43:21", 9000, True, "x")
    assert link.bridge == BridgeState(stp=True, forward_delay=300)


async def test_a_change_leaves_alone_what_it_does_not_name(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE])
    before = await kernel.link("virbr0")
    await kernel.apply([SetLink("virbr0", mtu=1400)])
    assert before is not None and await kernel.link("virbr0") == replace(before, mtu=1400)


async def test_a_port_can_be_plugged_isolated_raised_and_taken_out(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE, *_veth()])
    await kernel.apply([SetLink("vport", master="virbr0", isolated=True, up=True)])
    port, bridge = await kernel.link("vport"), await kernel.link("virbr0")
    assert port is not None and bridge is not None
    assert (port.master, port.isolated, port.up) == (bridge.index, True, True)
    await kernel.apply([SetLink("vport", isolated=False)])
    port = await kernel.link("vport")
    assert port is not None and not port.isolated
    await kernel.apply([SetLink("vport", master="")])
    port = await kernel.link("vport")
    assert port is not None and port.master == 0


async def test_a_port_that_changes_its_bridge_is_isolated_no_more(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE, replace(BRIDGE, name="virbr1"), *_veth()])
    await kernel.apply([SetLink("vport", master="virbr0"), SetLink("vport", isolated=True)])
    await kernel.apply([SetLink("vport", master="virbr1")])
    link, bridge = await kernel.link("vport"), await kernel.link("virbr1")
    assert link is not None and bridge is not None and (link.master, link.isolated) == (bridge.index, False)


async def test_a_port_cannot_join_a_bridge_that_does_not_exist(kernel: Kernel) -> None:
    await kernel.apply(_veth())
    error = await refused(kernel, SetLink("vport", master="virbr0"))
    assert (error.errno, str(error)) == (errno.ENODEV, "set master of vport: No such device")


async def test_a_link_that_is_no_port_cannot_be_isolated(kernel: Kernel) -> None:
    await kernel.apply(_veth())
    assert (await refused(kernel, SetLink("vport", isolated=True))).errno == errno.EOPNOTSUPP


async def test_ports_outlive_their_bridge(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE, *_veth(), SetLink("vport", master="virbr0"), DeleteLink("virbr0", OURS)])
    port = await kernel.link("vport")
    assert port is not None and port.master == 0


async def test_addresses_of_both_families_are_seen(kernel: Kernel) -> None:
    await kernel.apply(ADDRESSED)
    view = await kernel.view("virbr0")
    assert view is not None and {V4, V6} <= view.addresses
    assert view.routes == frozenset()


async def test_an_address_can_be_added_once(kernel: Kernel) -> None:
    await kernel.apply(ADDRESSED)
    for address in (V4, V6):
        error = await refused(kernel, AddAddress("virbr0", address))
        assert (error.errno, str(error)) == (errno.EEXIST, f"add address {address} on virbr0: File exists")


async def test_an_address_needs_its_link(kernel: Kernel) -> None:
    error = await refused(kernel, AddAddress("virbr0", V4))
    assert (error.errno, str(error)) == (errno.ENODEV, "add address 192.168.77.1/24 on virbr0: No such device")


async def test_deleting_what_is_gone_already_is_no_error(kernel: Kernel) -> None:
    gone: list[Operation] = [
        *(DeleteAddress("virbr0", V4), DeleteAddress("virbr0", V6)),
        *(DeleteRoute("virbr0", STATIC4), DeleteRoute("virbr0", STATIC6)),
    ]
    await kernel.apply([*gone, DeleteLink("virbr0", OURS)])
    await kernel.apply([BRIDGE, SetLink("virbr0", up=True), *gone])


async def test_deleted_addresses_are_gone(kernel: Kernel) -> None:
    await kernel.apply([*ADDRESSED, DeleteAddress("virbr0", V4), DeleteAddress("virbr0", V6)])
    view = await kernel.view("virbr0")
    assert view is not None and not {V4, V6} & view.addresses


async def test_static_routes_are_seen_and_connected_ones_are_not(kernel: Kernel) -> None:
    await kernel.apply(ROUTED)
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {STATIC4, STATIC6}


@pytest.mark.parametrize("route", [STATIC4, STATIC6], ids=str)
async def test_a_route_keeps_its_metric(kernel: Kernel, route: KernelRoute) -> None:
    wanted = replace(route, metric=77)
    await kernel.apply([*ADDRESSED, AddRoute("virbr0", wanted)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {wanted}
    await kernel.apply([DeleteRoute("virbr0", wanted)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == frozenset()


async def test_an_ipv6_route_without_a_metric_gets_the_kernels(kernel: Kernel) -> None:
    without = replace(STATIC6, metric=0)
    await kernel.apply([*ADDRESSED, AddRoute("virbr0", without)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {STATIC6}
    await kernel.apply([DeleteRoute("virbr0", without)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == frozenset()


@pytest.mark.parametrize("destination", ["0.0.0.0/0", "::/0", "198.51.100.0/24", "2001:db8::/32"])
async def test_a_route_may_have_no_gateway_and_be_the_default(kernel: Kernel, destination: str) -> None:
    wanted = KernelRoute(ip_network(destination), None, 1024 if ":" in destination else 0)
    await kernel.apply([*ADDRESSED, AddRoute("virbr0", wanted)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {wanted}


async def test_a_route_can_be_added_once(kernel: Kernel) -> None:
    await kernel.apply(ROUTED)
    error = await refused(kernel, AddRoute("virbr0", STATIC4))
    assert (error.errno, str(error)) == (errno.EEXIST, "add route 10.20.0.0/16 on virbr0: File exists")


async def test_a_gateway_must_be_reachable(kernel: Kernel) -> None:
    await kernel.apply(ADDRESSED)
    far4 = KernelRoute(STATIC4.destination, ip_address("172.31.0.1"))
    far6 = KernelRoute(STATIC6.destination, ip_address("fd99::1"))
    assert (await refused(kernel, AddRoute("virbr0", far4))).errno == errno.ENETUNREACH
    assert (await refused(kernel, AddRoute("virbr0", far6))).errno == errno.EHOSTUNREACH


async def test_a_route_needs_its_link_up(kernel: Kernel) -> None:
    error = await refused(kernel, BRIDGE, AddAddress("virbr0", V4), AddRoute("virbr0", STATIC4))
    assert error.errno in {errno.ENETDOWN, errno.ENETUNREACH}


async def test_the_last_address_takes_the_routes_along(kernel: Kernel) -> None:
    await kernel.apply([*ROUTED, DeleteAddress("virbr0", V4)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {STATIC6}


async def test_a_link_set_down_loses_its_routes_and_keeps_its_ipv4_addresses(kernel: Kernel) -> None:
    await kernel.apply([*ROUTED, SetLink("virbr0", up=False)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == frozenset() and view.addresses == {V4}


async def test_host_routes_name_device_table_and_origin(kernel: Kernel) -> None:
    await kernel.apply(ROUTED)
    routes = await kernel.host_routes()
    assert HostRoute(ip_network("192.168.77.0/24"), "virbr0", 254, 2) in routes
    assert HostRoute(ip_network("fd77::/64"), "virbr0", 254, 2) in routes
    assert HostRoute(STATIC4.destination, "virbr0", 254, 4, STATIC4.gateway) in routes
    assert HostRoute(STATIC6.destination, "virbr0", 254, 4, STATIC6.gateway) in routes
    assert all(route.device == "virbr0" and not route.destination.is_multicast for route in routes)


async def test_a_deleted_link_is_gone_with_all_it_had(kernel: Kernel) -> None:
    await kernel.apply([*ROUTED, DeleteLink("virbr0", OURS)])
    assert await kernel.view("virbr0") is None
    assert await kernel.host_routes() == ()
    assert await kernel.sysctls([ACCEPT_RA]) == {ACCEPT_RA: None}


async def test_a_link_that_is_not_ours_is_not_deleted(kernel: Kernel) -> None:
    await kernel.apply([replace(BRIDGE, alias="somebody's"), DeleteLink("virbr0", OURS)])
    assert await kernel.link("virbr0") is not None


async def test_neighbours_of_a_link_that_is_not_there_are_none(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE])
    assert await kernel.neighbours("nosuch") == await kernel.neighbours("virbr0") == ()


async def test_several_links_are_deleted_at_once_and_what_follows_waits_for_it(kernel: Kernel) -> None:
    bridges = [replace(BRIDGE, name=f"virbr{number}") for number in range(5)]
    await kernel.apply(bridges)
    await kernel.apply([*(DeleteLink(bridge.name, OURS) for bridge in bridges), *bridges])
    assert {link.name for link in await kernel.links()} == {"lo", *(bridge.name for bridge in bridges)}


async def test_sysctls_are_read_and_written(kernel: Kernel) -> None:
    missing = ("net", "ipv6", "conf", "nosuch", "accept_ra")
    await kernel.apply([BRIDGE, WriteSysctl(ACCEPT_RA, "0"), WriteSysctl(IP_FORWARD, "1")])
    found = await kernel.sysctls([ACCEPT_RA, IP_FORWARD, missing])
    assert found == {ACCEPT_RA: "0", IP_FORWARD: "1", missing: None}


async def test_forwarding_of_the_host_reaches_its_links(kernel: Kernel) -> None:
    path = ("net", "ipv4", "conf", "virbr0", "forwarding")
    await kernel.apply([BRIDGE, WriteSysctl(IP_FORWARD, "1")])
    assert await kernel.sysctls([path]) == {path: "1"}


async def test_a_link_is_read_together_with_sysctls_which_are_left_out_without_it(kernel: Kernel) -> None:
    paths = [ACCEPT_RA, IP_FORWARD]
    assert await kernel.view_with("virbr0", paths) == (None, {})
    await kernel.apply([BRIDGE])
    assert await kernel.view_with("virbr0", paths) == (await kernel.view("virbr0"), await kernel.sysctls(paths))


async def test_a_sysctl_that_does_not_exist_is_an_error_unless_it_is_optional(kernel: Kernel) -> None:
    error = await refused(kernel, WriteSysctl(ACCEPT_RA, "0"))
    said = "write sysctl net/ipv6/conf/virbr0/accept_ra: No such file or directory"
    assert (error.errno, str(error)) == (errno.ENOENT, said)
    await kernel.apply([WriteSysctl(ACCEPT_RA, "0", optional=True)])


async def test_checksum_offload_can_be_switched_off(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE, DisableTxChecksum("virbr0")])
    error = await refused(kernel, DisableTxChecksum("nosuch"))
    assert (error.errno, str(error)) == (errno.ENODEV, "disable tx checksum of nosuch: No such device")


async def test_every_change_is_reported_with_where_to_look(tried: Tried) -> None:
    await tried.kernel.apply([BRIDGE])
    index = await tried.index()
    await tried.reports(lambda event: isinstance(event, LinkEvent) and event.name == "virbr0")
    changes: list[tuple[tuple[Operation, ...], type]] = [
        ((AddAddress("virbr0", V4), SetLink("virbr0", up=True)), AddressEvent),
        ((AddRoute("virbr0", STATIC4),), RouteEvent),
        ((DeleteRoute("virbr0", STATIC4),), RouteEvent),
        ((GiveRule(rule(7, iif="virbr0")),), RouteEvent),
        ((GiveRule(rule(7, iif="elsewhere", oif="virbr0", family=10)),), RouteEvent),
        ((TakeRule(rule(7, iif="virbr0")),), RouteEvent),
        ((DeleteAddress("virbr0", V4),), AddressEvent),
        ((AddAddress("virbr0", V6),), AddressEvent),
        ((WriteSysctl(("net", "ipv4", "conf", "virbr0", "rp_filter"), "2"),), SysctlEvent),
        ((WriteSysctl(("net", "ipv6", "conf", "virbr0", "forwarding"), "1"),), SysctlEvent),
        ((SetLink("virbr0", mtu=1400),), LinkEvent),
        ((DeleteLink("virbr0", OURS),), LinkEvent),
    ]
    for change, expected in changes:
        tried.events.clear()
        await tried.kernel.apply(change)
        await tried.reports(partial(_is_about, expected, index))


async def test_forwarding_of_the_host_is_reported_as_that_of_all(tried: Tried) -> None:
    await tried.kernel.apply([WriteSysctl(IP_FORWARD, "1")])
    await tried.reports(lambda event: isinstance(event, SysctlEvent) and (event.family, event.index) == (2, -1))


def _is_about(kind: type, index: int, event: HostEvent) -> bool:
    about = (getattr(event, "index", None), getattr(event, "name", None))
    return isinstance(event, kind) and about in {(index, "virbr0"), (index, "")}


def _veth() -> list[CreateVeth]:
    """A cable whose other end is here too."""
    with open("/proc/thread-self/ns/net") as here:
        fd = os.dup(here.fileno())
    _OPEN.append(fd)
    return [CreateVeth("vport", "52:54:00:00:00:01", "vpeer", "52:54:00:00:00:02", fd, 1500, OURS)]


_OPEN: list[int] = []


@pytest.fixture(autouse=True)
def _no_fd_stays_open() -> Iterator[None]:
    yield
    while _OPEN:
        os.close(_OPEN.pop())


@pytest.mark.parametrize("address", [V4, V6])
async def test_the_route_of_an_addresses_subnet_is_seen_and_can_be_put_back(kernel: Kernel, address: Any) -> None:
    await kernel.apply(ADDRESSED)
    view = await kernel.view("virbr0")
    assert view is not None and {V4.network, V6.network} <= view.connected and not view.routes
    if isinstance(kernel, MemoryKernel):
        kernel.cut_subnet("virbr0", address.network)
    else:
        subprocess.run(["ip", "route", "delete", str(address.network), "dev", "virbr0"], check=True)
    view = await kernel.view("virbr0")
    assert view is not None and address.network not in view.connected
    await kernel.apply([AddConnectedRoute("virbr0", address)])
    view = await kernel.view("virbr0")
    assert view is not None and {V4.network, V6.network} <= view.connected and not view.routes
    await kernel.apply([DeleteAddress("virbr0", address)])
    view = await kernel.view("virbr0")
    assert view is not None and address.network not in view.connected, "it goes with its address"
