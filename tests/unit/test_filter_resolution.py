"""From named filters to ordered rules: references, scopes, priorities and the order of chains."""

from collections.abc import Sequence

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.filter import Filter
from vnetd.ruleset.filter import check_definition, compile_binding, references
from vnetd.ruleset.filter_resolve import Jump, arrange, flatten
from vnetd.xmlcodec.filter import filter_from_xml
from vnetd.xmlcodec.filter_builtin import builtin_filters


def define(*bodies: str) -> dict[str, Filter]:
    """Filters from ``name attributes|content``."""
    found = {}
    for body in bodies:
        head, _, content = body.partition("|")
        name, _, attributes = head.partition(" ")
        found[name] = filter_from_xml(f"<filter name='{name}' {attributes}>{content}</filter>").value
    return found


def drop(priority: int = 500, direction: str = "out", match: str = "") -> str:
    return f"<rule action='drop' direction='{direction}' priority='{priority}'>{match}</rule>"


def ref(name: str, **parameters: str) -> str:
    inner = "".join(f"<parameter name='{key}' value='{value}'/>" for key, value in parameters.items())
    return f"<filterref filter='{name}'>{inner}</filterref>"


def order(filters: dict[str, Filter], name: str, towards_guest: bool) -> list[str]:
    """The root chain in words."""
    root = arrange(flatten(filters, name), towards_guest).root
    return [one.chain if isinstance(one, Jump) else f"{one.rule.action} {one.priority}" for one in root]


def test_clean_traffic_comes_in_the_order_libvirt_gives_it() -> None:
    filters = dict(builtin_filters())
    assert order(filters, "clean-traffic", towards_guest=False) == [
        *("mac", "ipv4-ip", "accept -650", "arp-mac", "arp-ip", "accept -500", "rarp", "accept 500", "drop 1000")
    ]
    assert order(filters, "clean-traffic", towards_guest=True) == ["ipv4", "accept -500", "rarp", "drop 1000"]


def test_a_chain_goes_before_a_root_rule_of_the_same_priority_and_last_if_none_is_higher() -> None:
    filters = define(
        f"f|{drop(-700)}{drop(-701)}{ref('a')}{ref('b')}",
        f"a chain='ipv4'|{drop()}",
        f"b chain='ipv6' priority='900'|{drop()}",
    )
    assert order(filters, "f", towards_guest=False) == ["drop -701", "ipv4", "drop -700", "ipv6"]


def test_a_chain_exists_only_where_it_has_a_rule_of_that_direction() -> None:
    filters = define(f"f|{ref('a')}", f"a chain='ipv4'|{drop(direction='in')}")
    assert order(filters, "f", towards_guest=False) == []
    assert order(filters, "f", towards_guest=True) == ["ipv4"]


def test_rules_come_by_priority_and_else_as_written_depth_first() -> None:
    filters = define(f"f|{drop(2)}{ref('g')}{drop(1)}{drop(2)}", f"g|{drop(2)}{drop(1)}")
    found = [(one.origin, one.priority) for one in flatten(filters, "f")]
    assert found == [("g", 1), ("f", 1), ("f", 2), ("g", 2), ("f", 2)]


def test_rules_below_their_chains_priority_are_raised_to_it_without_moving() -> None:
    filters = define(f"f chain='ipv4'|{drop(-900)}{drop(-800)}{drop(-1000)}")
    assert [one.priority for one in flatten(filters, "f")] == [-700, -700, -700]


def test_outer_parameters_override_inner_ones() -> None:
    match = "<ip srcipaddr='$A' dstipaddr='$B'/>"
    filters = define(
        f"f|{ref('g', A='10.0.0.1', B='10.0.0.2')}", f"g|{ref('h', A='10.9.9.9')}", f"h|{drop(match=match)}"
    )
    assert values(filters, "f") == {("10.0.0.1", "10.0.0.2")}
    assert values(filters, "f", A=["10.0.0.3"]) == {("10.0.0.3", "10.0.0.2")}


def values(filters: dict[str, Filter], name: str, **parameters: Sequence[str]) -> set[tuple[str, ...]]:
    """What is in the sets of variables for device vnet0."""
    fragment = compile_binding(filters, name, "vnet0", "52:54:00:00:00:01", parameters).fragment
    return {one.key[1:] for one in fragment.elements if not one.data}


def test_the_same_variable_with_other_values_elsewhere_is_kept_apart() -> None:
    match = "<ip srcipaddr='$A'/>"
    filters = define(f"f|{ref('g', A='10.0.0.1')}{ref('g', A='10.0.0.2')}", f"g|{drop(match=match)}")
    fragment = compile_binding(filters, "f", "vnet0", "52:54:00:00:00:01", {}).fragment
    held = {one.set: one.key[1] for one in fragment.elements if not one.data}
    assert sorted(held.values()) == ["10.0.0.1", "10.0.0.2"]


def test_references_are_followed_to_the_end_and_may_lead_nowhere() -> None:
    filters = define(f"a|{ref('b')}", f"b|{ref('c')}{ref('gone')}", "c|")
    assert references(filters, "a") == {"b", "c", "gone"}


def test_a_missing_filter_is_named_when_it_is_needed_and_not_before() -> None:
    filters = define(f"a|{ref('gone')}")
    check_definition({}, filters["a"])
    with pytest.raises(Invalid, match="gone"):
        compile_binding(filters, "a", "vnet0", "52:54:00:00:00:01", {})
    with pytest.raises(Invalid, match="nowhere"):
        compile_binding(filters, "nowhere", "vnet0", "52:54:00:00:00:01", {})


def test_a_filter_that_would_refer_to_itself_is_refused_with_the_way_it_takes() -> None:
    filters = define(f"a|{ref('b')}", f"b|{ref('c')}", "c|")
    check_definition(filters, filters["c"])
    with pytest.raises(Invalid, match="c → a → b → c"):
        check_definition(filters, define(f"c|{ref('a')}")["c"])
    with pytest.raises(Invalid, match="a → a"):
        check_definition({}, define(f"a|{ref('a')}")["a"])


def test_references_that_multiply_are_refused_before_they_fill_memory() -> None:
    filters = define(*(f"f{i}|{ref(f'f{i + 1}') * 2}" for i in range(60)), f"f60|{drop()}")
    with pytest.raises(Invalid, match="10000"):
        check_definition(filters, filters["f0"])
    with pytest.raises(Invalid, match="10000"):
        compile_binding(filters, "f0", "vnet0", "52:54:00:00:00:01", {})


def test_references_that_go_too_deep_are_refused() -> None:
    filters = define(*(f"f{i}|{ref(f'f{i + 1}')}" for i in range(2000)), "f2000|")
    with pytest.raises(Invalid, match="64 levels"):
        check_definition(filters, filters["f0"])
    with pytest.raises(Invalid, match="64 levels"):
        compile_binding(filters, "f0", "vnet0", "52:54:00:00:00:01", {})
