"""The ledger of the ruleset: what drifts, and how it comes back."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_nft import MemoryNft
from support.rules import (
    ACCEPT,
    BASE,
    DROP,
    FORWARD,
    GUESTS,
    INNER,
    LONG,
    SEEN,
    SUBNETS,
    USES_GUESTS,
    VERDICTS,
    accepted,
    base_with,
    element,
    listed,
)

from vnetd.plan.ledger import Drift, Drifted, Ledger, merge
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Hook, TableContents


async def test_a_table_as_it_should_be_has_not_drifted() -> None:
    ledger = Ledger()
    contents = base_with(element("guests", "virbr0"), element("subnets", "a", "10.0.0.0-10.0.0.255"))
    accepted(ledger, a=contents)
    assert not ledger.drift_table("inet", await listed(contents))
    assert not ledger.drift_table("bridge", None)


def test_a_missing_table_is_one_drift_of_all_owners_that_brings_all() -> None:
    ledger = Ledger()
    contents = base_with(element("guests", "virbr0"))
    accepted(ledger, a=contents, b=BASE)
    drift = ledger.drift_table("inet", None)
    assert drift.what == (Drifted("table inet vnetd is missing", frozenset({"a", "b"})),)
    assert (drift.remove, drift.add) == (EMPTY, contents)


@pytest.mark.parametrize(
    ("found", "words", "owners"),
    [
        ([], ["element virbr0 of set inet vnetd verdicts is missing"], {"a"}),
        (["accept"], ["element virbr0 of set inet vnetd verdicts has another verdict"], {"a"}),
        (["drop", "evil0"], ["element evil0 of set inet vnetd verdicts is foreign"], set()),
    ],
)
def test_elements_that_are_missing_changed_or_foreign(found: list[str], words: list[str], owners: set[str]) -> None:
    ledger = Ledger()
    accepted(ledger, a=base_with(element("verdicts", "virbr0", data="drop")), b=BASE)
    verdicts = {text for text in found if text != "evil0"}
    have = {element("verdicts", "virbr0", data=text) for text in verdicts}
    have |= {element("verdicts", "evil0", data="accept")} if "evil0" in found else set()
    drift = ledger.drift_set("inet", "verdicts", frozenset(have))
    assert [drifted.what for drifted in drift.what] == words
    assert drift.what[0].owners == owners
    assert (have - drift.remove.elements) | drift.add.elements == {element("verdicts", "virbr0", data="drop")}


def test_a_range_written_otherwise_than_it_is_listed_has_not_drifted() -> None:
    ledger = Ledger()
    accepted(ledger, a=base_with(element("subnets", "br-lan", "10.0.0.1/32")))
    assert not ledger.drift_set("inet", "subnets", frozenset({element("subnets", "br-lan", "10.0.0.1")}))
    drift = ledger.drift_set("inet", "subnets", frozenset({element("subnets", "br-lan", "10.0.0.2")}))
    assert len(drift.what) == 2


def test_a_missing_set_comes_back_with_its_elements_and_a_foreign_one_goes() -> None:
    ledger = Ledger()
    mine = element("guests", "virbr0")
    accepted(ledger, a=base_with(mine))
    missing = ledger.drift_set("inet", "guests", None)
    assert missing.add == Fragment(sets=(GUESTS,), elements=frozenset({mine}))
    foreign = ledger.drift_set("inet", "evil", frozenset())
    assert [one.name for one in foreign.remove.sets] == ["evil"]
    assert foreign.what[0].owners == frozenset()
    assert not ledger.drift_set("inet", "evil", None)


def test_what_packets_added_to_a_dynamic_set_is_no_drift() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    assert not ledger.drift_set("inet", "seen", frozenset({element("seen", "10.0.0.1")}))


@pytest.mark.parametrize(
    ("have", "words"),
    [
        (None, "chain inet vnetd forward is missing"),
        (replace(FORWARD, rules=FORWARD.rules[:1]), "chain inet vnetd forward has changed rules"),
        (replace(FORWARD, rules=(*FORWARD.rules, (ACCEPT,))), "chain inet vnetd forward has changed rules"),
        (
            replace(FORWARD, hook=Hook("filter", "forward", 0, policy="drop")),
            "chain inet vnetd forward has another hook or policy",
        ),
        (replace(FORWARD, hook=None), "chain inet vnetd forward has another hook or policy"),
    ],
)
def test_a_chain_that_is_missing_or_changed_comes_back(have: Chain | None, words: str) -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    hooks = {"forward": have.hook} if have and have.hook else {}
    drift = ledger.drift_chain(
        "inet", "forward", TableContents("inet", {"forward": have.rules}, hooks) if have else None
    )
    assert drift.what == (Drifted(words, frozenset({"a"})),)
    assert drift.remove.chains == ((have,) if have else ())
    assert drift.add == Fragment(chains=(FORWARD,))


def test_a_foreign_chain_goes() -> None:
    hook = Hook("filter", "input", -10)
    evil = Chain("inet", "evil", ((ACCEPT,),), hook)
    drift = Ledger().drift_chain("inet", "evil", TableContents("inet", {"evil": evil.rules}, {"evil": hook}))
    assert drift.what == (Drifted("chain inet vnetd evil is foreign", frozenset()),)
    assert (drift.remove, drift.add) == (Fragment(chains=(evil,)), EMPTY)


def comparison(header: str, field: str, right: Any, op: str = "==") -> Any:
    return {"match": {"op": op, "left": {"payload": {"protocol": header, "field": field}}, "right": right}}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (comparison("ip", "saddr", {"range": ["10.0.0.1"] * 2}, "!="), comparison("ip", "saddr", "10.0.0.1", "!=")),
        (comparison("ip", "protocol", "tcp"), comparison("ip", "protocol", 6)),
        (comparison("ip6", "nexthdr", {"set": ["tcp", "udp"]}), comparison("ip6", "nexthdr", {"set": [6, 17]})),
        (comparison("icmp", "code", "port-unreachable"), comparison("icmp", "code", 3)),
        (comparison("icmpv6", "code", {"range": ["no-route", 2]}), comparison("icmpv6", "code", {"range": [0, 2]})),
    ],
)
def test_what_libnftables_lists_otherwise_on_another_system_has_not_drifted(older: Any, newer: Any) -> None:
    for written, shown in ((older, newer), (newer, older)):
        ledger = Ledger()
        accepted(ledger, a=Fragment((replace(INNER, rules=((written, DROP),)),)))
        assert not ledger.drift_chain("inet", "inner", TableContents("inet", {"inner": ((shown, DROP),)}))
        other = comparison(*shown["match"]["left"]["payload"].values(), "10.0.0.9")
        assert ledger.drift_chain("inet", "inner", TableContents("inet", {"inner": ((other, DROP),)}))


def test_the_listed_form_is_learned_once_and_forgotten_when_the_chain_changes() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    other_form = TableContents("inet", {"inner": (({"accept": {}},),)}, handles={"inner": (7,)})
    assert ledger.drift_chain("inet", "inner", other_form)
    ledger.learn(other_form)
    assert not ledger.drift_chain("inet", "inner", other_form)
    assert ledger.unlearned() == (("inet", "forward"),)
    ledger.learn(TableContents("inet", {"inner": ((DROP,),)}))
    assert not ledger.drift_chain("inet", "inner", other_form)
    accepted(ledger, a=replace(BASE, chains=(FORWARD, replace(INNER, rules=((DROP,),)))))
    assert ("inet", "inner") in ledger.unlearned()


def learned_long() -> Ledger:
    """A ledger of one chain whose rules have the handles 11, 12, …"""
    ledger = Ledger()
    accepted(ledger, a=Fragment((LONG, INNER)))
    ledger.learn(TableContents("inet", {"long": LONG.rules}, handles={"long": (11, 12, 13, 14, 15)}))
    return ledger


def test_handles_tell_which_rules_are_missing() -> None:
    ledger = learned_long()
    assert ledger.drift_rules("inet", "long", (11, 12, 13, 14, 15)) == Drift()
    drift = ledger.drift_rules("inet", "long", (12, 14))
    assert drift is not None
    assert (drift.remove, drift.add) == (EMPTY, EMPTY)
    assert drift.what == (Drifted("chain inet vnetd long has changed rules", frozenset({"a"})),)
    assert [(rule.place, rule.before) for rule in drift.rules] == [(0, 12), (2, 14), (4, 0)]


@pytest.mark.parametrize("have", [(11, 12, 13, 14, 15, 16), (11, 12, 99, 14, 15), (12, 11, 13, 14, 15), (16,)])
def test_handles_of_foreign_rules_and_rules_in_another_order_do_not_tell(have: tuple[int, ...]) -> None:
    assert learned_long().drift_rules("inet", "long", have) is None


def test_handles_are_known_only_of_what_was_listed_since_it_was_written() -> None:
    handles = (11, 12, 13, 14, 15)
    ledger = learned_long()
    assert ledger.drift_rules("inet", "inner", (3,)) is None
    assert ledger.drift_rules("inet", "foreign", ()) is None
    ledger.forget_handles([LONG])
    assert ledger.drift_rules("inet", "long", handles) is None
    other = replace(LONG, rules=(*LONG.rules[:-1], (DROP,)))
    ledger.learn(TableContents("inet", {"long": other.rules}, handles={"long": handles}))
    assert ledger.drift_rules("inet", "long", handles) is None, "that is not the form it is listed in"
    ledger.learn(TableContents("inet", {"long": LONG.rules}, handles={"long": handles}))
    assert ledger.drift_rules("inet", "long", handles) == Drift()
    ledger.forget_table("bridge")
    assert ledger.drift_rules("inet", "long", handles) == Drift()
    ledger.forget_table("inet")
    assert ledger.drift_rules("inet", "long", handles) is None
    ledger = learned_long()
    accepted(ledger, a=Fragment((other, INNER)))
    assert ledger.drift_rules("inet", "long", handles) is None


def test_a_listing_with_another_number_of_rules_is_not_learned() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    ledger.learn(TableContents("inet", {"inner": (), "foreign": ((ACCEPT,),)}))
    ledger.learn(None)
    assert set(ledger.unlearned()) == {("inet", "forward"), ("inet", "inner")}


async def test_a_set_of_another_type_is_found_when_the_table_is_listed_and_replaced_with_all_that_uses_it() -> None:
    ledger = Ledger()
    contents = base_with(element("guests", "virbr0"))
    accepted(ledger, a=contents)
    nft = MemoryNft()
    old = replace(GUESTS, flags=("interval",))
    await nft.rewrite(replace(contents, sets=(old, SUBNETS, VERDICTS, SEEN)))
    drift = ledger.drift_table("inet", await nft.table("inet"))
    assert [drifted.what for drifted in drift.what] == ["set inet vnetd guests has another type"]
    await nft.commit(drift.remove, drift.add, drift.rules)
    assert not ledger.drift_table("inet", await nft.table("inet"))


async def test_drift_of_many_things_heals_in_one_transaction() -> None:
    ledger = Ledger()
    accepted(ledger, a=base_with(element("guests", "virbr0"), element("verdicts", "virbr0", data="goto inner")))
    nft = MemoryNft()
    await nft.rewrite(Fragment((replace(FORWARD, rules=()), Chain("inet", "evil", ())), (SUBNETS,)))
    drift = merge(
        *[ledger.drift_chain("inet", name, await nft.chain("inet", name)) for name in ("forward", "inner", "evil")],
        *[ledger.drift_set("inet", name, await nft.set("inet", name)) for name in ("guests", "verdicts", "seen")],
    )
    assert len(drift.what) == 6
    await nft.commit(drift.remove, drift.add, drift.rules)
    assert not ledger.drift_table("inet", await nft.table("inet"))


@given(st.sets(st.integers(0, len(LONG.rules) - 1), min_size=1))
async def test_missing_rules_come_back_at_their_places_and_the_others_stay(lost: set[int]) -> None:
    ledger, nft = Ledger(), MemoryNft()
    await nft.commit(*accepted(ledger, a=Fragment((LONG, INNER))))
    for place in sorted(lost, reverse=True):
        nft.delete_rule("inet", "long", place)
    kept = set(nft.tables["inet"].handles["long"])
    drift = ledger.drift_chain("inet", "long", await nft.chain("inet", "long"))
    assert (drift.remove, drift.add, len(drift.rules)) == (EMPTY, EMPTY, len(lost))
    await nft.commit(drift.remove, drift.add, drift.rules)
    assert nft.tables["inet"].chains["long"].rules == LONG.rules
    assert kept <= set(nft.tables["inet"].handles["long"])


@pytest.mark.parametrize(
    "have",
    [((DROP,), USES_GUESTS), ((DROP,), (ACCEPT,)), (USES_GUESTS, (DROP,), (DROP,)), ((ACCEPT,),)],
    ids=["another order", "a foreign one instead", "one too many", "only a foreign one"],
)
def test_a_chain_that_lacks_more_than_rules_is_filled_anew(have: tuple[tuple[Any, ...], ...]) -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    handles = {"forward": tuple(range(1, len(have) + 1))}
    hooks = {"forward": Hook("filter", "forward", 0)}
    drift = ledger.drift_chain("inet", "forward", TableContents("inet", {"forward": have}, hooks, handles=handles))
    assert (drift.add.chains, drift.rules) == ((FORWARD,), ())


def test_a_chain_with_another_policy_that_lacks_a_rule_is_made_anew() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    closed = {"forward": Hook("filter", "forward", 0, policy="drop")}
    listed = TableContents("inet", {"forward": FORWARD.rules[:1]}, closed, handles={"forward": (1,)})
    drift = ledger.drift_chain("inet", "forward", listed)
    assert (drift.add.chains, drift.rules) == ((FORWARD,), ())


async def test_a_chain_that_is_filled_anew_with_the_set_it_uses_gets_no_rule_besides() -> None:
    ledger, nft = Ledger(), MemoryNft()
    accepted(ledger, a=BASE)
    old = replace(GUESTS, flags=("interval",))
    await nft.rewrite(replace(BASE, sets=(old, SUBNETS, VERDICTS, SEEN)))
    nft.delete_rule("inet", "forward", 1)
    drift = ledger.drift_table("inet", await nft.table("inet"))
    assert len(drift.what) == 2
    assert drift.rules == ()
    await nft.commit(drift.remove, drift.add, drift.rules)
    assert not ledger.drift_table("inet", await nft.table("inet"))


NAMES = ["virbr0", "virbr1", "virbr2"]


@st.composite
def fragments(draw: st.DrawFn) -> Fragment | None:
    """Some shared things, a chain of its own and what refers to it; ``None`` now and then."""
    if draw(st.integers(0, 4)) == 0:
        return None
    own = draw(st.lists(st.sampled_from(NAMES), unique=True))
    chains = tuple(Chain("inet", f"own-{name}", ((ACCEPT,),)) for name in own)
    verdicts = {element("verdicts", name, data=f"goto own-{name}") for name in own if draw(st.booleans())}
    guests = {element("guests", name) for name in draw(st.sets(st.sampled_from(NAMES)))}
    return Fragment((*BASE.chains, *chains), BASE.sets, frozenset(verdicts | guests))


histories = st.lists(st.dictionaries(st.sampled_from("abcd"), fragments(), min_size=1), max_size=8)


@given(histories)
async def test_whatever_happens_the_host_holds_the_union_of_what_is_wanted(
    history: list[dict[str, Fragment | None]],
) -> None:
    ledger, nft = Ledger(), MemoryNft()
    wanted: dict[str, Fragment] = {}
    for changes in history:
        proposal = ledger.propose(changes)
        await nft.commit(proposal.remove, proposal.add)
        ledger.accept(proposal)
        wanted = {name: part for name, part in {**wanted, **changes}.items() if part}
        expected = frozenset[Element]().union(*(fragment.elements for fragment in wanted.values()))
        assert ledger.contents().elements == expected
        assert {chain.name for chain in ledger.contents().chains} == {
            chain.name for fragment in wanted.values() for chain in fragment.chains
        }
        assert not ledger.drift_table("inet", await nft.table("inet"))
        again = ledger.propose(changes)
        assert (again.remove, again.add) == (EMPTY, EMPTY)


@given(fragments(), fragments())
async def test_whatever_is_found_heals_to_what_is_wanted(found: Fragment | None, wanted: Fragment | None) -> None:
    ledger, nft = Ledger(), MemoryNft()
    accepted(ledger, a=wanted)
    await nft.rewrite(found or EMPTY)
    drift = ledger.drift_table("inet", await nft.table("inet"))
    await nft.commit(drift.remove, drift.add, drift.rules)
    assert not ledger.drift_table("inet", await nft.table("inet"))
    assert not drift or bool(drift.what)
