"""Turns events into repairs: one key at a time, settled, serialised, and held back where somebody fights.

A key names a target. Touching it only says "look again": the target re-reads the host and repairs what differs, so
vnetd's own echoes end in a look that finds nothing, and any number of touches costs one look.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from vnetd.model.errors import VnetError
from vnetd.reconcile.absent import Absent
from vnetd.reconcile.backoff import WINDOW, Fights
from vnetd.reconcile.errands import Errands

log = logging.getLogger(__name__)

SETTLE = 0.002
"""Seconds from the first touch to the look, so that a burst of events is one look."""
RETRY = 5.0
"""Seconds until a failed repair is tried again."""


class Target(Protocol):
    """Something that can be compared with the host and repaired."""

    key: str
    lock: asyncio.Lock
    """Held by whoever changes the target: a repair, a start, a stop."""

    async def converge(self) -> tuple[str, ...]:
        """Repair what differs; returns what was repaired, in words. Raises ``VnetError`` if it cannot."""
        ...


class Reporter(Protocol):
    """Who is told what became of targets."""

    def healed(self, key: str, repaired: tuple[str, ...], cause: str) -> None:
        """Drift was repaired; ``cause`` names the culprit if known."""
        ...

    def problem(self, key: str, text: str) -> None:
        """The target is not as it should be and why; an empty text says all is well again."""
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
        self._held: dict[str, float] = {}
        self._looks = Errands()

    def add(self, target: Target, *, settle: float = SETTLE) -> None:
        """Look after ``target`` from now on; ``settle`` is how many seconds a look waits for what else is reported."""
        self._targets[target.key] = target
        self._settle[target.key] = settle

    def discard(self, key: str) -> None:
        """Forget a target and all that was planned for it."""
        self._targets.pop(key, None)
        self._settle.pop(key, None)
        self._fights.pop(key, None)
        self._held.pop(key, None)
        self._causes.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def known(self) -> tuple[str, ...]:
        """Keys of all targets, sorted."""
        return tuple(sorted(self._targets))

    def touch(self, key: str, cause: str = "") -> None:
        """Have the target looked at soon. ``cause`` is shown to people if something has to be repaired."""
        if key not in self._targets:
            return
        if cause:
            self._causes[key] = cause
        if key not in self._timers:
            delay = max(self._settle[key], self._held.get(key, 0.0) - self._clock())
            self._schedule(key, delay)

    async def sweep(self) -> None:
        """Look at every target now, one after the other, holds or not."""
        for key in self.known():
            await self._look(key)

    async def close(self) -> None:
        """Stop all that is planned and wait for repairs under way."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._targets.clear()
        await self._looks.ended()

    def _schedule(self, key: str, delay: float) -> None:
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self._looks.run(self._look(key), name=f"heal {key}")

    async def _look(self, key: str) -> None:
        target = self._targets.get(key)
        if target is None:
            return
        async with target.lock:
            if self._targets.get(key) is target:
                await self._repair(target)

    async def _repair(self, target: Target) -> None:
        key = target.key
        cause = self._causes.pop(key, "")
        try:
            repaired = await target.converge()
        except Absent as error:
            self._reporter.problem(key, str(error))
        except VnetError as error:
            log.warning("cannot repair %s: %s", key, error)
            self._reporter.problem(key, str(error))
            self._hold(key, RETRY)
        except Exception:
            log.exception("repair of %s failed", key)
            self._reporter.problem(key, "internal error while repairing; see the log")
            self._hold(key, RETRY)
        else:
            self._settled(key, repaired, cause)

    def _settled(self, key: str, repaired: tuple[str, ...], cause: str) -> None:
        now = self._clock()
        fights = self._fights.get(key)
        if repaired:
            fights = self._fights.setdefault(key, Fights())
            hold = max(fights.record(what, now) for what in repaired)
            self._reporter.healed(key, repaired, cause)
            if hold:
                self._reporter.problem(key, _quarrel(repaired, cause, hold))
                self._hold(key, hold)
                return
        if fights is None or fights.calm(now):
            self._held.pop(key, None)
            self._reporter.problem(key, "")
        elif key not in self._timers:
            # Somebody fought over this target: look once more when it may count as calm.
            self._schedule(key, WINDOW)

    def _hold(self, key: str, seconds: float) -> None:
        if key not in self._targets:
            return
        self._held[key] = self._clock() + seconds
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._schedule(key, seconds)


def _loop_time() -> float:
    """The clock timers go by: a monotonic one."""
    return asyncio.get_running_loop().time()


def _quarrel(repaired: tuple[str, ...], cause: str, hold: float) -> str:
    culprit = f"by {cause}" if cause else "by something unknown"
    return (
        f"{', '.join(repaired)} changed again and again, last {culprit}: somebody else manages it; "
        f"vnetd repairs it again in {hold:.0f} s"
    )
