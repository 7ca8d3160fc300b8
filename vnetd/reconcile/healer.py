"""Turns events into repairs: one key at a time, settled, serialised; what somebody fights over is left alone.

A key names a target. Touching it only says "look again": the target re-reads the host and repairs what differs, so
vnetd's own echoes end in a look that finds nothing, and any number of touches costs one look.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from vnetd.model.errors import HostError, VnetError
from vnetd.reconcile.absent import Absent
from vnetd.reconcile.backoff import Fights, Quarrel
from vnetd.reconcile.errands import Errands
from vnetd.reconcile.repairs import Repairs

log = logging.getLogger(__name__)

SETTLE = 0.002
"""Seconds from the first touch to the look, so that a burst of events is one look."""
WARY = 0.02
"""The same while something of the target is left alone: who fights over it is not to keep vnetd busy with looks."""
FIRST_RETRY = 0.005
"""Seconds until a repair is tried again that the host refused, as the host may just have been changing …"""
GROWTH = 4.0
"""… how many times as long it is after each further failure …"""
RETRY = 5.0
"""… and at most, which is how long it is after a failure of another kind."""
NOTHING: frozenset[str] = frozenset()


class Target(Protocol):
    """Something that can be compared with the host and repaired."""

    key: str
    lock: asyncio.Lock
    """Held by whoever changes the target: a repair, a start, a stop."""
    repairs: Repairs
    """What the last ``converge`` set out to repair, whatever became of it; nothing for who does all or nothing."""

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """Repair what differs; returns what was repaired, in words. Raises ``VnetError`` if it cannot.

        What ``spare`` names, in the same words, is to be left alone for now. A target that is one thing is left alone
        as a whole then.
        """
        ...


class Reporter(Protocol):
    """Who is told what became of targets."""

    def healed(self, key: str, repaired: tuple[str, ...], cause: str) -> None:
        """Drift was repaired; ``cause`` names the culprit if known."""
        ...

    def problems(self, key: str, failure: str, fought: Mapping[str, Quarrel]) -> None:
        """Why the target could not be repaired, and what of it is fought over; both empty if all is well (again)."""
        ...


class Healer:
    """Schedules repairs. Nothing wakes up while nothing happens."""

    def __init__(self, reporter: Reporter, clock: Callable[[], float] | None = None) -> None:
        self._reporter = reporter
        self._clock = clock or _loop_time
        self._targets: dict[str, Target] = {}
        self._settle: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._causes: dict[str, str] = {}
        self._fights: dict[str, Fights] = {}
        self._retries: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._unfinished: dict[str, tuple[str, ...]] = {}
        self._looks = Errands()

    def add(self, target: Target, *, settle: float = SETTLE) -> None:
        """Look after ``target`` from now on; ``settle`` is how many seconds a look waits for what else is reported."""
        self._targets[target.key] = target
        self._settle[target.key] = settle
        self._fights.setdefault(target.key, Fights())

    def discard(self, key: str) -> None:
        """Forget a target and all that was planned for it."""
        planned = (self._targets, self._settle, self._fights, self._retries, self._causes)
        for known in (*planned, self._failures, self._unfinished):
            known.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def forgive(self, key: str, what: str) -> None:
        """Nobody needs ``what`` any more: that somebody fought over it is forgotten."""
        if key in self._targets and self._fights[key].forget(what):
            self.touch(key)

    async def mend(self, key: str) -> None:
        """Repair what has drifted now; for who holds the target's lock and is about to make it another.

        It is told and counted as drift then, and passes for no part of the change.
        """
        if target := self._targets.get(key):
            await self._repair(target, NOTHING)

    def mended(self, key: str, repaired: tuple[str, ...]) -> None:
        """Note what was repaired without a look, for somebody needed it: it is told and counted all the same."""
        if repaired and key in self._targets:
            self._settled(key, repaired, self._causes.get(key, ""), "")

    def known(self) -> tuple[str, ...]:
        """Keys of all targets, sorted."""
        return tuple(sorted(self._targets))

    def touch(self, key: str, cause: str = "") -> None:
        """Have the target looked at soon. ``cause`` is shown to people if something has to be repaired."""
        if key not in self._targets:
            return
        if cause:
            self._causes[key] = cause
        wary = WARY if self._fights[key].held(self._clock()) else 0.0
        self._schedule(key, max(self._settle[key], wary))

    async def sweep(self) -> None:
        """Look at every target now, one after the other, and leave nothing alone."""
        for key in self.known():
            await self._look(key, leave_alone=False)

    async def close(self) -> None:
        """Stop all that is planned and wait for repairs under way."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._targets.clear()
        await self._looks.ended()

    def _schedule(self, key: str, delay: float) -> None:
        """Look in ``delay`` seconds or when that is planned already, whichever comes first, but not before a retry."""
        delay = max(delay, self._retries.get(key, 0.0) - self._clock())
        loop, planned = asyncio.get_running_loop(), self._timers.get(key)
        if planned and planned.when() <= loop.time() + delay:
            return
        if planned:
            planned.cancel()
        self._timers[key] = loop.call_later(delay, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self._looks.run(self._look(key), name=f"heal {key}")

    async def _look(self, key: str, *, leave_alone: bool = True) -> None:
        target = self._targets.get(key)
        if target is None:
            return
        async with target.lock:
            if self._targets.get(key) is target:
                held = self._fights[key].held(self._clock()) if leave_alone else NOTHING
                await self._repair(target, held)

    async def _repair(self, target: Target, held: frozenset[str]) -> None:
        key, cause = target.key, self._causes.pop(target.key, "")
        self._retries.pop(key, None)
        repaired, failure = await self._attempt(target, held)
        if key in self._unfinished and cause:
            self._causes.setdefault(key, cause)
        self._settled(key, repaired, cause, failure)

    def _settled(self, key: str, repaired: tuple[str, ...], cause: str, failure: str) -> None:
        if repaired:
            self._reporter.healed(key, repaired, cause)
        if key in self._targets:
            self._judge(key, repaired, cause, failure)

    async def _attempt(self, target: Target, held: frozenset[str]) -> tuple[tuple[str, ...], str]:
        """What is repaired by now, and why not all is."""
        key = target.key
        try:
            repaired = await target.converge(spare=held)
            self._failures.pop(key, None)
            return tuple(dict.fromkeys((*self._unfinished.pop(key, ()), *repaired))), ""
        except Absent as error:  # all the rest is done
            self._failures.pop(key, None)
            return target.repairs.begun, str(error)
        except VnetError as error:
            log.warning("cannot repair %s: %s", key, error)
            self._retry(target, self._delay(key) if isinstance(error, HostError) else RETRY)
            return (), str(error)
        except Exception:
            log.exception("repair of %s failed", key)
            self._retry(target, RETRY)
            return (), "internal error while repairing; see the log"

    def _judge(self, key: str, repaired: tuple[str, ...], cause: str, failure: str) -> None:
        """See who fights, tell what is wrong, and look again when something need not be left alone any more."""
        fights, now = self._fights[key], self._clock()
        fights.calm(now)
        for what in repaired:
            fights.record(what, cause, now)
        self._reporter.problems(key, failure, fights.fought())
        if (delay := fights.next(now)) is not None:
            self._schedule(key, delay)

    def _delay(self, key: str) -> float:
        """Seconds until what the host refused is tried again."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        return min(FIRST_RETRY * GROWTH**failures, RETRY)

    def _retry(self, target: Target, delay: float) -> None:
        """Try again later; what this attempt has made the next one may find as it should be, so it is kept in mind."""
        key = target.key
        if key not in self._targets:
            return
        if begun := target.repairs.begun:
            self._unfinished[key] = tuple(dict.fromkeys((*self._unfinished.get(key, ()), *begun)))
        self._retries[key] = self._clock() + delay
        if planned := self._timers.pop(key, None):
            planned.cancel()
        self._schedule(key, delay)


def _loop_time() -> float:
    """The clock timers go by: a monotonic one."""
    return asyncio.get_running_loop().time()
