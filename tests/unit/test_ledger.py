"""The ledger of the ruleset: deltas counted by owner."""

from dataclasses import replace

import pytest
from support.rules import (
    BASE,
    DROP,
    FORWARD,
    GUESTS,
    INNER,
    SEEN,
    SUBNETS,
    VERDICTS,
    accepted,
    base_with,
    element,
)

from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import EMPTY, Fragment


def test_the_first_owner_brings_everything_and_the_second_only_what_is_its_own() -> None:
    ledger = Ledger()
    first = base_with(element("guests", "virbr0"))
    assert accepted(ledger, a=first) == (EMPTY, first)
    own = element("guests", "virbr1")
    assert accepted(ledger, b=base_with(own)) == (EMPTY, Fragment(elements=frozenset({own})))


def test_shared_things_go_with_their_last_owner() -> None:
    ledger = Ledger()
    shared, own = element("subnets", "virbr0", "10.0.0.0/24"), element("guests", "virbr0")
    accepted(ledger, a=base_with(shared, own), b=base_with(shared))
    assert accepted(ledger, a=None) == (Fragment(elements=frozenset({own})), EMPTY)
    assert accepted(ledger, b=None) == (base_with(shared), EMPTY)
    assert ledger.contents() == EMPTY


@pytest.mark.parametrize("copied", [False, True], ids=["the same", "equal"])
def test_who_joins_what_others_hold_changes_nothing_and_is_counted(copied: bool) -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    for owner in ("b", "c"):
        joined = replace(BASE, chains=tuple(replace(one) for one in BASE.chains)) if copied else BASE
        assert accepted(ledger, **{owner: joined}) == (EMPTY, EMPTY)
    assert ledger.owners_of(FORWARD) == {"a", "b", "c"}
    for owner in ("a", "c"):
        assert accepted(ledger, **{owner: None}) == (EMPTY, EMPTY)
    assert accepted(ledger, b=None) == (BASE, EMPTY)
    assert ledger.contents() == EMPTY


def test_who_comes_while_another_goes_keeps_what_both_hold() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    assert accepted(ledger, a=None, b=BASE) == (EMPTY, EMPTY)
    assert ledger.owners_of(FORWARD) == {"b"}
    assert accepted(ledger, b=None) == (BASE, EMPTY)


def test_asking_again_for_what_is_there_changes_nothing() -> None:
    ledger = Ledger()
    accepted(ledger, a=base_with(element("guests", "virbr0")))
    assert accepted(ledger, a=base_with(element("guests", "virbr0"))) == (EMPTY, EMPTY)
    assert accepted(ledger, unknown=None) == (EMPTY, EMPTY)


def test_a_chain_that_keeps_its_name_is_in_both_parts() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    changed = replace(INNER, rules=((DROP,),))
    wanted = replace(BASE, chains=(FORWARD, changed))
    assert accepted(ledger, a=wanted) == (Fragment(chains=(INNER,)), Fragment(chains=(changed,)))


def test_a_verdict_that_changes_goes_and_comes() -> None:
    ledger = Ledger()
    before, after = (element("verdicts", "virbr0", data=data) for data in ("drop", "goto inner"))
    accepted(ledger, a=base_with(before))
    remove, add = accepted(ledger, a=base_with(after))
    assert (remove, add) == (Fragment(elements=frozenset({before})), Fragment(elements=frozenset({after})))


def test_a_set_of_another_type_comes_with_its_elements_and_the_chains_that_use_it() -> None:
    ledger = Ledger()
    mine = element("guests", "virbr0")
    accepted(ledger, a=base_with(mine))
    wider = replace(GUESTS, flags=("interval",))
    remove, add = accepted(ledger, a=replace(base_with(mine), sets=(wider, SUBNETS, VERDICTS, SEEN)))
    assert remove == Fragment((FORWARD,), (GUESTS,), frozenset({mine}))
    assert add == Fragment((FORWARD,), (wider,), frozenset({mine}))


def test_two_owners_that_want_a_chain_to_be_different_are_a_mistake_that_is_named() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    other = replace(BASE, chains=(FORWARD, replace(INNER, rules=((DROP,),))))
    with pytest.raises(ValueError, match="inner"):
        ledger.propose({"b": other})
    with pytest.raises(ValueError, match="inner"):
        Ledger().propose({"a": BASE, "b": other})
    assert accepted(ledger, a=other, b=other)[1] == Fragment(chains=(other.chains[1],))


@pytest.mark.parametrize(
    ("fragment", "name"),
    [
        (Fragment((INNER, replace(INNER, rules=()))), "inner"),
        (Fragment(elements=frozenset({element("guests", "virbr0")})), "guests"),
        (base_with(element("verdicts", "a", data="drop"), element("verdicts", "a", data="accept")), "verdicts"),
    ],
    ids=["a chain twice", "an element without its set", "an element twice"],
)
def test_a_fragment_that_contradicts_itself_is_refused(fragment: Fragment, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Ledger().propose({"a": fragment})


def test_a_set_cannot_go_while_somebody_has_elements_in_it() -> None:
    ledger = Ledger()
    accepted(ledger, a=BASE)
    accepted(ledger, b=Fragment(elements=frozenset({element("guests", "virbr0")})))
    with pytest.raises(ValueError, match="guests"):
        ledger.propose({"a": None})
    assert accepted(ledger, a=None, b=None)[0].sets == BASE.sets


def test_a_proposal_that_was_not_accepted_leaves_no_trace_and_a_stale_one_is_refused() -> None:
    ledger = Ledger()
    forgotten = ledger.propose({"a": BASE})
    assert ledger.contents() == EMPTY
    assert ledger.fragment("a") is None
    accepted(ledger, b=BASE)
    with pytest.raises(ValueError, match="another proposal"):
        ledger.accept(forgotten)
    assert ledger.owners() == {"b"}


def test_owners_of_shared_and_own_things_are_known() -> None:
    ledger = Ledger()
    own = element("guests", "virbr0")
    accepted(ledger, a=base_with(own), b=BASE)
    assert ledger.owners_of(FORWARD) == ledger.owners_of(GUESTS) == {"a", "b"}
    assert ledger.owners_of(own) == {"a"}
    assert ledger.owners_of(element("guests", "evil0")) == frozenset()
