"""Variables of one rule: their values, how lists run in step or against each other, and how many that makes.

Variables of one iterator go in step and must have equally many values; different iterators make all
combinations, ``@0`` fastest, then the others in order of first reference. Source: libvirt's nwfilter page.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.filter import Match, canonical_value
from vnetd.model.filter_values import Variable, parse_variable
from vnetd.ruleset.filter_resolve import Placed

MAX_COMBINATIONS = 100_000


@dataclass(frozen=True, slots=True)
class Group:
    """Attributes whose variables go in step."""

    attributes: tuple[str, ...]
    variables: tuple[Variable, ...]


@dataclass(frozen=True, slots=True)
class Values:
    """A group with its rows of canonical values, each once."""

    group: Group
    rows: tuple[tuple[str, ...], ...]


def groups(match: Match | None) -> tuple[Group, ...]:
    """The groups of a rule, the one that varies fastest first. A fixed index is a group of its own."""
    by_iterator: dict[object, list[tuple[str, Variable]]] = {}
    for attribute in match.attributes if match else ():
        variable = parse_variable(attribute.value)
        if variable:
            key = variable.iterator if variable.index is None else attribute.name
            by_iterator.setdefault(key, []).append((attribute.name, variable))
    ordered = sorted(by_iterator.items(), key=lambda item: item[0] != 0)
    return tuple(Group(tuple(n for n, _ in members), tuple(v for _, v in members)) for _, members in ordered)


def missing(needed: Mapping[str, str], available: Mapping[str, object]) -> None:
    """Raise for variables without value; ``needed`` maps each to the filter that uses it.

    ``Unsupported`` if an address that could be learned (``IP``) is all that is missing, else ``Invalid``.
    """
    absent = {name: origin for name, origin in needed.items() if name not in available}
    if not absent:
        return
    if set(absent) == {"IP"} and available.get("CTRL_IP_LEARNING") != ("none",):
        raise Unsupported(
            f"filter {absent['IP']} needs variable IP, and nothing was learned of its guest's address here: give it"
        )
    what = ", ".join(f"{name} (in filter {origin})" for name, origin in sorted(absent.items()))
    raise Invalid(f"unresolvable variables: {what}; give them as parameters of the binding")


def evaluate(placed: Placed, group: Group, parameters: Mapping[str, Sequence[str]]) -> Values:
    """The values of a group. Raises ``Invalid`` for unequal lengths, an index too high or a value that is wrong."""
    lists = [_picked(placed, variable, _values(placed, variable, parameters)) for variable in group.variables]
    if not all(lists):
        return Values(group, ())
    if len({len(one) for one in lists}) != 1:
        what = ", ".join(f"{one}: {len(values)}" for one, values in zip(group.variables, lists, strict=True))
        raise Invalid(f"filter {placed.origin}: variables of one iterator need equally many values ({what})")
    columns = [
        [_canonical(placed, name, value) for value in values]
        for name, values in zip(group.attributes, lists, strict=True)
    ]
    return Values(group, tuple(dict.fromkeys(zip(*columns, strict=True))))


def combinations(values: Sequence[Values]) -> Iterator[dict[str, str]]:
    """All combinations, the first group varying fastest."""
    for rows in product(*(one.rows for one in reversed(values))):
        combined: dict[str, str] = {}
        for one, row in zip(reversed(values), rows, strict=True):
            combined.update(zip(one.group.attributes, row, strict=True))
        yield combined


def count(values: Sequence[Values]) -> int:
    """How many combinations there are."""
    return prod(len(one.rows) for one in values)


def _values(placed: Placed, variable: Variable, parameters: Mapping[str, Sequence[str]]) -> Sequence[str]:
    values = parameters.get(variable.name)
    return placed.scope[variable.name] if values is None else values


def _picked(placed: Placed, variable: Variable, values: Sequence[str]) -> Sequence[str]:
    if not values:
        return ()  # not learned yet: nothing has it
    if len(values) > MAX_COMBINATIONS:
        raise Invalid(f"variable {variable.name} has {len(values)} values: {MAX_COMBINATIONS} are the most")
    if variable.index is None:
        return values
    if variable.index >= len(values):
        raise Invalid(
            f"filter {placed.origin}: index of {variable} is outside its list of {len(values)} value(s), counted from 0"
        )
    return values[variable.index : variable.index + 1]


def _canonical(placed: Placed, name: str, value: str) -> str:
    assert placed.rule.match is not None
    try:
        if value.startswith("$"):
            raise ValueError(f"the value {value!r} for {name} cannot be a variable itself")
        return canonical_value(placed.rule.match.spec, name, value)
    except ValueError as error:
        raise Invalid(f"filter {placed.origin}: {error}") from error
