"""Which target a network device belongs to: events name devices, the loop works on keys."""


class Devices:
    """Devices of all targets by name and by kernel index."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._indexes: dict[int, str] = {}

    def claim(self, name: str, key: str) -> None:
        """The device ``name`` belongs to ``key`` from now on, whether it exists or not."""
        self._names[name] = key

    def seen(self, key: str, index: int) -> None:
        """The device of ``key`` was observed with this index (0: it is not there)."""
        if index and self._indexes.get(index) != key:
            self._forget_index(key)
            self._indexes[index] = key

    def release(self, key: str) -> None:
        """Forget all devices of ``key``."""
        self._names = {name: owner for name, owner in self._names.items() if owner != key}
        self._forget_index(key)

    def key(self, index: int, name: str = "") -> str | None:
        """Whose device this is, ``None`` for a foreign one."""
        return self._names.get(name) or self._indexes.get(index)

    def names(self) -> set[str]:
        """Every claimed name."""
        return set(self._names)

    def _forget_index(self, key: str) -> None:
        self._indexes = {index: owner for index, owner in self._indexes.items() if owner != key}
