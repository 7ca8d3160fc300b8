"""Objects of one kind, found by UUID or name. Order of iteration is by name."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from vnetd.model.errors import Exists, NotFound


class Named(Protocol):
    """What is kept in a registry."""

    @property
    def uuid(self) -> UUID: ...
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


class Registry(Generic[N]):
    """``kind`` is the word for error messages."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._by_uuid: dict[UUID, N] = {}
        self._by_name: dict[str, N] = {}
        self.version = 0
        """Another number whenever something came or went."""

    def __iter__(self) -> Iterator[N]:
        return iter(sorted(self._by_uuid.values(), key=lambda one: one.name.lower()))

    def unordered(self) -> tuple[N, ...]:
        """All, in no order: what a look for one of a thousand needs."""
        return tuple(self._by_uuid.values())

    def __len__(self) -> int:
        return len(self._by_uuid)

    def add(self, one: N) -> None:
        """Keep it; replaces what had its UUID."""
        self.version += 1
        self._by_uuid[one.uuid] = one
        self._by_name[one.name] = one

    def remove(self, one: N) -> None:
        """Forget it."""
        self.version += 1
        self._by_uuid.pop(one.uuid, None)
        if self._by_name.get(one.name) is one:
            del self._by_name[one.name]

    def get(self, ref: str) -> N:
        """By name, else by UUID. Raises ``NotFound`` naming ``ref``."""
        if found := self._by_name.get(ref):
            return found
        try:
            return self._by_uuid[UUID(ref)]
        except (KeyError, ValueError):
            raise NotFound(f"there is no {self._kind} {ref!r}") from None

    def same_identity(self, name: str, uuid: UUID | None) -> N | None:
        """The one a document with this name and UUID is a new form of.

        Raises ``Exists`` if the two name different ones, or the name's has another UUID.
        """
        named, identified = self.by_name(name), self.by_uuid(uuid) if uuid else None
        if identified and identified is not named:
            raise Exists(f"{self._kind} {identified.name} has uuid {uuid} already")
        if named and named is not identified:
            raise Exists(f"{self._kind} {name} exists already with uuid {named.uuid}: give that uuid to change it")
        return named

    def find(self, uuid: UUID) -> N:
        """The one with this UUID. Raises ``NotFound``."""
        if found := self._by_uuid.get(uuid):
            return found
        raise NotFound(f"there is no {self._kind} {uuid}")

    def refuse_gone(self, one: N, *, how: str = "removed") -> None:
        """Raise ``NotFound`` if ``one`` has gone since it was found, or another has taken its place."""
        if self._by_uuid.get(one.uuid) is not one:
            raise NotFound(f"{self._kind} {one.name} was {how} meanwhile")

    def by_uuid(self, uuid: UUID) -> N | None:
        """The one with this UUID."""
        return self._by_uuid.get(uuid)

    def by_name(self, name: str) -> N | None:
        """The one with this name."""
        return self._by_name.get(name)
