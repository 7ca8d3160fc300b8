"""Named threads that do the waiting for the kernel, so that the event loop never does.

A netlink request runs inside ``sendmsg``, whatever wraps it: deleting a bridge holds its thread for tens of
milliseconds. While a worker runs Python code it shares the interpreter lock with the loop; the composition root
should call ``sys.setswitchinterval(SWITCH_INTERVAL)`` so that the loop gets it back within half a millisecond
instead of Python's default of five.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that holds the interpreter lock offers it to others."""

log = logging.getLogger(__name__)

_under_way: set[object] = set()


def at_work() -> bool:
    """Whether the loop waits for something it has handed to a thread."""
    return bool(_under_way)


class Work(Generic[T]):
    """A call that is handed to a thread, and its outcome for the task that waits.

    A start of a network takes a dozen of these; two chained futures for each, as ``run_in_executor`` makes them,
    would cost the loop four times as much.
    """

    __slots__ = ("_calls", "_loop", "_waiter", "ended", "error", "result")

    def __init__(self, call: Callable[[], T]) -> None:
        self.ended = False
        self.error: BaseException | None = None
        self.result: T
        self._calls = [call]  # taken by whoever is first: the thread, or a caller who gives up
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] = self._loop.create_future()

    def drop(self) -> bool:
        """See that it never begins; whether it had not begun yet."""
        return self._take() is not None

    def do(self) -> None:
        """On the thread: do it, unless it was dropped."""
        call = self._take()
        if call is None:
            return
        try:
            self.result = call()
        except BaseException as error:
            self.error = error
        with suppress(RuntimeError):  # a loop that is closed has nobody who waits
            self._loop.call_soon_threadsafe(self._end)

    async def outcome(self) -> T:
        """Its result, or its exception. A cancellation does not end the work."""
        await self._waiter
        if self.error is not None:
            raise self.error
        return self.result

    async def settle(self) -> None:
        """Wait until it has ended, even if the waiting task is cancelled again."""
        while not self.ended:
            self._waiter = self._loop.create_future()
            with suppress(asyncio.CancelledError):
                await self._waiter

    def _take(self) -> Callable[[], T] | None:
        try:
            return self._calls.pop()
        except IndexError:
            return None

    def _end(self) -> None:
        self.ended = True
        if not self._waiter.done():
            self._waiter.set_result(None)


class Worker:
    """One thread that runs functions in the order they were handed in; it begins with the first, or by ``begin``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(
        self, function: Callable[[*Args], T], *args: *Args, discard: Callable[[T], object] | None = None
    ) -> T:
        """Run ``function(*args)`` on the thread and return its result or raise its exception.

        If the awaiting task is cancelled, work that has not begun never begins; work that has begun is waited
        for, its result goes to ``discard`` (on the thread) and only then is the cancellation passed on. So nothing
        is left running or half made behind a cancelled caller.
        """
        work = self._begin(partial(function, *args))
        _under_way.add(work)
        try:
            return await work.outcome()
        except asyncio.CancelledError:
            if not work.drop():
                await self._discard(work, discard)
            raise
        finally:
            _under_way.discard(work)

    async def _discard(self, work: Work[T], discard: Callable[[T], object] | None) -> None:
        await work.settle()
        if work.error is not None:
            log.warning("%s: work whose caller was cancelled failed: %s", self.name, work.error)
        elif discard is not None:
            await self._begin(partial(discard, work.result)).settle()

    def begin(self) -> None:
        """Start the thread if it does not run yet; returns once it does."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()

    def submit(self, function: Callable[[*Args], object], *args: *Args) -> None:
        """Queue work nobody waits for; it must deal with its own errors."""
        self._put(partial(_logged, self.name, partial(function, *args)))

    def leave(self) -> None:
        """Have the thread end once it has done what is queued, which nobody waits for."""
        self._closed = True
        self._queue.put(None)

    async def close(self, last: Callable[[], object] | None = None) -> None:
        """Finish what is queued, then ``last``, then end the thread. Closing twice is harmless."""
        if self._closed:
            return
        work = self._begin(last or _nothing)
        self._closed = True
        self._queue.put(None)
        try:
            await work.outcome()
        except asyncio.CancelledError:
            await work.settle()
            raise

    def _begin(self, call: Callable[[], T]) -> Work[T]:
        work = Work(call)
        self._put(work.do)
        return work

    def _put(self, item: Callable[[], None]) -> None:
        if self._closed:
            raise RuntimeError(f"{self.name} is closed")
        self.begin()
        self._queue.put(item)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            item()
            del item  # what it holds must not wait for the next


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


def _logged(name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        log.exception("%s: work nobody waits for failed", name)


async def _settle(waiters: Sequence[asyncio.Future[T]]) -> None:
    """Wait until all are done, whatever their outcome, even if the waiting task is cancelled again."""
    while not all(waiter.done() for waiter in waiters):
        try:
            await asyncio.wait(waiters)
        except asyncio.CancelledError:
            continue
