"""Processes that run beside the daemon and outlive it: their end is noticed in the event loop, through pidfds.

A pidfd never comes to mean another process, as a process id does.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from vnetd.linux.processes import reap


class Process(Protocol):
    """What is known of a process; it owns the pidfd."""

    @property
    def pidfd(self) -> int: ...


P = TypeVar("P", bound=Process)


class Supervised(Generic[P]):
    """Processes by name. ``ended`` is called with one that ended by itself; its pidfd is closed afterwards."""

    def __init__(self, ended: Callable[[str, P], None]) -> None:
        self._ended = ended
        self._processes: dict[str, P] = {}
        self._loop = asyncio.get_running_loop()

    def __contains__(self, name: str) -> bool:
        return name in self._processes

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._processes))

    def get(self, name: str) -> P | None:
        """The process of this name."""
        return self._processes.get(name)

    def add(self, name: str, process: P) -> None:
        """Look after a process from now on, and no more after another of this name."""
        if (before := self.take(name)) is not None:
            os.close(before.pidfd)
        self._processes[name] = process
        self._loop.add_reader(process.pidfd, self._readable, name)

    def take(self, name: str) -> P | None:
        """Look after it no more; to close its pidfd is the caller's now."""
        process = self._processes.pop(name, None)
        if process is not None:
            self._loop.remove_reader(process.pidfd)
        return process

    def close(self) -> None:
        """Let go of all of them; they run on."""
        for name in self:
            if (process := self.take(name)) is not None:
                os.close(process.pidfd)

    def _readable(self, name: str) -> None:
        if (process := self.take(name)) is not None:
            reap(process.pidfd)
            self._ended(name, process)
            os.close(process.pidfd)


async def ended(fd: int, patience: float) -> bool:
    """Wait in the event loop until a process ends, or the last to write to a pipe; False after ``patience`` seconds."""
    loop = asyncio.get_running_loop()
    noticed = asyncio.Event()
    loop.add_reader(fd, noticed.set)
    try:
        async with asyncio.timeout(patience):
            await noticed.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True
