"""What belongs to the host on a device is read whole and can be made again elsewhere: in memory and on the kernel."""

import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from struct import pack
from typing import Any

import pytest
from support.memory_kernel import MemoryKernel
from support.policy_rules import rule

from vnetd.host.protocols import Kernel
from vnetd.linux.kernel import LinuxKernel
from vnetd.model.errors import HostError
from vnetd.plan.kernel import (
    CreateBridge,
    DeleteLink,
    GiveAddress,
    GiveNeighbour,
    GiveProxy,
    GiveRoute,
    GiveRule,
    Operation,
    SetBridge,
    SetLink,
    TakeAddress,
    TakeNeighbour,
    TakeProxy,
    TakeRoute,
    TakeRule,
)
from vnetd.plan.links import BridgeOptions, BridgeState
from vnetd.plan.possessions import (
    FOREVER,
    SCOPE_LINK,
    HeldAddress,
    HeldNeighbour,
    HeldRoute,
    NextHop,
    Possessions,
)

NOPREFIXROUTE = 0x200
NEAR, FAR = "nic0", "br0"
PLAIN = HeldAddress(ip_interface("192.0.2.2/24"), broadcast=ip_address("192.0.2.255"))
RICH = HeldAddress(
    ip_interface("198.51.100.7/25"),
    broadcast=ip_address("198.51.100.127"),
    flags=NOPREFIXROUTE,
    label="nic0:web",
    metric=70,
    valid=5000,
    preferred=4000,
)
SIX = HeldAddress(ip_interface("2001:db8::2/64"))
GATEWAY = ip_address("192.0.2.1")
DEFAULT = HeldRoute(ip_network("0.0.0.0/0"), (NextHop(NEAR, GATEWAY),), protocol=3, metric=100)
POLICY = HeldRoute(
    ip_network("10.0.0.0/8"),
    (NextHop(NEAR, GATEWAY),),
    table=1007,
    protocol=16,
    tos=0x10,
    source=ip_address("192.0.2.2"),
)
DIRECT = HeldRoute(ip_network("203.0.113.0/24"), (NextHop(NEAR),), scope=SCOPE_LINK)
BALANCED = HeldRoute(
    ip_network("10.99.0.0/16"),
    (NextHop(NEAR, GATEWAY, 2), NextHop(NEAR, ip_address("192.0.2.9"), 0, onlink=True)),
)
ROUTE6 = HeldRoute(ip_network("2001:db8:7::/48"), (NextHop(NEAR, ip_address("2001:db8::1")),), metric=512, preference=0)
NEIGHBOURS = (
    HeldNeighbour(ip_address("192.0.2.9"), "52:54:00:00:00:99"),
    HeldNeighbour(ip_address("2001:db8::9"), "52:54:00:00:00:99", flags=0x80, protocol=42),
)
ROUTES = (DEFAULT, POLICY, DIRECT, BALANCED, ROUTE6)


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def kernel(request: pytest.FixtureRequest) -> AsyncIterator[Kernel]:
    if request.param == "memory":
        yield MemoryKernel()
        return
    linux = await LinuxKernel.start()
    yield linux
    await linux.close()


def bridge(name: str, mac: str) -> tuple[Operation, ...]:
    return CreateBridge(name, mac, 1500, stp=False, forward_delay=0, alias=""), SetLink(name, up=True)


@pytest.fixture
async def near(kernel: Kernel) -> Kernel:
    """With two devices that are up."""
    await kernel.apply([*bridge(NEAR, "52:54:00:00:00:01"), *bridge(FAR, "52:54:00:00:00:02")])
    return kernel


async def held(kernel: Kernel, name: str = NEAR) -> Possessions:
    found = await kernel.possessions(name)
    assert found is not None
    return found


async def refused(kernel: Kernel, *operations: Operation) -> HostError:
    with pytest.raises(HostError) as refusal:
        await kernel.apply(operations)
    return refusal.value


async def test_a_device_that_is_not_there_has_no_possessions(kernel: Kernel) -> None:
    assert await kernel.possessions("nosuch") is None


async def test_a_new_device_has_nothing_that_would_have_to_move(near: Kernel) -> None:
    assert not await held(near)


@pytest.mark.parametrize("address", [PLAIN, RICH, SIX], ids=["plain", "rich", "ipv6"])
async def test_an_address_is_read_as_it_was_given(near: Kernel, address: HeldAddress) -> None:
    await near.apply([GiveAddress(NEAR, address)])
    (found,) = (await held(near)).addresses
    assert replace(found, valid=FOREVER, preferred=FOREVER) == replace(address, valid=FOREVER, preferred=FOREVER)
    if address.valid != FOREVER:
        assert (4900 < found.valid <= 5000, 3900 < found.preferred <= 4000) == (True, True)


async def test_an_address_that_is_there_is_no_error_nor_is_one_that_is_gone(near: Kernel) -> None:
    await near.apply([GiveAddress(NEAR, PLAIN), GiveAddress(NEAR, PLAIN)])
    assert [one.address for one in (await held(near)).addresses] == [PLAIN.address]
    await near.apply([TakeAddress(NEAR, PLAIN), TakeAddress(NEAR, PLAIN)])
    assert not await held(near)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: str(route.destination))
async def test_a_route_is_read_as_it_was_given_and_taken_exactly(near: Kernel, route: HeldRoute) -> None:
    await near.apply([GiveAddress(NEAR, PLAIN), GiveAddress(NEAR, SIX)])
    before = await held(near)
    await near.apply([GiveRoute(route), GiveRoute(route)])
    assert set((await held(near)).routes) - set(before.routes) == {route}
    await near.apply([TakeRoute(route), TakeRoute(route)])
    assert set((await held(near)).routes) == set(before.routes)


async def test_a_route_stands_beside_the_same_one_through_another_device(near: Kernel) -> None:
    away = DEFAULT.through(NEAR, FAR)
    await near.apply([GiveAddress(NEAR, PLAIN), GiveAddress(FAR, PLAIN), GiveRoute(DEFAULT), GiveRoute(away)])
    assert (DEFAULT in (await held(near)).routes, away in (await held(near, FAR)).routes) == (True, True)
    await near.apply([TakeRoute(DEFAULT)])
    assert (DEFAULT in (await held(near)).routes, away in (await held(near, FAR)).routes) == (False, True)


async def test_a_route_through_another_device_counts_if_it_comes_from_an_address_here(near: Kernel) -> None:
    elsewhere = HeldRoute(ip_network("10.5.0.0/16"), (NextHop(FAR),), scope=SCOPE_LINK, source=ip_address("192.0.2.2"))
    await near.apply([GiveAddress(NEAR, PLAIN), GiveRoute(elsewhere)])
    assert elsewhere in (await held(near)).routes


async def test_a_route_whose_gateway_is_not_near_any_more_is_made_all_the_same(near: Kernel) -> None:
    await near.apply([GiveRoute(DEFAULT)])
    (found,) = (await held(near)).routes
    assert (found.identity, found.hops[0].onlink) == (DEFAULT.identity, True)
    await near.apply([GiveAddress(NEAR, PLAIN), TakeRoute(DEFAULT)])
    assert DEFAULT.identity not in {route.identity for route in (await held(near)).routes}


async def test_a_route_whose_source_has_gone_is_named_for_it_cannot_be_made_again(near: Kernel) -> None:
    await near.apply([GiveAddress(NEAR, PLAIN), GiveAddress(NEAR, RICH), GiveRoute(POLICY), TakeAddress(NEAR, PLAIN)])
    await near.apply([GiveAddress(NEAR, HeldAddress(ip_interface("192.0.2.3/24")))])
    found = await held(near)
    assert POLICY.destination not in {route.destination for route in found.routes}
    assert found.unportable == ("route 10.0.0.0/8 from 192.0.2.2, which this host has not,",)
    error = await refused(near, TakeRoute(POLICY), GiveRoute(POLICY))
    assert error.errno == errno.EINVAL


async def test_a_route_through_a_device_that_is_down_is_refused_by_name(near: Kernel) -> None:
    error = await refused(near, SetLink(NEAR, up=False), GiveRoute(DIRECT))
    assert (error.errno, str(error)) == (errno.ENETDOWN, "add route 203.0.113.0/24 on nic0: Network is down")


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
async def test_neighbour_proxies_come_and_go(near: Kernel, address: str) -> None:
    proxied = ip_address(address)
    await near.apply([GiveProxy(NEAR, proxied), GiveProxy(NEAR, proxied)])
    assert ((await held(near)).proxies, (await held(near, FAR)).proxies) == ((proxied,), ())
    await near.apply([TakeProxy(NEAR, proxied), TakeProxy(NEAR, proxied)])
    assert not await held(near)


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=["IPv4", "IPv6, a router, of a protocol"])
async def test_permanent_neighbours_come_and_go_with_all_that_was_said_of_them(
    near: Kernel, neighbour: HeldNeighbour
) -> None:
    await near.apply([GiveNeighbour(NEAR, replace(neighbour, mac="52:54:00:00:00:01")), GiveNeighbour(NEAR, neighbour)])
    assert ((await held(near)).neighbours, (await held(near, FAR)).neighbours) == ((neighbour,), ())
    await near.apply([TakeNeighbour(NEAR, neighbour), TakeNeighbour(NEAR, neighbour)])
    assert not await held(near)


async def test_with_the_last_ipv4_address_of_a_device_its_ipv4_neighbours_go(near: Kernel) -> None:
    await near.apply([GiveAddress(NEAR, PLAIN), GiveAddress(NEAR, SIX)])
    await near.apply(
        [*(GiveNeighbour(NEAR, one) for one in NEIGHBOURS), TakeAddress(NEAR, PLAIN), TakeAddress(NEAR, SIX)]
    )
    assert (await held(near)).neighbours == NEIGHBOURS[1:]


async def test_a_neighbour_on_a_device_that_is_gone_is_refused_by_name(near: Kernel) -> None:
    await near.apply([TakeNeighbour("nosuch", NEIGHBOURS[0])])
    error = await refused(near, GiveNeighbour("nosuch", NEIGHBOURS[0]))
    assert (error.errno, str(error)) == (errno.ENODEV, "add neighbour 192.0.2.9 on nosuch: No such device")


TO, FROM, GOTO, MARK, REALM, TUNNEL, SUPPRESS_GROUP, SUPPRESS_LENGTH = 1, 2, 4, 10, 11, 12, 13, 14
MARK_MASK, L3MDEV, USERS, MADE_BY, IP_PROTOCOL, SOURCE_PORTS, PORTS = 16, 19, 20, 21, 22, 23, 24
UNLESS = 0x2
RULES = {
    "plain": rule(100, iif=NEAR),
    "of sockets": rule(100, oif=NEAR, table=1007),
    "of both, with all that can be said": rule(
        7,
        iif=NEAR,
        oif="elsewhere",
        lengths=(8, 24),
        tos=0x10,
        flags=UNLESS,
        more={
            TO: bytes((10, 0, 0, 0)),
            FROM: bytes((192, 0, 2, 0)),
            MARK: pack("=I", 1),
            MARK_MASK: pack("=I", 15),
            REALM: pack("=I", 0x10002),
            TUNNEL: pack(">Q", 5),
            SUPPRESS_GROUP: pack("=I", 3),
            SUPPRESS_LENGTH: pack("=I", 0),
            USERS: pack("=II", 1, 2),
            MADE_BY: b"\x10",
            IP_PROTOCOL: b"\6",
            SOURCE_PORTS: pack("=HH", 1, 2),
            PORTS: pack("=HH", 80, 81),
        },
    ),
    "to the table of a VRF": rule(300, iif=NEAR, table=0, more={L3MDEV: b"\1"}),
    "on to another": rule(400, iif=NEAR, table=0, action=2, more={GOTO: pack("=I", 500)}),
    "of priority 0, for nothing": rule(0, iif=NEAR, table=0, action=7),
    "IPv6": rule(100, iif=NEAR, family=10, lengths=(0, 32), more={FROM: bytes.fromhex("20010db8") + bytes(12)}),
}


@pytest.mark.parametrize("name", RULES)
async def test_a_rule_about_a_device_is_read_as_it_was_given_and_taken_exactly(near: Kernel, name: str) -> None:
    wanted = RULES[name]
    await near.apply([GiveRule(wanted), GiveRule(wanted)])
    assert ((await held(near)).rules, (await held(near, FAR)).rules) == ((wanted,), ())
    await near.apply([TakeRule(wanted.through(NEAR, FAR)), GiveRule(wanted.through(NEAR, FAR)), TakeRule(wanted)])
    assert ((await held(near)).rules, (await held(near, FAR)).rules) == ((), (wanted.through(NEAR, FAR),))
    await near.apply([TakeRule(wanted.through(NEAR, FAR))])
    assert not await held(near, FAR)


async def test_rules_are_told_in_their_order_and_stay_when_their_device_goes(near: Kernel) -> None:
    six, late, early, later = (
        RULES["IPv6"],
        rule(900, iif=NEAR),
        RULES["plain"],
        rule(900, iif=NEAR, table=8),
    )
    await near.apply([*map(GiveRule, (six, late, early, later)), DeleteLink(NEAR, "")])
    found = await held(near)
    assert found == Possessions(rules=(early, late, later, six))
    await near.apply([TakeRule(one) for one in found.rules])
    assert await near.possessions(NEAR) is None


async def test_a_rule_the_kernel_does_not_take_is_named(near: Kernel) -> None:
    if isinstance(near, MemoryKernel):
        near.refuse[GiveRule] = errno.EINVAL
    error = await refused(near, GiveRule(rule(5, iif=NEAR, oif=FAR, action=2)))
    assert (error.errno, str(error)) == (errno.EINVAL, "add rule 5 iif nic0 oif br0: Invalid argument")


async def test_link_local_addresses_stay_with_their_device(near: Kernel) -> None:
    await near.apply([GiveAddress(NEAR, HeldAddress(IPv6Interface("fe80::77/64")))])
    assert not await held(near)


OPTIONS: dict[str, Any] = {
    "priority": 4096,
    "hello_time": 300,
    "max_age": 1500,
    "ageing_time": 10000,
    "multicast_snooping": False,
}


async def test_a_bridge_is_born_with_its_options(kernel: Kernel) -> None:
    await kernel.apply(
        [CreateBridge("br1", "52:54:00:00:00:03", 1500, True, 400, "x", BridgeOptions(vlan_filtering=False, **OPTIONS))]
    )
    link = await kernel.link("br1")
    assert link is not None and link.bridge is not None
    assert replace(link.bridge, default_pvid=None) == BridgeState(stp=True, forward_delay=400, **OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
async def test_every_option_can_be_changed_alone(near: Kernel, name: str) -> None:
    before = await near.link(FAR)
    await near.apply([SetBridge(FAR, BridgeOptions(**{name: OPTIONS[name]}))])
    after = await near.link(FAR)
    assert before and after and before.bridge and after.bridge
    assert after.bridge == replace(before.bridge, **{name: OPTIONS[name]})
    assert getattr(before.bridge, name) != OPTIONS[name]
