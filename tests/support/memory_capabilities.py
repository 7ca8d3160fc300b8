"""What a host in memory can do: all but what a test takes from it."""

from vnetd.model.capability import ABILITIES, Capability


class MemoryCapabilities:
    """A host that can do everything but what a test puts into ``lacking``, with the reason."""

    def __init__(self) -> None:
        self.lacking: dict[str, str] = {}
        self._known: tuple[Capability, ...] = ()

    async def all(self) -> tuple[Capability, ...]:
        """What was there at the first question."""
        if not self._known:
            self._known = tuple(Capability(n, n not in self.lacking, self.lacking.get(n, "")) for n in ABILITIES)
        return self._known

    def forget(self) -> None:
        """Look anew at the next question."""
        self._known = ()
