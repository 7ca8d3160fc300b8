"""What is known of one guest whose addresses are learned, and what of it is on record."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from vnetd.host.protocols import Store
from vnetd.model.learned import LearnedRecord
from vnetd.packets.sightings import Address, Sighting
from vnetd.service.filter_uses import Bound
from vnetd.service.lessons import Learned, Pupil, current
from vnetd.service.records import Records

LEARNED = "run/learned"


@dataclass(eq=False, slots=True)
class LearningState:
    """One guest whose addresses are learned."""

    bound: Bound
    pupil: Pupil
    learned: Learned = ()
    traffic: bool = True
    refused: bool = False
    since: dict[Address, float] = field(default_factory=dict)
    """When each was learned, or first seen by this run of the daemon, by the monotonic clock."""
    waiting: list[Sighting] = field(default_factory=list)
    work: asyncio.Task[None] | None = None
    timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)

    @property
    def versions(self) -> set[int]:
        """IP versions of which an address was learned."""
        return versions(self.learned)

    def note(self) -> None:
        """Remember when addresses were learned that were not known before."""
        now = asyncio.get_running_loop().time()
        self.since = {one.address: self.since.get(one.address, now) for one in self.learned}

    def later(self, name: str, delay: float, act: Callable[[], object]) -> None:
        """Call ``act`` after ``delay`` seconds, instead of what was to be called under this name."""
        if timer := self.timers.pop(name, None):
            timer.cancel()

        def due() -> None:
            self.timers.pop(name, None)
            act()

        self.timers[name] = asyncio.get_running_loop().call_later(delay, due)

    def cancel(self) -> None:
        """Call nothing any more."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()


class LearnedRecords:
    """Addresses that were learned, on record by owner."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self) -> dict[str, LearnedRecord]:
        """What an earlier run learned and is current. What cannot be read is learned anew."""
        found, now = await Records(self._store).load(LEARNED, LearnedRecord, "learned addresses"), time.time()
        return {one.owner: one.model_copy(update={"addresses": current(one.addresses, now)}) for one, _ in found}

    async def save(self, state: LearningState) -> None:
        """Keep what is known of a guest."""
        record = LearnedRecord(owner=state.bound.owner, mac=state.pupil.mac, addresses=state.learned)
        await self._store.save(LEARNED, _name(state.bound.owner), record.model_dump(mode="json"))

    async def erase(self, owner: str) -> None:
        """Keep nothing of an owner's guest."""
        await self._store.delete(LEARNED, _name(owner))


def versions(learned: Learned) -> set[int]:
    """IP versions of addresses."""
    return {one.address.version for one in learned}


def _name(owner: str) -> str:
    return owner.rpartition(":")[2]
