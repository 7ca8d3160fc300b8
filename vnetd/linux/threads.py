"""Named threads that do the waiting for the kernel, so that the event loop never does.

A netlink request runs inside ``sendmsg``, whatever wraps it: deleting a bridge holds its thread for tens of
milliseconds. While a worker runs Python code it shares the interpreter lock with the loop; the composition root
should call ``sys.setswitchinterval(SWITCH_INTERVAL)`` so that the loop gets it back within half a millisecond
instead of Python's default of five.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that holds the interpreter lock offers it to others."""

log = logging.getLogger(__name__)


class Worker:
    """One thread that runs functions in the order they were handed in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed = False

    async def run(
        self, function: Callable[[*Args], T], *args: *Args, discard: Callable[[T], object] | None = None
    ) -> T:
        """Run ``function(*args)`` on the thread and return its result or raise its exception.

        If the awaiting task is cancelled, work that has not begun never begins; work that has begun is waited
        for, its result goes to ``discard`` (on the thread) and only then is the cancellation passed on. So nothing
        is left running or half made behind a cancelled caller.
        """
        future = self._executor.submit(function, *args)
        try:
            return await finished(future)
        except asyncio.CancelledError:
            if not future.cancelled():
                await self._discard(future, discard)
            raise

    async def _discard(self, future: Future[T], discard: Callable[[T], object] | None) -> None:
        error = future.exception()
        if error is not None:
            log.warning("%s: work whose caller was cancelled failed: %s", self.name, error)
        elif discard is not None:
            await _settle([asyncio.wrap_future(self._executor.submit(discard, future.result()))])

    def submit(self, function: Callable[[*Args], object], *args: *Args) -> None:
        """Queue work nobody waits for; it must deal with its own errors."""
        self._executor.submit(function, *args)

    async def close(self, last: Callable[[], object] | None = None) -> None:
        """Finish what is queued, then ``last``, then end the thread. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.run(last or _nothing)
        finally:
            self._executor.shutdown(wait=False)


async def finished(future: Future[T]) -> T:
    """Result of a thread's work; cancellation as for ``ended``."""
    await ended([future])
    return future.result()


async def ended(futures: Sequence[Future[T]]) -> None:
    """Wait until all of this work has ended, well or not.

    If the waiting task is cancelled, work that has not begun is dropped, what has begun is waited for.
    """
    waiters = [asyncio.wrap_future(future) for future in futures]
    try:
        await asyncio.wait(waiters)
    except asyncio.CancelledError:
        for future in futures:
            future.cancel()
        await _settle(waiters)
        raise
    finally:
        for waiter in waiters:
            if not waiter.cancelled():
                waiter.exception()  # its owner asks ``future``; nobody shall miss it here


def _nothing() -> None:
    return None


async def _settle(waiters: Sequence[asyncio.Future[T]]) -> None:
    """Wait until all are done, whatever their outcome, even if the waiting task is cancelled again."""
    while not all(waiter.done() for waiter in waiters):
        try:
            await asyncio.wait(waiters)
        except asyncio.CancelledError:
            continue
