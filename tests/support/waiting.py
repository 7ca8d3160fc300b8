"""Waiting for something to become true: polls until a deadline, never sleeps for luck."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

from support.abilities import on_stock_kernel

PAUSE = 0.2 if on_stock_kernel() else 0.01
"""Seconds between two looks: where Python is emulated a look costs several times what the pause does."""


SILENCE = 1.0 if on_stock_kernel() else 0.3
"""Seconds to wait for an answer that must not come. One that comes takes a millisecond: it is all the same machine."""


class NeverHappened(AssertionError):
    """The deadline passed; the message says what was waited for and what was last seen."""


def wait_until(condition: Callable[[], Any], what: str = "", *, deadline: float = 10, pause: float = PAUSE) -> Any:
    """Call ``condition`` until it returns something true and return that; ``deadline`` and ``pause`` in seconds."""
    end = time.monotonic() + deadline
    while True:
        if seen := condition():
            return seen
        if time.monotonic() > end:
            raise _never(condition, what, deadline, seen)
        time.sleep(pause)


async def eventually(
    condition: Callable[[], Any | Awaitable[Any]], what: str = "", *, deadline: float = 10, pause: float = PAUSE
) -> Any:
    """The same without blocking the event loop; ``condition`` may be a coroutine function."""
    end = time.monotonic() + deadline
    while True:
        seen = condition()
        if inspect.isawaitable(seen):
            seen = await seen
        if seen:
            return seen
        if time.monotonic() > end:
            raise _never(condition, what, deadline, seen)
        await asyncio.sleep(pause)


def _never(condition: Callable[[], Any], what: str, deadline: float, seen: object) -> NeverHappened:
    name = what or getattr(condition, "__qualname__", repr(condition))
    return NeverHappened(f"{name}: not within {deadline} s; last seen: {seen!r}")
