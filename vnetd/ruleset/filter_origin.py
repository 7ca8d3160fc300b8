"""Which rule of a filter an nftables rule was made of: it travels with the rule and makes no difference to it."""

from collections.abc import Iterable, Iterator

from vnetd.plan.rules import Json
from vnetd.ruleset.filter_resolve import Placed


class Told(tuple[Json, ...]):
    """The statements of a rule, equal to any other tuple of the same, that know where they come from."""

    origin: Placed


def told(origin: Placed, rules: Iterable[tuple[Json, ...]]) -> Iterator[tuple[Json, ...]]:
    """The rules, each with its origin."""
    for rule in rules:
        one = Told(rule)
        one.origin = origin
        yield one


def origin_of(rule: tuple[Json, ...]) -> Placed | None:
    """The rule of a filter it was made of, ``None`` for what leads from chain to chain."""
    return rule.origin if isinstance(rule, Told) else None
