"""A move's plan leads from any state to everything being on the other device, and nothing being lost on the way."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_kernel import MemoryKernel
from support.memory_possessions import possessions
from support.policy_rules import rule

from vnetd.model.base import IPAddress
from vnetd.plan.kernel import (
    GiveAddress,
    GiveNeighbour,
    GiveProxy,
    GiveRoute,
    GiveRule,
    SetLink,
    TakeAddress,
    TakeRoute,
    TakeRule,
    WriteSysctl,
)
from vnetd.plan.migration import aged, alike, guarded, plan_leave, plan_move, plan_rules, renamed, united
from vnetd.plan.possessions import FOREVER, SCOPE_LINK, HeldAddress, HeldNeighbour, HeldRoute, NextHop, Possessions

NIC, BRIDGE = "nic0", "br0"
ADDRESSES = tuple(
    HeldAddress(ip_interface(text), label=label, valid=valid)
    for text, label, valid in (
        ("192.0.2.2/24", "", FOREVER),
        ("192.0.2.3/24", "nic0:x", FOREVER),
        ("10.0.0.9/8", "", 3600),
        ("2001:db8::2/64", "", FOREVER),
        ("2001:db8::3/64", "", 900),
    )
)
NEIGHBOURS = tuple(
    HeldNeighbour(ip_address(text), "52:54:00:00:00:99") for text in ("192.0.2.9", "192.0.2.10", "2001:db8::9")
)
PROXIES: tuple[IPAddress, ...] = (ip_address("192.0.2.77"), ip_address("2001:db8::77"))


def route(destination: str, *gateways: str, **fields: object) -> HeldRoute:
    network = ip_network(destination)
    hops = tuple(NextHop(NIC, ip_address(one)) for one in gateways) or (NextHop(NIC),)
    scope = 0 if gateways or network.version == 6 else SCOPE_LINK
    return replace(HeldRoute(network, hops, scope=scope), **fields)  # type: ignore[arg-type]


ROUTES = (
    route("0.0.0.0/0", "192.0.2.1", metric=100, protocol=3),
    route("172.16.0.0/12", "192.0.2.1", "192.0.2.9"),
    route("10.20.0.0/16", "192.0.2.1", table=7, source=ip_address("192.0.2.3")),
    route("203.0.113.0/24"),
    route("::/0", "2001:db8::1", metric=1024, protocol=9, expires=1800),
)

RULES = (
    rule(100, iif=NIC),
    rule(100, oif=NIC, table=8),
    rule(200, iif=NIC, oif="wan2", table=1007),
    rule(100, iif=NIC, family=10),
    rule(0, iif=NIC, lengths=(8, 0), more={1: bytes((10, 0, 0, 0))}),
)

held_things = st.builds(
    Possessions,
    addresses=st.permutations(ADDRESSES).map(tuple),
    routes=st.lists(st.sampled_from(ROUTES), unique=True).map(tuple),
    neighbours=st.lists(st.sampled_from(NEIGHBOURS), unique=True).map(tuple),
    proxies=st.lists(st.sampled_from(PROXIES), unique=True).map(tuple),
    rules=st.lists(st.sampled_from(RULES), unique=True).map(tuple),
)


def host(held: Possessions) -> MemoryKernel:
    """A host with these things on a NIC, and a bridge with nothing."""
    kernel = MemoryKernel()
    for name, kind in ((NIC, ""), (BRIDGE, "bridge")):
        kernel.create(name, kind)
        kernel.foreign(SetLink(name, up=True))
    kernel.foreign(*(GiveAddress(NIC, address) for address in held.addresses))
    kernel.foreign(*(GiveRoute(one) for one in held.routes), *(GiveProxy(NIC, one) for one in held.proxies))
    kernel.foreign(*(GiveNeighbour(NIC, one) for one in held.neighbours), *map(GiveRule, held.rules))
    return kernel


def seen(kernel: MemoryKernel, name: str) -> Possessions:
    entry = kernel.find(name)
    assert entry is not None
    return possessions(kernel, entry)


def things(held: Possessions) -> tuple[set[object], ...]:
    addresses, routes = {a.identity for a in held.addresses}, {r.identity for r in held.routes}
    return addresses, routes, set(held.neighbours), set(held.proxies), set(held.rules)


def move(kernel: MemoryKernel, held: Possessions, source: str, target: str) -> None:
    """Everything, to the end."""
    kernel.foreign(*plan_rules(held, source, target, seen(kernel, target)))
    kernel.foreign(*plan_move(held, source, target, seen(kernel, source), seen(kernel, target)))
    kernel.foreign(*plan_leave(seen(kernel, source)))


@given(held_things)
@settings(deadline=None, max_examples=60)
def test_everything_moves_and_comes_back_exactly(held: Possessions) -> None:
    kernel = host(held)
    before = seen(kernel, NIC)
    move(kernel, before, NIC, BRIDGE)
    assert (bool(seen(kernel, NIC)), things(seen(kernel, BRIDGE))) == (False, things(renamed(before, NIC, BRIDGE)))
    assert set(seen(kernel, BRIDGE).addresses) == set(before.addresses), "with labels and lifetimes"
    moved = seen(kernel, BRIDGE)
    move(kernel, moved, BRIDGE, NIC)
    assert (bool(seen(kernel, BRIDGE)), things(seen(kernel, NIC))) == (False, things(before))


@given(held_things, st.data())
@settings(deadline=None, max_examples=60)
def test_wherever_a_move_breaks_off_it_can_be_ended_and_taken_back(held: Possessions, data: st.DataObject) -> None:
    kernel = host(held)
    before = seen(kernel, NIC)
    operations = [
        *plan_rules(before, NIC, BRIDGE, seen(kernel, BRIDGE)),
        *plan_move(before, NIC, BRIDGE, before, seen(kernel, BRIDGE)),
        *plan_leave(before),
    ]
    done = data.draw(st.integers(0, len(operations)))
    kernel.foreign(*operations[:done])
    back = data.draw(st.booleans())
    source, target = (BRIDGE, NIC) if back else (NIC, BRIDGE)
    wanted = renamed(before, NIC, target)
    move(kernel, renamed(before, NIC, source), source, target)
    assert (bool(seen(kernel, source)), things(seen(kernel, target))) == (False, things(wanted))
    assert not plan_move(renamed(before, NIC, source), source, target, seen(kernel, source), seen(kernel, target)), (
        "planning again gives nothing"
    )


def test_a_subnets_first_address_goes_last_and_comes_first() -> None:
    held = Possessions(ADDRESSES[:2])
    operations = plan_move(held, NIC, BRIDGE, held, Possessions())
    assert operations == [
        TakeAddress(NIC, ADDRESSES[1]),
        TakeAddress(NIC, ADDRESSES[0]),
        GiveAddress(BRIDGE, ADDRESSES[0]),
        GiveAddress(BRIDGE, ADDRESSES[1]),
    ]


def test_a_subnets_other_addresses_are_kept_meanwhile_by_the_sysctl_which_gets_its_value_back() -> None:
    path = ("net", "ipv4", "conf", NIC, "promote_secondaries")
    take = TakeAddress(NIC, ADDRESSES[0])
    assert guarded([take], NIC, "0") == [WriteSysctl(path, "1"), take, WriteSysctl(path, "0")]
    assert (guarded([take], NIC, "1"), guarded([], NIC, "0")) == ([take], [])


def test_only_the_hops_through_the_device_change() -> None:
    other = NextHop("wan2", ip_address("198.51.100.1"), weight=4)
    both = replace(ROUTES[0], hops=(*ROUTES[0].hops, other))
    (given_back,) = renamed(Possessions(routes=(both,)), NIC, BRIDGE).routes
    assert given_back.hops == (NextHop(BRIDGE, ip_address("192.0.2.1")), other)


def test_a_route_elsewhere_that_comes_from_a_moving_address_is_not_taken_but_given_again() -> None:
    elsewhere = replace(ROUTES[3], hops=(NextHop("wan2"),), source=ip_address("192.0.2.2"))
    held = Possessions(ADDRESSES[:1], (elsewhere,))
    operations = plan_move(held, NIC, BRIDGE, held, Possessions())
    assert not any(isinstance(one, TakeRoute) for one in operations)
    assert operations[-1] == GiveRoute(elsewhere)


def test_rules_are_about_both_devices_until_packets_come_in_by_one_only() -> None:
    held = Possessions(rules=RULES[:2])
    assert not plan_move(held, NIC, BRIDGE, held, Possessions())
    there = Possessions(rules=(rule(100, oif=BRIDGE, table=8),))
    assert plan_rules(held, NIC, BRIDGE, there) == [GiveRule(rule(100, iif=BRIDGE))]
    assert set(plan_leave(held)) == {TakeRule(RULES[0]), TakeRule(RULES[1])}


def test_a_rule_that_says_more_goes_before_one_the_kernel_would_take_it_for() -> None:
    narrow = rule(100, iif=NIC, lengths=(8, 0), more={1: bytes((10, 0, 0, 0))})
    of_service = rule(100, iif=NIC, tos=0x10)
    both = rule(100, iif=NIC, oif="wan2")
    leaving = plan_leave(Possessions(rules=(RULES[0], of_service, both, narrow)))
    assert leaving == [TakeRule(narrow), TakeRule(both), TakeRule(of_service), TakeRule(RULES[0])]


def test_a_rule_that_came_or_went_or_changed_places_is_worth_a_record() -> None:
    one, other = RULES[:2]
    for rules in ((), (one,), (other, one)):
        assert not alike(Possessions(rules=(one, other)), Possessions(rules=rules))
    assert alike(Possessions(rules=(one, other)), Possessions(rules=(one, other)))


def test_lifetimes_go_on_while_things_are_on_record() -> None:
    old = aged(Possessions(ADDRESSES, ROUTES), 600)
    assert [one.valid for one in old.addresses] == [FOREVER, FOREVER, 3000, FOREVER, 300]
    assert [one.expires for one in old.routes] == [0, 0, 0, 0, 1200]
    assert aged(Possessions(ADDRESSES), 7200).addresses[2].valid == 1, "never said to be for ever, nor over"


def test_what_is_there_now_counts_more_than_what_is_on_record() -> None:
    now, then = replace(ADDRESSES[2], valid=50), ADDRESSES[2]
    seen, known = replace(NEIGHBOURS[0], mac="52:54:00:00:00:01"), NEIGHBOURS[0]
    both = united(
        Possessions((now,), ROUTES[:1], (seen,), rules=RULES[1:2]),
        Possessions((ADDRESSES[0], then), ROUTES[:2], (known, NEIGHBOURS[1]), PROXIES, rules=RULES[:2]),
    )
    rules = (RULES[1], RULES[0])
    assert both == Possessions((now, ADDRESSES[0]), ROUTES[:2], (seen, NEIGHBOURS[1]), PROXIES, rules=rules)
