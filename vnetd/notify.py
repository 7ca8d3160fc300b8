"""What the daemon tells systemd: that it is ready, that it is alive, what it does.

The watchdog is answered by the event loop itself, so a loop that hangs is noticed. See sd_notify(3),
sd_watchdog_enabled(3).
"""

import asyncio
import logging
import os

from systemd import daemon, journal  # type: ignore[attr-defined]


class Notifier:
    """Does nothing where systemd did not start the daemon."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def ready(self, status: str) -> None:
        """Calls are answered from now on; begin to answer the watchdog."""
        daemon.notify(f"READY=1\nSTATUS={status}")
        if seconds := _watchdog_seconds():
            self._beat(seconds / 2)

    def close(self) -> None:
        """The daemon ends on purpose."""
        if self._timer:
            self._timer.cancel()
        daemon.notify("STOPPING=1")

    def _beat(self, interval: float) -> None:
        daemon.notify("WATCHDOG=1")
        self._timer = self._loop.call_later(interval, self._beat, interval)


def _watchdog_seconds() -> float:
    """The time after which systemd takes a silent daemon for dead, 0 if it does not watch this process."""
    pid = os.environ.get("WATCHDOG_PID")
    if pid and int(pid) != os.getpid():
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000


def journal_handler() -> logging.Handler | None:
    """A handler that writes structured fields, if standard error is connected to the journal."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(2)
    except OSError:
        return None
    if (device, inode) != (str(status.st_dev), str(status.st_ino)):
        return None
    handler: logging.Handler = journal.JournalHandler(SYSLOG_IDENTIFIER="vnetd")
    return handler
