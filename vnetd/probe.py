"""Measures how long the event loop was blocked, for ``bench/``; costs nothing unless it is switched on.

With ``VNETD_LAG_PROBE=1`` a timer fires every millisecond and the longest delay it saw is kept; SIGUSR1 logs it and
begins anew. A daemon that is not measured has no such timer, for it must not wake up while nothing happens.
"""

import asyncio
import logging
import os
import signal
import time

log = logging.getLogger(__name__)

INTERVAL = 0.001


class LagProbe:
    """Watches ``loop`` if the environment asks for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._worst = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        if os.environ.get("VNETD_LAG_PROBE") == "1":
            loop.add_signal_handler(signal.SIGUSR1, self._report)
            self._arm()

    def close(self) -> None:
        """Stop."""
        if self._timer:
            self._timer.cancel()

    def _report(self) -> None:
        log.info("event loop blocked for at most %.2f ms", self._worst * 1000)
        self._worst = 0.0

    def _arm(self) -> None:
        self._due = time.monotonic() + INTERVAL
        self._timer = self._loop.call_later(INTERVAL, self._fired)

    def _fired(self) -> None:
        self._worst = max(self._worst, time.monotonic() - self._due)
        self._arm()
