"""Which rule of a filter an nftables rule was made of: it travels with the rule and makes no difference to it."""

from collections.abc import Iterable, Iterator
from copy import deepcopy

from vnetd.plan.rules import Json
from vnetd.ruleset.filter_resolve import Placed


class Told(tuple[Json, ...]):
    """The statements of a rule, equal to any other tuple of the same, that know where they come from."""

    origin: Placed

    def __deepcopy__(self, memo: dict[int, object]) -> tuple[Json, ...]:
        """The statements alone: a copy is not of the making of the filter."""
        return deepcopy(tuple(self), memo)


def told(origin: Placed, rules: Iterable[tuple[Json, ...]]) -> Iterator[tuple[Json, ...]]:
    """The rules, each with its origin."""
    for rule in rules:
        one = Told(rule)
        one.origin = origin
        yield one


def origin_of(rule: tuple[Json, ...]) -> Placed | None:
    """The rule of a filter it was made of, ``None`` for what leads from chain to chain."""
    return rule.origin if isinstance(rule, Told) else None
