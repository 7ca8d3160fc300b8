"""What the kernel sends to a netlink socket unasked, read in the event loop a little at a time."""

import asyncio
import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator

from vnetd.linux.netlink import RECEIVE, SOL_NETLINK
from vnetd.linux.paced import PacedReader
from vnetd.linux.threads import at_work

NETLINK_ADD_MEMBERSHIP = 1
SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER = 26
LOAD_WORD, LOAD_HALF, JUMP_IF_EQUAL, RETURN, WHOLE = 0x20, 0x28, 0x15, 0x06, 0xFFFFFFFF
KIND_OFFSET, PORT_OFFSET = 4, 12
"""Where nlmsghdr says what a message is, and whose request it tells of."""
BURST = 64
"""Reads at most before the loop gets a turn."""
BURST_TIME = 0.001
"""Seconds after which it gets one anyway: each read may have to wait for a worker to yield the interpreter."""

Step = tuple[int, int, int, int]
"""An instruction of a classic filter: what to do, how many to skip if it is so and if not, and its operand."""

Burst = Iterator[bytes | None]
"""Datagrams of one turn of the loop; ``None`` where the kernel had to drop some."""


class Listener:
    """Calls ``take`` with what has arrived, in the running loop, until it is closed; it owns ``sock``.

    ``receive`` reads one datagram, for who needs more of it than its bytes.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[Burst], None],
        receive: Callable[[socket.socket], bytes] = lambda sock: sock.recv(RECEIVE),
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._take = take
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._reader = PacedReader(sock.fileno(), self._readable, at_work)

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        if self._socket.fileno() != -1:
            self._reader.close()
            self._socket.close()

    def _readable(self) -> None:
        self._take(self._burst())

    def _burst(self) -> Burst:
        end = self._loop.time() + BURST_TIME
        for _ in range(BURST):
            if self._loop.time() > end or self._socket.fileno() == -1:
                return
            try:
                data = self._receive(self._socket)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                data = None
            yield data


def listening(
    protocol: int,
    receive_buffer: int,
    groups: tuple[int, ...] = (),
    ignoring: Collection[int] = (),
    only: int | None = None,
) -> socket.socket:
    """A socket in the caller's network namespace that is in these multicast groups. Raises ``OSError``.

    ``receive_buffer``: bytes the kernel may queue for it. ``ignoring``: port ids; a datagram whose first message tells
    of a request that came from one of them wakes nobody. Or ``only``: the type its first message must have to wake
    anybody.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if ignoring or only is not None:
            _filter(sock, _without_ports(ignoring) if only is None else _of_kind(only))
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except BaseException:
        sock.close()
        raise
    return sock


def _without_ports(ports: Collection[int]) -> list[Step]:
    values = [_swapped(port, 4) for port in ports]
    comparisons = [(JUMP_IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(LOAD_WORD, 0, 0, PORT_OFFSET), *comparisons, (RETURN, 0, 0, WHOLE), (RETURN, 0, 0, 0)]


def _of_kind(kind: int) -> list[Step]:
    comparison = (JUMP_IF_EQUAL, 0, 1, _swapped(kind, 2))
    return [(LOAD_HALF, 0, 0, KIND_OFFSET), comparison, (RETURN, 0, 0, WHOLE), (RETURN, 0, 0, 0)]


def _swapped(number: int, size: int) -> int:
    """A number of the host's as a classic filter loads it: big-endian."""
    return int.from_bytes(number.to_bytes(size, sys.byteorder), "big")


def _filter(sock: socket.socket, steps: list[Step]) -> None:
    """Attach a classic filter (kernel: Documentation/networking/filter.rst); one socket has one."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(steps), ctypes.addressof(program)))
