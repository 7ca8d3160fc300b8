"""In which transactions rules change, so that no packet meets one half of a change."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Hook, Set
from vnetd.plan.stages import stages

ENTRIES = Set("bridge", "entries", ("ifname",), data="verdict")
BASE = Chain(
    "bridge", "base", (({"vmap": {"key": "iifname", "data": "@entries"}},),), Hook("filter", "prerouting", -150)
)
DROP, ACCEPT = ({"drop": None},), ({"accept": None},)


def leads(device: str, chain: str) -> Element:
    return Element("bridge", "entries", (device,), f"goto {chain}")


def values(number: int, *flags: str) -> Set:
    return Set("bridge", f"values{number}", ("ifname", "ipv4_addr"), flags=flags)


def chain(name: str, number: int) -> Chain:
    """One that drops by what is in a set of values."""
    return Chain("bridge", name, (({"match": {"left": "iifname . saddr", "right": f"@values{number}"}}, *DROP), ACCEPT))


def own(name: str, number: int, address: str, *flags: str) -> Fragment:
    """What a port has whose filter is ``chain(name, number)``."""
    row = Element("bridge", f"values{number}", ("vnet0", address))
    return Fragment(
        (BASE, chain(name, number)), (ENTRIES, values(number, *flags)), frozenset({leads("vnet0", name), row})
    )


def change(before: Fragment, after: Fragment) -> tuple[tuple[Fragment, Fragment], ...]:
    """The transactions that make of one port's part another."""
    ledger = Ledger()
    ledger.accept(ledger.propose({"port": before}))
    proposal = ledger.propose({"port": after})
    return stages(proposal.remove, proposal.add, kinds(before))


def kinds(fragment: Fragment) -> Mapping[tuple[str, str], Set]:
    return {(one.family, one.name): one for one in fragment.sets}  # type: ignore[misc]


def states(before: Fragment, steps: tuple[tuple[Fragment, Fragment], ...]) -> Iterator[Fragment]:
    """What there is before, between and after them."""
    yield before
    chains = {one.name: one for one in before.chains}
    sets, elements = {one.name: one for one in before.sets}, set(before.elements)
    for remove, add in steps:
        assert remove.elements <= elements
        elements = elements - remove.elements | add.elements
        for one in remove.chains:
            assert chains.pop(one.name) == one
        for kind in remove.sets:
            assert sets.pop(kind.name) == kind
        chains |= {one.name: one for one in add.chains}
        sets |= {one.name: one for one in add.sets}
        assert {one.set for one in elements} <= sets.keys()
        assert {one.data.split()[1] for one in elements if one.data} <= chains.keys()
        yield Fragment(tuple(chains.values()), tuple(sets.values()), frozenset(elements))


def test_what_nobody_was_led_to_comes_and_goes_in_one_transaction() -> None:
    port = own("old", 1, "192.0.2.7")
    assert change(EMPTY, port) == ((EMPTY, port),)
    assert change(port, EMPTY) == ((port, EMPTY),)


def test_a_chain_is_there_before_anything_leads_to_it_and_goes_after() -> None:
    before, after = own("old", 1, "192.0.2.7"), own("new", 2, "192.0.2.8")
    row, other = (
        Element("bridge", "values1", ("vnet0", "192.0.2.7")),
        Element("bridge", "values2", ("vnet0", "192.0.2.8")),
    )
    assert change(before, after) == (
        (EMPTY, Fragment((chain("new", 2),), (values(2),), frozenset({other}))),
        (Fragment(elements=frozenset({leads("vnet0", "old")})), Fragment(elements=frozenset({leads("vnet0", "new")}))),
        (Fragment((chain("old", 1),), (values(1),), frozenset({row})), EMPTY),
    )


def test_other_values_of_the_same_rules_are_one_transaction() -> None:
    assert len(change(own("old", 1, "192.0.2.7"), own("old", 1, "192.0.2.8"))) == 1


def test_ranges_make_room_for_those_that_come() -> None:
    before = own("old", 1, "192.0.2.0/25", "interval")
    after = own("new", 1, "192.0.2.0/24", "interval")
    _, (gone, come), (last, _) = change(before, after)
    assert {one.set for one in gone.elements} == {one.set for one in come.elements} == {"entries", "values1"}
    assert last == Fragment((chain("old", 1),))


def test_a_set_that_becomes_another_type_does_so_with_all_that_uses_it() -> None:
    before, after = own("old", 1, "192.0.2.7"), own("new", 1, "192.0.2.7", "interval")
    assert len(change(before, after)) == 1


def test_a_chain_with_a_hook_comes_with_what_it_needs() -> None:
    hooked = Chain("bridge", "other", (DROP,), Hook("filter", "postrouting", 0))
    after = own("new", 2, "192.0.2.8")
    (_, first), (_, then), _ = change(
        own("old", 1, "192.0.2.7"), Fragment((*after.chains, hooked), after.sets, after.elements)
    )
    assert hooked not in first.chains and hooked in then.chains


def test_a_set_that_packets_fill_comes_with_the_rule_that_fills_it() -> None:
    filled = Set("bridge", "counted", ("ifname",), flags=("dynamic",), size=9)
    before = own("old", 1, "192.0.2.7")
    filling = Chain("bridge", "base", (({"set": {"op": "add", "set": "@counted"}},),), BASE.hook)
    new = own("new", 2, "192.0.2.8")
    after = Fragment((filling, *new.chains[1:]), (*new.sets, filled), new.elements)
    (_, first), (_, then), _ = change(before, after)
    assert filled not in first.sets and filled in then.sets and filling in then.chains


ports = st.builds(own, st.sampled_from(["a", "b", "c"]), st.integers(1, 3), st.sampled_from(["192.0.2.7", "192.0.2.8"]))


@given(ports, ports)
def test_every_packet_finds_the_chain_it_is_led_to_and_all_it_compares_with(before: Fragment, after: Fragment) -> None:
    steps = change(before, after)
    seen = list(states(before, steps))
    assert {one.name: one for one in seen[-1].chains} == {one.name: one for one in after.chains}
    assert seen[-1].elements == after.elements
    for earlier, later in pairwise(seen):
        # Whoever came before a transaction has the rules of then, and finds the elements of later.
        rules = {one.name: one for one in earlier.chains}
        [there] = [one.data.split()[1] for one in later.elements if one.set == "entries"]
        assert there in rules
        if len(steps) > 1:
            for reached in {one.data.split()[1] for one in earlier.elements if one.set == "entries"} & {there}:
                compared = rules[reached].rules[0][0]["match"]["right"][1:]  # type: ignore[index, call-overload]
                assert any(one.set == compared for one in later.elements)


def test_nothing_is_one_transaction_of_nothing() -> None:
    assert stages(EMPTY, EMPTY, {}) == ((EMPTY, EMPTY),)
