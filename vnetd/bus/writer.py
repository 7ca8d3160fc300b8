"""The way out: bytes and file descriptors to the bus socket, in order, at the pace of the bus."""

import array
import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dbus_next.message import Message

RETRY = 0.05  # seconds, while the kernel has too many descriptors in flight
MOST_TOGETHER = 64  # messages in one system call
MOST_AT_ONCE = 256 << 10  # bytes, before the loop may look after something else, even if the bus takes more
TOO_MUCH_QUEUED = 8 << 20  # bytes


@dataclass(slots=True)
class _Outgoing:
    data: memoryview
    fds: tuple[int, ...]
    sent: asyncio.Future[None] | None


class Writer:
    """Takes the place of dbus-next's writer, which ends the connection when the socket is full.

    It owns the descriptors it is given: they are numbers, not duplicates, until the kernel has taken them along with
    the first byte of their message; then, or when the connection is lost, it closes them. Closing the last descriptor
    of a tap takes the kernel 20 ms, and whether it is the last is not known here, so a worker thread does it.
    """

    def __init__(self, sock: socket.socket, on_error: Callable[[OSError], None], on_room: Callable[[], None]) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._on_error = on_error
        self._on_room = on_room
        self._queue: deque[_Outgoing] = deque()
        self._queued = 0
        self._scheduled = False
        self._closed = False
        self._has_room = asyncio.Event()
        self._has_room.set()

    @property
    def congested(self) -> bool:
        """Whether so much waits for the bus that no more calls should be read."""
        return self._queued > TOO_MUCH_QUEUED

    async def room(self) -> None:
        """Return when not congested, or when the connection is over."""
        while self.congested:
            self._has_room.clear()
            await self._has_room.wait()

    async def drained(self) -> None:
        """Return when everything given so far has been handed to the bus, or the connection is over."""
        if self._queue:
            last = self._queue[-1]
            last.sent = last.sent or self._loop.create_future()
            await asyncio.wait([last.sent])

    def put(self, data: bytes, fds: tuple[int, ...] = (), sent: asyncio.Future[None] | None = None) -> None:
        """Send a message after those already given; takes over ``fds`` in any case."""
        if self._closed:
            self.discard(fds)
            return
        self._queue.append(_Outgoing(memoryview(data), fds, sent))
        self._queued += len(data)
        self._schedule()

    def schedule_write(self, message: Message | None = None, future: asyncio.Future[None] | None = None) -> None:
        """What dbus-next calls to send a message of its own."""
        if message is not None:
            self.put(bytes(message._marshall(negotiate_unix_fd=True)), sent=future)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """The connection is over: forget what was not sent and close its descriptors."""
        self._closed = True
        for outgoing in self._queue:
            self.discard(outgoing.fds)
            if outgoing.sent is not None and not outgoing.sent.done():
                outgoing.sent.cancel()
        self._queue.clear()
        self._queued = 0
        self._has_room.set()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        was_congested = self.congested
        try:
            sent = 0
            while self._queue and sent < MOST_AT_ONCE:
                sent += self._send()
            if self._queue:
                self._schedule()
        except (BlockingIOError, InterruptedError):
            self._scheduled = True
            self._loop.add_writer(self._sock.fileno(), self._writable)
        except OSError as error:
            self._failed(error)
        if was_congested and not self.congested and not self._closed:
            self._has_room.set()
            self._on_room()

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._flush()

    def _failed(self, error: OSError) -> None:
        if error.errno == errno.ETOOMANYREFS:
            self._scheduled = True
            self._loop.call_later(RETRY, self._flush)
        elif not self._closed:
            self._on_error(error)

    def _send(self) -> int:
        first = self._queue[0]
        if first.fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", first.fds))]
            sent = self._sock.sendmsg([first.data], rights)
            self.discard(first.fds)
            first.fds = ()
        else:
            sent = self._sock.sendmsg(self._plain_run())
        self._advance(sent)
        return sent

    def _plain_run(self) -> list[memoryview]:
        """What can go out in one system call: descriptors must begin one, to stay with their message."""
        run: list[memoryview] = []
        room = MOST_AT_ONCE
        for outgoing in self._queue:
            if outgoing.fds or room <= 0 or len(run) == MOST_TOGETHER:
                break
            run.append(outgoing.data[:room])
            room -= len(outgoing.data)
        return run

    def _advance(self, sent: int) -> None:
        self._queued -= sent
        while sent:
            first = self._queue[0]
            if sent < len(first.data):
                first.data = first.data[sent:]
                return
            sent -= len(first.data)
            self._queue.popleft()
            if first.sent is not None and not first.sent.done():
                first.sent.set_result(None)

    def discard(self, fds: Iterable[int]) -> None:
        """Close descriptors without making the loop wait for the kernel."""
        for fd in fds:
            try:
                self._loop.run_in_executor(None, os.close, fd)
            except RuntimeError:  # the loop's workers have been sent home already
                os.close(fd)
