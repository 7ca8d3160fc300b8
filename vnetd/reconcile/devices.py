"""Which target a network device belongs to: events name devices, the loop works on keys."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import count

MOST_TEMPLATES = 64
"""For how many templates it is known where free names begin; others than vnetd's are chosen by callers."""


def numbered(template: str, first: int = 0) -> Iterator[tuple[int, str]]:
    """Numbers from ``first`` on, each with ``template`` that has it for its ``%d``."""
    head, _, tail = template.partition("%d")
    return ((number, f"{head}{number}{tail}") for number in count(first))


class Devices:
    """Devices of all targets by name and by kernel index."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._lowest: dict[str, int] = {}  # by template: the names of all numbers below are claimed
        self._claims: dict[str, set[str]] = {}
        self._indexes: dict[int, str] = {}
        self._index_of: dict[str, int] = {}
        self._watchers: dict[str, set[str]] = {}
        self._watched: dict[str, int] = {}

    def claim(self, name: str, key: str) -> None:
        """The device ``name`` belongs to ``key`` from now on, whether it exists or not."""
        self._disclaim(name)
        self._names[name] = key
        self._claims.setdefault(key, set()).add(name)

    def seen(self, key: str, index: int) -> None:
        """The device of ``key`` was observed with this index (0: it is not there)."""
        if index and self._indexes.get(index) != key:
            self._forget_index(key)
            self._indexes[index], self._index_of[key] = key, index

    def watch(self, name: str, key: str) -> None:
        """What happens to the device ``name``, whoever it belongs to, concerns ``key`` too."""
        self._watchers.setdefault(name, set()).add(key)

    def watch_index(self, index: int, key: str) -> None:
        """What happens to the device with this index, whatever its name, and to its addresses and routes, concerns
        ``key``; 0 for none any more.
        """
        self._watched[key] = index

    def watchers(self, name: str, index: int = 0) -> frozenset[str]:
        """Whom the device of this name or index concerns besides its owner."""
        by_index = {key for key, watched in self._watched.items() if index and watched == index}
        return frozenset(self._watchers.get(name, ())) | by_index

    def release(self, key: str) -> None:
        """Forget all devices of ``key``, and what it watches."""
        self._watched.pop(key, None)
        for name, keys in tuple(self._watchers.items()):
            keys.discard(key)
            if not keys:
                del self._watchers[name]
        for name in self._claims.pop(key, ()):
            del self._names[name]
            self._unclaimed(name)
        self._forget_index(key)

    def key(self, index: int, name: str = "") -> str | None:
        """Whose device this is, ``None`` for a foreign one."""
        return self._names.get(name) or self._indexes.get(index)

    def names(self) -> AbstractSet[str]:
        """Every claimed name, now and later."""
        return self._names.keys()

    def free_names(self, template: str) -> Iterator[str]:
        """Names nobody has claimed, made of ``template`` with a number for its ``%d``, the lowest first."""
        free = (
            (number, name)
            for number, name in numbered(template, self._lowest.get(template, 0))
            if name not in self._names
        )
        lowest, name = next(free)
        if len(self._lowest) >= MOST_TEMPLATES:
            self._lowest.clear()
        self._lowest[template] = lowest
        yield name
        yield from (name for _, name in free)

    def _unclaimed(self, name: str) -> None:
        """A name is free, perhaps below those that were the lowest."""
        for template, lowest in self._lowest.items():
            head, _, tail = template.partition("%d")
            number = name.removeprefix(head).removesuffix(tail)
            if name.startswith(head) and number.isdecimal() and int(number) < lowest:
                self._lowest[template] = int(number)

    def _disclaim(self, name: str) -> None:
        if (before := self._names.pop(name, None)) is not None:
            self._claims[before].discard(name)
            self._unclaimed(name)

    def _forget_index(self, key: str) -> None:
        index = self._index_of.pop(key, 0)
        if self._indexes.get(index) == key:
            del self._indexes[index]
