"""A descriptor's news, looked at as soon as there is some, but not more often than it is worth."""

import asyncio
from collections.abc import Callable

SHORTEST, LONGEST = 0.001, 0.01
"""Seconds between two looks: of news after a silence, and of news that go on and on."""
BUSY = 0.003
"""Seconds the first news wait while a change is under way."""


class PacedReader:
    """Calls ``read`` in the running loop when ``fd`` is readable: at once, then after pauses, each twice as long.

    What one change of the host brings arrives in a dozen pieces within a few milliseconds, and to wake up for each
    costs the loop more than to read it. Once it was silent for as long as it had paused, the next news counts as new.

    New news wait a moment ``while_busy``: most of it is then what the change brings, which need not wait for its echo.
    """

    def __init__(self, fd: int, read: Callable[[], None], while_busy: Callable[[], bool] = lambda: False) -> None:
        self._fd = fd
        self._read = read
        self._while_busy = while_busy
        self._waited = False
        self._loop = asyncio.get_running_loop()
        self._length = 0.0
        self._listens_since = 0.0
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Stop reading; to be called before ``fd`` is closed. Closing twice is harmless."""
        if self._pause is not None:
            self._pause.cancel()
        elif self._fd != -1:
            self._loop.remove_reader(self._fd)
        self._fd = -1

    def _listen(self) -> None:
        self._pause = None
        self._listens_since = self._loop.time()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        goes_on = self._loop.time() - self._listens_since < self._length
        self._waited = not goes_on and not self._waited and self._while_busy()
        self._length = min(2 * self._length, LONGEST) if goes_on else SHORTEST
        self._loop.remove_reader(self._fd)
        self._pause = self._loop.call_later(BUSY if self._waited else self._length, self._listen)
        if not self._waited:
            self._read()
