"""What every ``host.Kernel`` does: the same statements about the one in memory and the real one."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from support.policy_rules import rule
from support.tried_kernel import (
    ACCEPT_RA,
    BRIDGE,
    IP_FORWARD,
    OURS,
    ROUTED,
    STATIC4,
    STATIC6,
    V4,
    V6,
    Tried,
    refused,
)

from vnetd.host.events import AddressEvent, HostEvent, LinkEvent, RouteEvent, SysctlEvent
from vnetd.host.protocols import Kernel
from vnetd.plan.kernel import (
    AddAddress,
    AddRoute,
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
from vnetd.plan.links import BridgeState


async def test_a_name_is_taken_as_long_as_there_is_a_link_of_it(kernel: Kernel) -> None:
    assert kernel.is_taken("lo")
    for name in ("virbr0", "fifteen-letters"):
        assert not kernel.is_taken(name)
        await kernel.apply([replace(BRIDGE, name=name)])
        assert kernel.is_taken(name)
        await kernel.apply([DeleteLink(name, BRIDGE.alias)])
        assert not kernel.is_taken(name)


async def test_the_mtu_of_a_link_is_known_at_once(kernel: Kernel) -> None:
    assert kernel.mtu("virbr0") is None
    await kernel.apply([BRIDGE, SetLink(BRIDGE.name, mtu=1280)])
    assert kernel.mtu(BRIDGE.name) == 1280
    await kernel.apply([SetLink(BRIDGE.name, mtu=9000)])
    assert kernel.mtu(BRIDGE.name) == 9000
    await kernel.apply([DeleteLink(BRIDGE.name, BRIDGE.alias)])
    assert kernel.mtu(BRIDGE.name) is None


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


async def test_deleting_what_is_gone_already_is_no_error(kernel: Kernel) -> None:
    gone: list[Operation] = [
        *(DeleteAddress("virbr0", V4), DeleteAddress("virbr0", V6)),
        *(DeleteRoute("virbr0", STATIC4), DeleteRoute("virbr0", STATIC6)),
    ]
    await kernel.apply([*gone, DeleteLink("virbr0", OURS)])
    await kernel.apply([BRIDGE, SetLink("virbr0", up=True), *gone])


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
