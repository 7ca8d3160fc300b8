"""When the kernel reported something, as any process on the host can hear it."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from support.netns import Namespace

_HEADER = struct.Struct("=IHHII")
_ROUTE, _NETFILTER = 0, 12  # NETLINK_ROUTE, NETLINK_NETFILTER
_NFTABLES = 10 << 8  # the subsystem, in the upper byte of the type


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of netlink message; ``groups`` is the bit mask of the multicast groups that carry it."""

    protocol: int
    groups: int
    kind: int


LINK_GONE = Event(_ROUTE, 0x1, 17)
ADDRESS_GONE = Event(_ROUTE, 0x10, 21)
ROUTE_GONE = Event(_ROUTE, 0x40, 25)
TABLE_GONE = Event(_NETFILTER, 1 << 6, _NFTABLES | 2)
RULE_GONE = Event(_NETFILTER, 1 << 6, _NFTABLES | 8)


class EventClock:
    """Listens in a namespace from construction to the end of its block. Only messages that hold ``mark`` count."""

    def __init__(self, namespace: Namespace, event: Event, mark: str = "") -> None:
        self._event = event
        self._mark = mark.encode()
        with namespace.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, event.protocol)
        self._socket.bind((0, event.groups))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def heard(self, cause: Callable[[], object], *, deadline: float = 10) -> float:
        """Do something blocking and return when (``time.perf_counter``) the kernel first reported the event."""
        loop = asyncio.get_running_loop()
        doing = loop.run_in_executor(None, cause)
        async with asyncio.timeout(deadline):
            moment = await self._first()
        await doing
        return moment

    async def _first(self) -> float:
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
            now = time.perf_counter()
            if any(kind == self._event.kind and self._mark in message for kind, message in _messages(data)):
                return now


async def arrival(announced: "asyncio.Queue[list[Any]]", *, deadline: float = 10) -> tuple[float, list[Any]]:
    """When (``time.perf_counter``) the next signal arrives in a queue of ``Client.listen``, and its values."""
    async with asyncio.timeout(deadline):
        values = await announced.get()
    return time.perf_counter(), values


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and whole text of each netlink message in a datagram."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[:length]
        data = data[max(_HEADER.size, length + 3 & ~3) :]
