"""Variables of filter rules: lists in step, against each other, by index, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.filter import Filter
from vnetd.ruleset.filter import compile_binding
from vnetd.ruleset.filter_lookups import Lookup, lookup
from vnetd.ruleset.filter_resolve import flatten
from vnetd.ruleset.filter_variables import Values, combinations, evaluate, groups
from vnetd.xmlcodec.filter import filter_from_xml

A = ["1.1.1.1", "2.2.2.2", "3.3.3.3", "3.3.3.3"]
B = ["80", "90", "80", "80"]
C = ["1080", "1090", "1100", "1110"]
LISTS = {"A": A, "B": B, "C": C}


def one_rule(match: str, action: str = "drop", direction: str = "out") -> Filter:
    return filter_from_xml(
        f"<filter name='f'><rule action='{action}' direction='{direction}'>{match}</rule></filter>"
    ).value


def expanded(match: str, parameters: Mapping[str, Sequence[str]] = LISTS) -> list[tuple[str, ...]]:
    (placed,) = flatten({"f": one_rule(match)}, "f")
    values = [evaluate(placed, group, parameters) for group in groups(placed.rule.match)]
    names = [one.name for one in placed.rule.match.attributes]  # type: ignore[union-attr]
    return [tuple(found[name] for name in names) for found in combinations(values)]


def compiled(match: str, **parameters: Sequence[str]) -> None:
    compile_binding({"f": one_rule(match)}, "f", "vnet0", "52:54:00:00:00:01", parameters)


def test_variables_of_one_iterator_go_in_step_and_each_combination_comes_once() -> None:
    assert expanded("<tcp srcipaddr='$A' srcportstart='$B'/>") == [
        ("1.1.1.1", "80"),
        ("2.2.2.2", "90"),
        ("3.3.3.3", "80"),
    ]


def test_different_iterators_make_all_combinations_the_first_referenced_fastest() -> None:
    assert expanded("<tcp srcipaddr='$A[@1]' srcportstart='$B[@2]'/>") == [
        ("1.1.1.1", "80"),
        ("2.2.2.2", "80"),
        ("3.3.3.3", "80"),
        ("1.1.1.1", "90"),
        ("2.2.2.2", "90"),
        ("3.3.3.3", "90"),
    ]


def test_iterator_zero_is_fastest_even_if_it_is_referenced_later() -> None:
    found = expanded("<tcp srcipaddr='$A[@1]' srcportstart='$B' dstportstart='$C'/>")
    pairs = list(zip(B, C, strict=True))
    assert found == [(a, *pair) for a in ("1.1.1.1", "2.2.2.2", "3.3.3.3") for pair in pairs]


def test_an_index_picks_one_value() -> None:
    assert expanded("<tcp srcipaddr='$A[2]'/>") == [("3.3.3.3",)]


def test_an_index_outside_the_list_is_refused() -> None:
    with pytest.raises(Invalid, match=r"\$A\[9\]"):
        expanded("<tcp srcipaddr='$A[9]'/>")


def test_lists_in_step_must_be_equally_long() -> None:
    with pytest.raises(Invalid, match="equally many"):
        compiled("<tcp srcipaddr='$A' srcportstart='$B'/>", A=A, B=["1"])


def test_a_value_that_does_not_fit_its_attribute_is_refused_naming_both() -> None:
    with pytest.raises(Invalid, match=r"srcportstart.*'1.1.1.1'"):
        compiled("<tcp srcportstart='$A'/>", A=A)


def test_a_value_is_never_taken_for_a_variable() -> None:
    with pytest.raises(Invalid, match="srcipaddr"):
        compiled("<tcp srcipaddr='$A'/>", A=["$B"], B=["1.1.1.1"])


def test_a_variable_without_value_is_named_with_its_filter() -> None:
    with pytest.raises(Invalid, match=r"NOBODY \(in filter f\)"):
        compiled("<tcp srcipaddr='$NOBODY'/>")


def test_a_missing_address_of_the_guest_would_have_to_be_learned() -> None:
    with pytest.raises(Unsupported, match="IP"):
        compiled("<tcp srcipaddr='$IP'/>")
    with pytest.raises(Invalid, match="IP"):
        compiled("<tcp srcipaddr='$IP'/>", CTRL_IP_LEARNING=["none"])
    with pytest.raises(Invalid, match="PORT"):
        compiled("<tcp srcipaddr='$IP' srcportstart='$PORT'/>")


def test_an_unknown_mac_is_a_missing_variable() -> None:
    with pytest.raises(Invalid, match="MAC"):
        compile_binding({"f": one_rule("<mac srcmacaddr='$MAC'/>")}, "f", "vnet0", "", {})


def test_too_many_combinations_are_refused_before_they_are_made() -> None:
    many = [str(number) for number in range(1000)]
    match = "<tcp srcportstart='$P[@1]' srcportend='$Q[@2]' dstportstart='$R[@3]'/>"
    with pytest.raises(Invalid, match="1000000000"):
        compiled(match, P=many, Q=many, R=many)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_every_combination_comes_exactly_once(lengths: list[int]) -> None:
    names = ["srcportstart", "srcportend", "dstportstart", "dstportend"]
    attributes = " ".join(f"{names[i]}='$V{i}[@{i}]'" for i in range(len(lengths)))
    lists = {f"V{i}": [str(10 * i + j) for j in range(length)] for i, length in enumerate(lengths)}
    found = expanded(f"<tcp {attributes}/>", lists)
    total = 1
    for length in lengths:
        total *= length
    assert len(found) == len(set(found)) == total


def looked_up(match: str) -> tuple[Lookup, Values]:
    """How the only group of variables is looked up, and its values."""
    (placed,) = flatten({"f": one_rule(match)}, "f")
    (group,) = groups(placed.rule.match)
    found = lookup(placed, group)
    assert found is not None
    return found, evaluate(placed, group, {**LISTS, "M": ["52:54:00:00:00:01"], "N": ["24", "16", "8", "8"]})


@pytest.mark.parametrize(
    "match",
    [
        "<tcp srcipaddr='$A'/>",
        "<tcp srcipaddr='$A' dstportstart='22'/>",
        "<udp srcipaddr='$A' dstipaddr='$A'/>",
        "<mac srcmacaddr='$M'/>",
        "<arp arpsrcipaddr='$A'/>",
    ],
)
def test_values_that_are_compared_as_they_are_go_into_their_set_as_they_are(match: str) -> None:
    found, values = looked_up(match)
    assert found.plain
    assert found.rows("f", values) is values.rows
    assert list(values.rows) == replace(found, plain=False).rows("f", values)


@pytest.mark.parametrize(
    "match",
    [
        "<tcp srcipaddr='$A' srcipmask='24'/>",
        "<tcp srcipaddr='$A' srcipmask='$N'/>",
        "<tcp srcipfrom='1.0.0.1' srcipto='$A'/>",
        "<tcp match='no' srcipaddr='$A'/>",
        "<tcp dstportstart='$B'/>",
        "<tcp dstportstart='$B' dstportend='$C'/>",
        "<tcp dstportstart='1' dstportend='$B'/>",
        "<tcp srcipaddr='$A' dstportstart='$B'/>",
    ],
)
def test_values_of_ranges_ports_and_negations_are_made_elements_first(match: str) -> None:
    found, values = looked_up(match)
    assert not found.plain
    assert found.rows("f", values) is not values.rows
