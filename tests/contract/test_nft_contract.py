"""What every ``host.Nft`` does: the same statements about the one in memory and the one of the kernel."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.commits import act
from support.memory_nft import MemoryNft

from vnetd.host.protocols import Nft
from vnetd.linux.nft import LinuxNft
from vnetd.model.errors import HostError
from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import EMPTY, Chain, Count, Element, Fragment, Hook, MissingRule, Set
from vnetd.ruleset.unbridged import entrance, part_of

ACCEPT: Any = {"accept": None}
DROP: Any = {"drop": None}
GUESTS = Set("inet", "guests", ("ifname",))
SUBNETS = Set("inet", "subnets", ("ifname", "ipv4_addr"), flags=("interval",))
VERDICTS = Set("inet", "verdicts", ("ifname",), data="verdict")
SEEN = Set("inet", "seen", ("ipv4_addr",), flags=("dynamic",), size=100, timeout=60)
FORWARD = Hook("filter", "forward", 0)


def iif_in(name: str, *verdict: Any) -> tuple[Any, ...]:
    return ({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": f"@{name}"}}, *verdict)


def jump(name: str) -> Any:
    return {"jump": {"target": name}}


def element(name: str, *key: str, data: str = "") -> Element:
    return Element("inet", name, key, data)


INNER = Chain("inet", "inner", ((ACCEPT,),))
OUTER = Chain("inet", "outer", (iif_in("guests", jump("inner")), (DROP,)), FORWARD)
BASE = Fragment((OUTER, INNER), (GUESTS, SUBNETS, VERDICTS))


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def nft(request: pytest.FixtureRequest) -> AsyncIterator[Nft]:
    if request.param == "memory":
        yield MemoryNft()
        return
    linux = LinuxNft()
    await linux.open()
    yield linux
    await linux.close()


async def held(nft: Nft) -> Fragment:
    """Everything, in the form it was written in."""
    listed = await nft.table("inet")
    if listed is None:
        return EMPTY
    chains = (Chain("inet", name, rules, listed.hooks.get(name)) for name, rules in listed.chains.items())
    return Fragment(
        tuple(sorted(chains, key=lambda chain: chain.name)),
        tuple(sorted(listed.definitions.values(), key=lambda one: one.name)),
        frozenset().union(*listed.sets.values()),
    )


def ordered(fragment: Fragment) -> Fragment:
    return Fragment(
        tuple(sorted(fragment.chains, key=lambda chain: chain.name)),
        tuple(sorted(fragment.sets, key=lambda one: one.name)),
        fragment.elements,
    )


async def test_what_was_committed_is_listed(nft: Nft) -> None:
    elements = frozenset({element("guests", "virbr0"), element("verdicts", "virbr0", data="goto inner")})
    contents = replace(BASE, elements=elements)
    await nft.commit(EMPTY, contents)
    assert await held(nft) == ordered(contents)
    assert await nft.table("bridge") is None


async def test_a_single_chain_or_set_is_listed_alone(nft: Nft) -> None:
    elements = frozenset({element("guests", "virbr0"), element("subnets", "virbr0", "10.0.0.0/24")})
    await nft.commit(EMPTY, replace(BASE, elements=elements))
    listed = await nft.chain("inet", "outer")
    assert listed is not None
    assert listed.chains == {"outer": OUTER.rules}
    assert listed.hooks == {"outer": FORWARD}
    assert await nft.set("inet", "guests") == frozenset({element("guests", "virbr0")})
    assert await nft.set("inet", "subnets") == frozenset({element("subnets", "virbr0", "10.0.0.0/24")})
    assert await nft.set("inet", "verdicts") == frozenset()


async def test_what_is_not_there_is_none(nft: Nft) -> None:
    assert await nft.table("inet") is None
    assert await nft.chain("inet", "outer") is None
    assert await nft.set("inet", "guests") is None
    await nft.commit(EMPTY, BASE)
    assert await nft.chain("inet", "nowhere") is None
    assert await nft.set("inet", "nowhere") is None
    assert await nft.set("bridge", "guests") is None


async def test_ranges_and_prefixes_are_listed_as_the_shortest_text(nft: Nft) -> None:
    written = {
        element("subnets", "a", "10.0.0.0-10.0.0.255"): "10.0.0.0/24",
        element("subnets", "a", "10.0.1.7/32"): "10.0.1.7",
        element("subnets", "a", "10.0.2.3-10.0.2.9"): "10.0.2.3-10.0.2.9",
    }
    await nft.commit(EMPTY, Fragment(sets=(SUBNETS,), elements=frozenset(written)))
    assert await nft.set("inet", "subnets") == frozenset({element("subnets", "a", text) for text in written.values()})


@pytest.mark.parametrize("name", ["br-lan", "1-2", "67-67", "a.b-c"])
async def test_an_interface_name_with_a_dash_is_no_range(nft: Nft, name: str) -> None:
    await nft.commit(EMPTY, Fragment(sets=(GUESTS,)))
    await nft.commit(EMPTY, Fragment(elements=frozenset({element("guests", name)})))
    assert await nft.set("inet", "guests") == frozenset({element("guests", name)})
    await nft.commit(Fragment(elements=frozenset({element("guests", name)})), EMPTY)
    assert await nft.set("inet", "guests") == frozenset()


async def test_ipv6_and_mac_keys_come_back_as_written(nft: Nft) -> None:
    macs = Set("bridge", "macs", ("ifname", "ether_addr"))
    wide = Set("bridge", "wide", ("ifname", "ipv6_addr"), flags=("interval",))
    elements = frozenset({
        Element("bridge", "macs", ("vnet0", "52:54:00:00:00:01")),
        Element("bridge", "wide", ("vnet0", "fd00::/64")),
        Element("bridge", "wide", ("vnet0", "fd01::1")),
    })  # fmt: skip
    await nft.commit(EMPTY, Fragment(sets=(macs, wide), elements=elements))
    listed = await nft.table("bridge")
    assert listed is not None
    assert frozenset().union(*listed.sets.values()) == elements


async def test_elements_of_a_dynamic_set_are_not_shown(nft: Nft) -> None:
    await nft.commit(EMPTY, Fragment(sets=(SEEN,)))
    await nft.commit(EMPTY, Fragment(elements=frozenset({element("seen", "10.0.0.1")})))
    assert await nft.set("inet", "seen") == frozenset()
    listed = await nft.table("inet")
    assert listed is not None
    assert Ledger().drift_table("inet", listed).what[0].what == "set inet vnetd seen is foreign"


async def test_a_chain_in_both_parts_is_filled_anew_while_others_refer_to_it(nft: Nft) -> None:
    await nft.commit(EMPTY, replace(BASE, elements=frozenset({element("verdicts", "virbr0", data="goto inner")})))
    changed = replace(INNER, rules=((DROP,),))
    await nft.commit(Fragment(chains=(INNER,)), Fragment(chains=(changed,)))
    assert (await held(nft)).chains == (changed, OUTER)


async def test_a_changed_hook_and_a_changed_set_type_take_effect(nft: Nft) -> None:
    elements = frozenset({element("guests", "virbr0")})
    await nft.commit(EMPTY, replace(BASE, elements=elements))
    moved = replace(OUTER, hook=Hook("filter", "input", 10))
    await nft.commit(Fragment(chains=(OUTER,)), Fragment(chains=(moved,)))
    assert (await held(nft)).chains == (INNER, moved)
    wider = replace(VERDICTS, key=("ifname", "ipv4_addr"))
    await nft.commit(Fragment(sets=(VERDICTS,)), Fragment(sets=(wider,)))
    assert wider in (await held(nft)).sets


async def test_a_refused_transaction_changes_nothing(nft: Nft) -> None:
    await nft.commit(EMPTY, BASE)
    before = await held(nft)
    remove = Fragment(chains=(OUTER,), elements=frozenset({element("guests", "virbr9")}))
    with pytest.raises(HostError) as raised:
        await nft.commit(remove, Fragment(elements=frozenset({element("guests", "virbr0")})))
    assert raised.value.operation == "commit rules"
    assert "No such file or directory" in raised.value.reason
    assert await held(nft) == before


@pytest.mark.parametrize(
    ("remove", "add", "reason"),
    [
        (EMPTY, Fragment(elements=frozenset({element("nowhere", "virbr0")})), "No such file or directory"),
        (EMPTY, Fragment(chains=(Chain("inet", "x", (iif_in("nowhere", ACCEPT),)),)), "No such file or directory"),
        (EMPTY, Fragment(chains=(Chain("inet", "x", ((jump("nowhere"),),)),)), "No such file or directory"),
        (Fragment(chains=(Chain("inet", "nowhere", ()),)), EMPTY, "No such file or directory"),
        (Fragment(sets=(replace(GUESTS, name="nowhere"),)), EMPTY, "No such file or directory"),
        (Fragment(chains=(INNER,)), EMPTY, "Device or resource busy"),
        (Fragment(sets=(GUESTS,)), EMPTY, "Device or resource busy"),
        (EMPTY, Fragment(elements=frozenset({element("verdicts", "virbr0", data="drop")})), "File exists"),
    ],
    ids=["no set", "rule of no set", "jump to no chain", "no chain", "no such set", "used chain", "used set", "twice"],
)
async def test_what_cannot_be_is_refused(nft: Nft, remove: Fragment, add: Fragment, reason: str) -> None:
    await nft.commit(EMPTY, replace(BASE, elements=frozenset({element("verdicts", "virbr0", data="goto inner")})))
    before = await held(nft)
    with pytest.raises(HostError) as raised:
        await nft.commit(remove, add)
    assert reason in raised.value.reason
    assert await held(nft) == before


async def test_handles_of_rules_are_those_of_the_listing(nft: Nft) -> None:
    assert await nft.handles("inet", "outer") == ()
    await nft.commit(EMPTY, BASE)
    listed = await nft.table("inet")
    assert listed is not None
    handles = {name: await nft.handles("inet", name) for name in ("outer", "inner")}
    assert handles == listed.handles
    assert [len(found) for found in handles.values()] == [len(OUTER.rules), len(INNER.rules)]
    assert await nft.handles("inet", "nowhere") == await nft.handles("bridge", "outer") == ()
    await nft.commit(Fragment(chains=(INNER,)), Fragment(chains=(INNER,)))
    assert set(handles["inner"]).isdisjoint(await nft.handles("inet", "inner"))


GUESTS_RULES = (iif_in("guests", ACCEPT), iif_in("guests", DROP), iif_in("guests", jump("inner")), (DROP,))


@pytest.mark.parametrize("kept", [(), (0,), (3,), (1, 2), (0, 2, 3), (0, 1, 2)])
async def test_rules_are_put_back_at_their_places_beside_those_that_stay(nft: Nft, kept: tuple[int, ...]) -> None:
    whole = replace(OUTER, rules=GUESTS_RULES)
    left = replace(whole, rules=tuple(whole.rules[place] for place in kept))
    await nft.commit(EMPTY, replace(BASE, chains=(left, INNER)))
    listed = await nft.chain("inet", "outer")
    assert listed is not None
    handles = dict(zip(kept, listed.handles.get("outer", ()), strict=True))
    lost = [place for place in range(len(whole.rules)) if place not in kept]
    following = [next((handles[one] for one in kept if one > place), 0) for place in lost]
    await nft.commit(EMPTY, EMPTY, [MissingRule(whole, *where) for where in zip(lost, following, strict=True)])
    after = await nft.chain("inet", "outer")
    assert after is not None
    assert after.chains == {"outer": whole.rules}
    assert all(after.handles["outer"][place] == handle for place, handle in handles.items())


@pytest.mark.parametrize("name", ["outer", "nowhere"])
async def test_a_rule_cannot_be_put_before_one_that_is_gone(nft: Nft, name: str) -> None:
    await nft.commit(EMPTY, BASE)
    before = await held(nft)
    with pytest.raises(HostError) as raised:
        await nft.commit(EMPTY, EMPTY, [MissingRule(replace(OUTER, name=name), 1, 999)])
    assert "No such file or directory" in raised.value.reason
    assert await held(nft) == before


async def test_rewriting_leaves_nothing_but_the_new_contents(nft: Nft) -> None:
    await nft.rewrite(replace(BASE, elements=frozenset({element("guests", "virbr0")})))
    contents = Fragment((Chain("bridge", "only", ()),))
    await nft.rewrite(contents)
    assert await nft.table("inet") is None
    listed = await nft.table("bridge")
    assert listed is not None
    assert dict(listed.chains) == {"only": ()}
    await nft.rewrite(EMPTY)
    assert await nft.table("bridge") is None


async def test_everything_can_be_taken_away_again(nft: Nft) -> None:
    ledger = Ledger()
    verdict = element("verdicts", "virbr0", data="jump inner")
    fragments = {"a": replace(BASE, elements=frozenset({verdict})), "b": BASE}
    for changes in (fragments, {"a": None}, {"b": None}):
        proposal = ledger.propose(changes)
        await nft.commit(proposal.remove, proposal.add)
        ledger.accept(proposal)
    assert await held(nft) == EMPTY


def fragments() -> st.SearchStrategy[Fragment | None]:
    """What an owner may want: some of the shared chains and sets, elements, and a chain of its own."""
    names = st.sampled_from(["virbr0", "virbr1", "br-lan"])
    guests = st.builds(lambda name: element("guests", name), names)
    verdicts = st.builds(lambda name: element("verdicts", name, data=f"goto own-{name}"), names)
    own = st.builds(lambda name: Chain("inet", f"own-{name}", ((ACCEPT,),)), names)
    return st.none() | st.builds(
        lambda some, verdict, chains: Fragment(
            (*BASE.chains, *{chain.name: chain for chain in chains}.values()),
            BASE.sets,
            frozenset(some) | {one for one in verdict if one.data[5:] in {chain.name for chain in chains}},
        ),
        st.sets(guests, max_size=3),
        st.sets(verdicts, max_size=3),
        st.lists(own, max_size=3),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.dictionaries(st.sampled_from("abc"), fragments(), min_size=1), min_size=1, max_size=5))
async def test_the_host_holds_what_the_ledger_says(nft: Nft, steps: list[dict[str, Fragment | None]]) -> None:
    await nft.rewrite(EMPTY)
    ledger = Ledger()
    for changes in steps:
        proposal = ledger.propose(changes)
        await nft.commit(proposal.remove, proposal.add)
        ledger.accept(proposal)
        assert await held(nft) == ordered(ledger.contents())
        assert not ledger.drift_table("inet", await nft.table("inet"))


async def test_a_chain_that_went_with_its_device_can_be_removed_still(nft: Nft) -> None:
    chain = Chain("netdev", "at_lo", ((ACCEPT,),), Hook("filter", "ingress", 0, device="lo"))
    await nft.commit(EMPTY, Fragment((chain,)))
    listed = await nft.table("netdev")
    assert listed is not None and (listed.chains, listed.hooks) == ({"at_lo": chain.rules}, {"at_lo": chain.hook})
    for _ in range(2):
        await nft.commit(Fragment((chain,)), EMPTY)
        assert await nft.chain("netdev", "at_lo") is None
    with pytest.raises(HostError):  # as a chain without hook it would do nothing
        await nft.commit(Fragment((chain,)), Fragment((chain,)))


async def test_what_leads_to_filters_at_one_more_device_comes_and_goes_beside_the_others(nft: Nft) -> None:
    ledger = Ledger()
    shared = Fragment((Chain("netdev", "shared", ()),), entrance("lo").sets)
    leading = frozenset({Element("netdev", part_of("from_guest", "lo"), ("lo",), "goto shared")})
    at_device = Fragment(entrance("lo").chains, entrance("lo").sets, leading)
    for changes in ({"others": shared}, {"port": at_device}, {"port": None}, {"port": at_device}):
        proposal = ledger.propose(changes)
        await nft.commit(proposal.remove, proposal.add)
        ledger.accept(proposal)
        listed = await nft.table("netdev")
        assert listed is not None
        assert not ledger.drift_table("netdev", listed)
        ledger.learn(listed)
        assert not ledger.unlearned()


async def test_clearing_leaves_no_table_and_may_be_repeated(nft: Nft) -> None:
    await nft.commit(EMPTY, BASE)
    await nft.clear()
    assert await nft.table("inet") is None
    await nft.clear()
    await nft.commit(EMPTY, BASE)
    assert await nft.table("inet") is not None


async def test_rules_of_counted_chains_are_counted_one_by_one_and_listed_without_counters(nft: Nft) -> None:
    counted = replace(OUTER, counted=True)
    await nft.commit(EMPTY, Fragment((counted, INNER), (GUESTS,)))
    counts = await nft.counts("inet", ["outer", "gone"])
    assert counts == {"outer": (Count(), Count())}
    assert (await held(nft)).chains == (INNER, OUTER)


async def test_vnetds_own_chains_are_no_strangers(nft: Nft) -> None:
    await nft.commit(EMPTY, BASE)
    assert await nft.strangers() == ()


async def test_a_transaction_is_done_by_whoever_it_is_handed_to_and_not_before(nft: Nft) -> None:
    commit = nft.committing(EMPTY, BASE)
    assert (commit.done, commit.refused, await nft.table("inet")) == (False, False, None)
    await act(commit)
    assert (commit.done, commit.refused) == (True, False)
    assert await held(nft) == ordered(BASE)
    unknown = nft.committing(Fragment(chains=(replace(INNER, name="unknown"),)), EMPTY)
    with pytest.raises(HostError, match="unknown"):
        await act(unknown)
    assert (unknown.done, unknown.refused) == (False, True)
    await act(nft.committing(EMPTY, EMPTY))
    assert await held(nft) == ordered(BASE)


async def test_transactions_are_done_on_many_threads_while_others_list_what_there_is(nft: Nft) -> None:
    await nft.commit(EMPTY, BASE)
    guests = [element("guests", f"vnet{number}") for number in range(40)]
    commits = [nft.committing(EMPTY, Fragment(elements=frozenset({guest}))) for guest in guests]
    await asyncio.gather(*(step for commit in commits for step in (act(commit), nft.table("inet"))))
    assert await nft.set("inet", "guests") == frozenset(guests)
