"""Changes that are taken back unless somebody confirms them in time: a mistake must not cut its maker off for good.

The deadline is on record with the change, in seconds since the boot, so neither the end of the daemon nor sleep stops
it; with another boot nothing of the change is left anyway.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from vnetd.host.protocols import Kernel
from vnetd.model.errors import Invalid, VnetError
from vnetd.model.switch import Switch
from vnetd.reconcile.errands import Errands
from vnetd.reconcile.healer import RETRY
from vnetd.service.api import Options
from vnetd.service.clock import boottime
from vnetd.service.switch_object import Pending, SwitchObject

log = logging.getLogger(__name__)

BOOT_ID = ("kernel", "random", "boot_id")
LONGEST = 86400
"""Seconds a change may wait for its confirmation: a day."""
GLANCE = 1.0
"""Seconds after which the clock is looked at again: the loop's own stands still while the machine sleeps."""


def confirm_option(options: Options) -> int:
    """Seconds within which the caller wants to confirm, 0 for not at all. Raises ``Invalid``."""
    seconds = options.get("confirm", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds <= LONGEST:
        raise Invalid(f"option confirm is {seconds!r}: a number of seconds from 0 (none) to {LONGEST} is needed")
    return seconds


class Confirmations:
    """Watches the deadlines; ``take_back`` takes one change back and raises if it cannot yet."""

    def __init__(
        self,
        kernel: Kernel,
        take_back: Callable[[SwitchObject], Awaitable[None]],
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.clock = clock
        self._kernel = kernel
        self._take_back = take_back
        self._timers: dict[SwitchObject, asyncio.TimerHandle] = {}
        self._errands = Errands()

    async def pending(self, seconds: int, before: Switch | None, after: Switch | None) -> Pending | None:
        """What is to be recorded with a change that is to be confirmed within ``seconds``; nothing for 0."""
        if not seconds:
            return None
        return Pending(deadline=self.clock() + seconds, boot=await self._boot(), before=before, after=after)

    async def overdue(self, pending: Pending) -> bool:
        """Whether its time is over."""
        return pending.boot != await self._boot() or self.clock() >= pending.deadline

    def watch(self, known: SwitchObject) -> None:
        """Take the pending change back once its time is over; called again it forgets what was before."""
        self.forget(known)
        if known.pending:
            left = known.pending.deadline - self.clock()
            self._schedule(known, min(max(left, 0.0), GLANCE))

    def forget(self, known: SwitchObject) -> None:
        """Nothing is pending any more."""
        if timer := self._timers.pop(known, None):
            timer.cancel()

    async def close(self) -> None:
        """Stop watching and wait for what is being taken back; the rest is on record for the next run."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await self._errands.ended()

    def _schedule(self, known: SwitchObject, seconds: float) -> None:
        self._timers[known] = asyncio.get_running_loop().call_later(seconds, self._glance, known)

    def _glance(self, known: SwitchObject) -> None:
        self._timers.pop(known, None)
        if known.pending is None:
            return
        if self.clock() < known.pending.deadline:
            self.watch(known)
            return
        self._errands.run(self._over(known), name=f"take back {known.name}")

    async def _over(self, known: SwitchObject) -> None:
        try:
            await self._take_back(known)
        except VnetError as error:
            log.error("unconfirmed change of switch %s cannot be taken back yet: %s", known.name, error)
            if known.pending:
                self._schedule(known, RETRY)

    async def _boot(self) -> str:
        return str((await self._kernel.sysctls([BOOT_ID]))[BOOT_ID])
