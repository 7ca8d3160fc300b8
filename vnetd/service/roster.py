"""Who belongs to a network, and what that was at any moment: thousands come and go, and each is told of."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload
from uuid import UUID


class Roster(Sequence[UUID]):
    """The members there were at a moment, in the order they came; it never changes."""

    __slots__ = ("_length", "_line")

    def __init__(self, line: list[UUID], length: int) -> None:
        self._line = line  # nothing in it ever changes, it only grows
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[UUID]:
        return islice(self._line, self._length)

    @overload
    def __getitem__(self, index: int) -> UUID: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[UUID, ...]: ...
    def __getitem__(self, index: int | slice) -> UUID | tuple[UUID, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Roster) and other._line is self._line:
            return self._length == other._length
        return isinstance(other, Roster | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class Members:
    """The members there are now. To note one, and to look at all, takes as long with thousands as with none."""

    __slots__ = ("_known", "_line")

    def __init__(self) -> None:
        self._known: dict[UUID, None] = {}
        self._line: list[UUID] = []

    def add(self, uuid: UUID) -> None:
        """It belongs to them, if it did not yet."""
        if uuid not in self._known:
            self._known[uuid] = None
            self._line.append(uuid)

    def discard(self, uuid: UUID) -> None:
        """It does not any more. Those who look at an earlier moment keep their list."""
        if uuid in self._known:
            del self._known[uuid]
            self._line = list(self._known)

    def roster(self) -> Roster:
        """All of them now."""
        return Roster(self._line, len(self._line))
