"""Which target a network device belongs to: events name devices, the loop works on keys."""


class Devices:
    """Devices of all targets by name and by kernel index."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
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
        self._forget_index(key)

    def key(self, index: int, name: str = "") -> str | None:
        """Whose device this is, ``None`` for a foreign one."""
        return self._names.get(name) or self._indexes.get(index)

    def names(self) -> set[str]:
        """Every claimed name."""
        return set(self._names)

    def _disclaim(self, name: str) -> None:
        if (before := self._names.pop(name, None)) is not None:
            self._claims[before].discard(name)

    def _forget_index(self, key: str) -> None:
        index = self._index_of.pop(key, 0)
        if self._indexes.get(index) == key:
            del self._indexes[index]
