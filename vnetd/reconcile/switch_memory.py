"""What a switch remembers of the host as it was, and as it is where nothing but a record could tell afterwards."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from vnetd.plan.kernel import Operation, SetLink
from vnetd.plan.links import Link
from vnetd.plan.migration import aged, alike
from vnetd.plan.possessions import Possessions
from vnetd.reconcile.migration import Move


@dataclass(frozen=True, slots=True)
class Former:
    """What an uplink was before it was plugged in, to be made so again."""

    mtu: int
    up: bool

    def restoring(self, link: Link) -> list[Operation]:
        """What takes the link out of its bridge and makes it so again."""
        operations: list[Operation] = [SetLink(link.name, master="")]
        if link.mtu != self.mtu:
            operations.append(SetLink(link.name, mtu=self.mtu))
        if link.up and not self.up:
            operations.append(SetLink(link.name, up=False))
        return operations


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the host has on a switch that migrates, as if it hung on the uplink; ``at``: when, by ``Memory.clock``."""

    held: Possessions = field(default_factory=Possessions)
    at: float = 0.0


@dataclass(slots=True)
class Memory:
    """Kept over restarts of the daemon as well: ``save`` puts it on record.

    ``before`` is from before the start, ``latest`` as last seen, should somebody delete the bridge. ``sysctls`` is how
    the uplink configured itself by IPv6, ``move`` is one under way.
    """

    save: Callable[[], Awaitable[None]]
    clock: Callable[[], float]
    sysctls: dict[str, str] = field(default_factory=dict)
    formers: dict[str, Former] = field(default_factory=dict)
    before: Snapshot = field(default_factory=Snapshot)
    latest: Snapshot | None = None
    move: Move | None = None

    def begin(self, held: Possessions) -> None:
        """This is what the host has before anything is changed; to be saved yet."""
        self.before, self.latest = Snapshot(held, self.clock()), None

    def now(self, snapshot: Snapshot | None = None) -> Possessions:
        """What was seen, by default the last time, with lifetimes as they are by now."""
        snapshot = snapshot or self.latest or self.before
        return aged(snapshot.held, int(self.clock() - snapshot.at))

    async def keep(self, held: Possessions) -> None:
        """This is what the host has now; what cannot be told of name servers is as before."""
        known = self.now()
        held = replace(held, dns=known.dns if held.dns is None else held.dns)
        if not alike(held, known):
            self.latest = Snapshot(held, self.clock())
            await self.save()
