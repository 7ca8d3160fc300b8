"""A filter in force on a device, told in the words of the filter language, in the order packets meet its rules."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vnetd.model.filter import Direction
from vnetd.plan.rules import Fragment, Json
from vnetd.ruleset.filter_chains import FROM_GUEST, TO_GUEST
from vnetd.ruleset.filter_origin import origin_of
from vnetd.ruleset.filter_resolve import Placed
from vnetd.ruleset.unbridged import part_of

Rule = tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Met:
    """A rule of a filter where packets of one direction meet it, as ``(chain, place)`` of the nftables rules."""

    origin: Placed
    towards_guest: bool
    places: tuple[tuple[str, int], ...]


def met(fragment: Fragment, device: str, towards_guest: bool) -> tuple[Met, ...]:
    """Rules of filters in the order packets of that direction meet them; one that became several is there once."""
    found: list[Met] = []
    for chain, place, origin in _Walk(fragment, device).through(entered(fragment, device, towards_guest)):
        if found and found[-1].origin is origin:
            found[-1] = Met(origin, towards_guest, (*found[-1].places, (chain, place)))
        else:
            found.append(Met(origin, towards_guest, ((chain, place),)))
    return tuple(found)


def entered(fragment: Fragment, device: str, towards_guest: bool) -> str:
    """The chain in which packets of that direction meet the filter of a device, "" if there is none."""
    map_ = TO_GUEST if towards_guest else FROM_GUEST
    maps = {map_.name, part_of(map_.name, device)}  # of a port of a bridge, or of a device in none
    leading = (one for one in fragment.elements if one.set in maps and one.key == (device,))
    return next((one.data.partition(" ")[2] for one in leading), "")


class _Walk:
    """Through the chains of one device. What acceptance of a link-layer rule leads to comes after the link layer."""

    def __init__(self, fragment: Fragment, device: str) -> None:
        self._chains = {chain.name: chain.rules for chain in fragment.chains}
        self._targets = {(one.set, one.key): one.data.partition(" ")[2] for one in fragment.elements}
        self._device = device
        self._seen: set[str] = set()
        self._behind: list[str] = []

    def through(self, start: str) -> Iterator[tuple[str, int, Placed]]:
        """Chain, place and origin of each rule from a chain on."""
        self._behind.append(start)
        for chain in self._behind:
            yield from self._chain(chain)

    def _chain(self, name: str) -> Iterator[tuple[str, int, Placed]]:
        if name in self._seen:
            return
        self._seen.add(name)
        for place, rule in enumerate(self._chains.get(name, ())):
            origin, target = origin_of(rule), self._target(rule)
            if origin:
                yield name, place, origin
                if "goto" in rule[-1]:
                    self._behind.append(target)
            elif target:
                yield from self._chain(target)

    def _target(self, rule: Rule) -> str:
        match rule[-1]:
            case {"jump": {"target": str(name)}} | {"goto": {"target": str(name)}}:
                return name
            case {"vmap": {"data": str(map_)}}:
                return self._targets.get((map_[1:], (self._device,)), "")
        return ""


def words(origin: Placed, towards_guest: bool, values: Mapping[str, tuple[str, ...]]) -> str:
    """A rule as the language has it: direction, action, priority, what it matches; variables with their values."""
    rule = origin.rule
    text = f"{rule.direction} {rule.action} {origin.priority}"
    if rule.match is None:
        return text
    attributes = [
        f"{one.name}{'!=' if one.negated else '='}{_valued(one.value, {**origin.scope, **values})}"
        for one in rule.match.attributes
    ]
    other = Direction.OUT if towards_guest else Direction.IN
    answers = " (the other way)" if rule.direction is other else ""
    return " ".join([f"{text}: {rule.match.protocol}", *attributes]) + answers


def _valued(value: str, values: Mapping[str, tuple[str, ...]]) -> str:
    if not value.startswith("$"):
        return value
    known = values.get(value[1:].partition("[")[0])
    return f"{value}({','.join(known)})" if known is not None else value
