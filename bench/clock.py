"""Measures the time between two kernel events, as any process on the host could: by listening to them."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from support.netns import Namespace

_HEADER = struct.Struct("=IHHII")


@dataclass(frozen=True, slots=True)
class Watched:
    """Which netlink messages tell that something went and came back; ``groups`` is the multicast bit mask."""

    protocol: int
    groups: int
    gone: int
    back: int


_ROUTE, _NETFILTER = 0, 12  # NETLINK_ROUTE, NETLINK_NETFILTER
LINK = Watched(_ROUTE, 0x1, gone=17, back=16)
ADDRESS = Watched(_ROUTE, 0x10, gone=21, back=20)
ROUTE = Watched(_ROUTE, 0x40, gone=25, back=24)
RULE = Watched(_NETFILTER, 1 << 6, gone=10 << 8 | 8, back=10 << 8 | 6)


class Clock:
    """Listens in a namespace from construction to the end of its block."""

    def __init__(self, namespace: Namespace, watched: Watched) -> None:
        self._watched = watched
        with namespace.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, watched.protocol)
        self._socket.bind((0, watched.groups))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def gap(self, damage: Callable[[], object], *, deadline: float = 10) -> float:
        """Do damage and return the seconds from the event that reports it to the one that reports its repair."""
        doing = asyncio.get_running_loop().run_in_executor(None, damage)
        async with asyncio.timeout(deadline):
            gone = await self._hear(self._watched.gone)
            back = await self._hear(self._watched.back)
        await doing
        return back - gone

    async def _hear(self, wanted: int) -> float:
        """When the next message of this type arrived."""
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
            now = time.perf_counter()
            if wanted in set(_types(data)):
                return now


def _types(data: bytes) -> list[int]:
    found = []
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        found.append(kind)
        data = data[max(_HEADER.size, length + 3 & ~3) :]
    return found
