"""Objects counted by owner: each exists once, however many want it, and goes with the last who does."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Held(Generic[V]):
    """One object and who wants it."""

    value: V
    owners: set[str]


@dataclass(slots=True)
class Move(Generic[V]):
    """What a change does to the owners of one object; an owner that changes the object leaves and joins."""

    leaving: set[str] = field(default_factory=set)
    joining: dict[str, V] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change(Generic[V]):
    """One object before and after; ``None`` where it is not there. Equal ones: it must come anew as it is."""

    before: V | None
    after: V | None


class Holdings(Generic[K, V]):
    """Objects of one kind with their owners."""

    def __init__(self) -> None:
        self._held: dict[K, Held[V]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[K]:
        return iter(self._held)

    def values(self) -> Iterator[V]:
        """Every object, once."""
        return (held.value for held in self._held.values())

    def get(self, key: K) -> V | None:
        """The object, ``None`` if nobody wants it."""
        held = self._held.get(key)
        return held.value if held else None

    def owners(self, key: K) -> frozenset[str]:
        """Who wants the object."""
        held = self._held.get(key)
        return frozenset(held.owners) if held else frozenset()

    def changes(self, moves: Mapping[K, Move[V]]) -> dict[K, Change[V]]:
        """Which objects the moves change. Raises ``ValueError`` where two owners want one to be different."""
        found: dict[K, Change[V]] = {}
        for key, move in moves.items():
            if not _merely_joined(self._held.get(key), move):
                change = self._settle(key, move)
                if not same(change.before, change.after):
                    found[key] = change
        return found

    def apply(self, moves: Mapping[K, Move[V]]) -> None:
        """Record the moves."""
        for key, move in moves.items():
            held = self._held.get(key)
            if held and _merely_joined(held, move):
                held.owners.update(move.joining)
                continue
            owners = held.owners if held else set()
            owners.difference_update(move.leaving)
            owners.update(move.joining)
            value = next(iter(move.joining.values()), held.value if held else None)
            if owners and value is not None:
                self._held[key] = Held(value, owners)
            else:
                self._held.pop(key, None)

    def _settle(self, key: K, move: Move[V]) -> Change[V]:
        held = self._held.get(key)
        before = held.value if held else None
        staying = (len(held.owners) if held else 0) - len(move.leaving)
        wanted = list(move.joining.values())
        after = wanted[0] if wanted else before if staying else None
        if not all(same(value, after) for value in wanted) or (staying and not same(before, after)):
            raise ValueError(f"two owners want {key} to be different: {[*wanted, *([before] if staying else [])]}")
        return Change(before, after)


def _merely_joined(held: Held[V] | None, move: Move[V]) -> bool:
    """Whether all that happens is that others want the very same object, too: so it is with most."""
    return held is not None and not move.leaving and all(value is held.value for value in move.joining.values())


def movements(owner: str, old: Mapping[K, V], new: Mapping[K, V], moves: defaultdict[K, Move[V]]) -> None:
    """Add to ``moves`` what an owner does that had ``old`` and wants ``new``."""
    for key, value in old.items():
        if not same(new.get(key), value):
            moves[key].leaving.add(owner)
    for key, value in new.items():
        if not same(old.get(key), value):
            moves[key].joining[owner] = value


def same(one: object, other: object) -> bool:
    """Equality that is quick for shared values: most objects of a ruleset are the very same ones."""
    return one is other or one == other
