"""Has links deleted by threads, and waits only until they are gone (docs/adr/0024)."""

import asyncio
import errno
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from vnetd.linux import netlink
from vnetd.linux.deletion import Deletions
from vnetd.linux.netlink import RECEIVE, ReadSocket, messages
from vnetd.linux.netlink_listener import listening
from vnetd.linux.threads import Worker, ended
from vnetd.plan.kernel import DeleteLink

THREADS = 4
"""Deletions the kernel is left to finish at once; those who come while it does wait for one to end."""
AF_UNSPEC = 0
RECEIVE_BUFFER = 1 << 20
"""Bytes; what is lost if they do not suffice only takes longer to be known."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Thread:
    worker: Worker
    socket: ReadSocket

    async def close(self) -> None:
        await self.worker.close(self.socket.close)


class Deleter:
    """Deletes links of one network namespace. All but ``_work`` belongs to the loop's thread."""

    def __init__(self) -> None:
        """Listen, in the running loop, to the caller's network namespace. Raises ``OSError``."""
        self._deletions = Deletions()
        self._loop = asyncio.get_running_loop()
        self._news = listening(netlink.NETLINK_ROUTE, RECEIVE_BUFFER, (netlink.RTNLGRP_LINK,), only=netlink.RTM_DELLINK)
        self._news.setblocking(False)
        self._threads = [_Thread(Worker(f"vnetd-delete-{number}"), ReadSocket()) for number in range(THREADS)]
        self._idle = self._threads[::-1]
        self._loop.add_reader(self._news.fileno(), self._read)
        for thread in self._threads:
            thread.worker.begin()  # now: who starts one waits until it runs

    @property
    def ports(self) -> frozenset[int]:
        """Port ids of the sockets requests are made with."""
        return frozenset(thread.socket.port for thread in self._threads)

    async def close(self) -> None:
        """Finish what is under way and end the threads. Closing twice is harmless."""
        for thread in self._threads:
            await thread.close()
        if self._news.fileno() != -1:
            self._loop.remove_reader(self._news.fileno())
            self._news.close()

    async def delete(self, operations: Sequence[DeleteLink]) -> None:
        """Return when none of these links is there any more; one that carries another alias is left alone.

        Raises the first ``HostError`` when all have ended. If the caller is cancelled, deletions that have not begun
        never do, and those that have are waited for.
        """
        futures = [self._deletions.add(operation) for operation in operations]
        self._hand_out()
        await ended(futures)
        errors = [error for future in futures if (error := future.exception())]
        for error in errors[1:]:
            log.warning("%s", error)
        if errors:
            raise errors[0]

    def _hand_out(self) -> None:
        """Wake a thread if there is work; one more with each deletion that comes while the others are busy."""
        if self._deletions.pending and self._idle:
            thread = self._idle.pop()
            thread.worker.submit(self._work, thread)

    def _work(self, thread: _Thread) -> None:
        try:
            self._deletions.work(thread.socket)
        finally:
            with suppress(RuntimeError):  # a loop that is closed hands out nothing
                self._loop.call_soon_threadsafe(self._rest, thread)

    def _rest(self, thread: _Thread) -> None:
        self._idle.append(thread)
        self._hand_out()

    def _read(self) -> None:
        try:
            data = self._news.recv(RECEIVE)
        except OSError as error:
            if error.errno not in {errno.ENOBUFS, errno.EAGAIN}:
                raise
            return  # whoever waits hears from the thread
        for kind, _flags, _sequence, _port, start, end in messages(data):
            if kind == netlink.RTM_DELLINK and end - start >= netlink.LINK.size and data[start] == AF_UNSPEC:
                self._deletions.gone(netlink.LINK.unpack_from(data, start)[2])
