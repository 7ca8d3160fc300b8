"""Learns guests' addresses from packets that rules show, keeps them over restarts, and forgets what has expired.

Packets are looked at in the event loop as they come, a few bytes each; the kernel shows no more of them than each
guest's budget allows. What they teach is decided in ``lessons``.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from vnetd.model.errors import VnetError
from vnetd.model.learned import LearnedAddress, LearnedRecord, Source
from vnetd.packets.sightings import Address, Claimed, Given, Packet, Sighting, Used, sightings
from vnetd.reconcile.errands import Errands
from vnetd.reconcile.healer import RETRY
from vnetd.reconcile.loop import Loop
from vnetd.service.filter_uses import Bound, Knowledge
from vnetd.service.learning_state import LearnedRecords, LearningState, versions
from vnetd.service.lessons import Learned, Pupil, after, current

log = logging.getLogger(__name__)

WINDOW = 5.0
"""Seconds for which a guest's traffic goes on to teach after the first address it taught (mode ``any``)."""
MOST_WAITING = 256
"""Sightings of one guest that wait to be looked at; what comes meanwhile is dropped, as it is by the kernel."""


class AddressLearning:
    """Who has which addresses. ``relearned`` is told an owner whose addresses have changed and puts them in force.

    ``leases`` says what a network's own DHCP server has given a guest, for what happened while nobody looked.
    ``changed`` is told an owner whose addresses are others now, once they are in force as far as that can be.
    """

    def __init__(self, loop: Loop, relearned: Callable[[str], Awaitable[None]]) -> None:
        self.leases: Callable[[Bound], Awaitable[Iterable[LearnedAddress]]] = _no_leases
        self.changed: Callable[[str], None] = lambda _: None
        self._host = loop.host
        self._relearned = relearned
        self._states: dict[str, LearningState] = {}
        self._devices: dict[str, str] = {}
        self._records = LearnedRecords(loop.host.store)
        self._earlier: dict[str, LearnedRecord] = {}
        self._errands = Errands()
        self._filtered: Callable[[str], bool] = lambda _: False
        loop.host.packets.subscribe(self._seen)

    def trusting(self, filtered: Callable[[str], bool]) -> None:
        """Answers of DHCP count unless they come from a device that is filtered itself: another guest's."""
        self._filtered = filtered

    def known(self, bound: Bound) -> Knowledge:
        """What is known for a use of a filter that may not have begun yet."""
        state = self._states.get(bound.owner)
        if state and state.bound.mac == bound.mac:
            return Knowledge(state.learned, state.traffic, state.refused)
        record = self._earlier.get(bound.owner)
        if record and record.mac == bound.mac:
            return Knowledge(record.addresses, not versions(record.addresses) & {4})
        return Knowledge()

    def addresses(self, owner: str) -> tuple[LearnedAddress, ...]:
        """What was learned of an owner's guest."""
        state = self._states.get(owner)
        return state.learned if state else ()

    def ages(self, owner: str) -> dict[Address, int]:
        """What was learned of an owner's guest, with the seconds since, as far as this run of the daemon knows."""
        state, now = self._states.get(owner), asyncio.get_running_loop().time()
        return {address: int(now - since) for address, since in state.since.items()} if state else {}

    def watch(self, bound: Bound, pupil: Pupil | None) -> None:
        """Learn for this use from now on, or no more if there is nothing to be learned."""
        if pupil is None:
            self.forget(bound.owner)
            return
        known, old = self.known(bound), self._states.get(bound.owner)
        if old:
            old.cancel()
        since = dict(old.since) if old else {}
        state = LearningState(bound, pupil, known.learned, known.traffic, known.refused, since)
        state.note()
        self._states[bound.owner] = state
        self._devices[bound.device] = bound.owner
        self._schedule(state)

    def forget(self, owner: str) -> None:
        """The use has ended, and with it what was learned for it."""
        state = self._states.pop(owner, None)
        if state:
            state.cancel()
            self._devices.pop(state.bound.device, None)
            if state.learned:
                self.changed(owner)
        if state or self._earlier.pop(owner, None):
            self._errands.run(self._erase(owner))

    async def load(self) -> None:
        """Read what an earlier run learned."""
        self._earlier = await self._records.load()

    async def catch_up(self) -> None:
        """Once everything was taken over: ask for leases given meanwhile, forget guests that are gone."""
        for owner in self._earlier.keys() - self._states.keys():
            await self._erase(owner)
        self._earlier.clear()
        for state in list(self._states.values()):
            await self._ask_server(state)

    async def close(self) -> None:
        """Stop, and wait for what is under way."""
        for state in self._states.values():
            state.cancel()
        await self._errands.ended()

    def _seen(self, packet: Packet) -> None:
        if packet.snooped:
            return
        state = self._states.get(self._devices.get(packet.device, ""))
        if state is None or not self._honest(packet, state):
            return
        for sighting in sightings(packet):
            if isinstance(sighting, Given) and not self._trusted(packet, state):
                continue
            if len(state.waiting) < MOST_WAITING:
                state.waiting.append(sighting)
        if state.waiting and state.work is None:
            state.work = self._errands.run(self._work(state))

    def _honest(self, packet: Packet, state: LearningState) -> bool:
        """What a guest sends counts under its own MAC address only."""
        return packet.towards_guest or packet.source == state.pupil.mac

    def _trusted(self, packet: Packet, state: LearningState) -> bool:
        return bool(state.pupil.servers) or not packet.ingress or not self._filtered(packet.ingress)

    async def _work(self, state: LearningState) -> None:
        try:
            while state.waiting:
                await self._take(state, state.waiting.pop(0))
        except VnetError as error:
            log.warning("cannot learn addresses of %s: %s", state.bound.device, error)
        finally:
            state.work = None

    async def _take(self, state: LearningState, seen: Sighting) -> None:
        new = after(state.learned, seen, state.pupil, time.time(), traffic=state.traffic)
        if new is state.learned:
            return
        if isinstance(seen, Claimed | Used) and await self._taken(state, seen.address):
            await self._refuse(state, seen.address)
            return
        await self._change(state, new)

    async def _refuse(self, state: LearningState, address: Address) -> None:
        """Not learned, and while there is no other it does not pass either: else stealing would work by not owning."""
        log.warning("%s wants address %s, which is somebody else's", state.bound.device, address)
        if not state.refused:
            state.refused = True
            await self._apply(state)

    async def _change(self, state: LearningState, new: Learned) -> None:
        """On record first: a restart must not find the rules narrower than they were."""
        if self._states.get(state.bound.owner) is not state:
            return
        before, state.learned = state.learned, new
        if 4 not in versions(new):
            state.traffic = True
        state.note()
        self._schedule(state)
        await self._records.save(state)
        if {one.address for one in before} != {one.address for one in new}:
            log.info("addresses of %s: %s", state.bound.device, ", ".join(str(one.address) for one in new) or "none")
            await self._apply(state)
            self.changed(state.bound.owner)

    async def _apply(self, state: LearningState) -> None:
        try:
            await self._relearned(state.bound.owner)
        except VnetError as error:
            log.warning("addresses of %s are not in force yet: %s", state.bound.device, error)
            self._later(state, "retry", RETRY, self._apply)

    def _schedule(self, state: LearningState) -> None:
        """Look again when the next address expires, and when traffic is to teach no more."""
        ends = [one.expires for one in state.learned if one.expires is not None]
        if ends:
            self._later(state, "expiry", max(min(ends) - time.time(), 0.0) + 0.1, self._expire)
        if state.traffic and 4 in state.versions and "window" not in state.timers:
            self._later(state, "window", WINDOW, self._close_window)

    def _later(
        self, state: LearningState, name: str, delay: float, act: Callable[[LearningState], Awaitable[None]]
    ) -> None:
        state.later(name, delay, lambda: self._errands.run(_guarded(act(state), state)))

    async def _close_window(self, state: LearningState) -> None:
        if 4 in state.versions:
            state.traffic = False
            await self._apply(state)

    async def _expire(self, state: LearningState) -> None:
        await self._ask_server(state)  # an answer may have been missed
        left = current(state.learned, time.time())
        if left is not state.learned:
            await self._change(state, left)
        else:
            self._schedule(state)

    async def _ask_server(self, state: LearningState) -> None:
        """Take over leases the network's own server has on record for this guest."""
        new = state.learned
        for lease in await self.leases(state.bound):
            if lease.address.version in state.pupil.families and lease not in new:
                others = tuple(one for one in new if one.address != lease.address)
                new = (*others, lease)
        if new is not state.learned:
            await self._change(state, new)

    async def _taken(self, state: LearningState, address: Address) -> bool:
        """Whether an address is of another guest of the same bridge or lower device, or of the host there."""
        if address in state.pupil.site.taken:
            return True
        segment = await self._segment(state)
        host = await self._host.kernel.link_at(segment) if segment else None
        view = await self._host.kernel.view(host.name) if host else None
        if view and any(one.ip == address for one in view.addresses):
            return True
        for other in list(self._states.values()):
            theirs = other.pupil.addresses(other.learned, address.version)
            if other is not state and address in theirs and await self._segment(other) == segment:
                return True
        return False

    async def _segment(self, state: LearningState) -> int:
        """The device that joins the guest's with others: its bridge, or what a macvtap lies on; 0 for none."""
        link = await self._host.kernel.link(state.bound.device)
        if link is None:
            return 0
        return link.lower if link.kind == "macvtap" else link.master

    async def _erase(self, owner: str) -> None:
        if owner in self._states:  # in use again meanwhile
            return
        try:
            await self._records.erase(owner)
        except VnetError as error:
            log.warning("learned addresses of %s stay on record: %s", owner, error)


async def _guarded(work: Awaitable[None], state: LearningState) -> None:
    try:
        await work
    except VnetError as error:
        log.warning("cannot look after addresses of %s: %s", state.bound.device, error)


async def _no_leases(_: Bound) -> Iterable[LearnedAddress]:
    return ()


def leased(address: Address, expiry: int) -> LearnedAddress:
    """A lease as dnsmasq has it on record; ``expiry`` 0: never."""
    return LearnedAddress(address=address, source=Source.DHCP, expires=expiry or None)
