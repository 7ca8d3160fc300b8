"""What other processes do to vnetd's nftables tables, from the kernel's netlink multicast group.

A transaction is reported as one message an object, then one that closes it and names the process. Each message
carries the netlink port of who asked for it: that tells vnetd's own transactions, whatever process or thread id
the kernel sees (nf_tables.h, nfnetlink.h of the kernel's user-space API).
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from vnetd.host.events import Overflow, RulesEvent
from vnetd.plan.rules import Family

NETLINK_NETFILTER = 12
NETLINK_ADD_MEMBERSHIP = 1
SOL_NETLINK = 270
SO_RCVBUFFORCE = 33
GROUP_NFTABLES = 7
SUBSYSTEM_NFTABLES = 10
RECEIVE_BUFFER = 8 << 20
"""Bytes; a table of a thousand networks that is flushed at once fits."""
READS_A_TURN = 16
"""Reads before the event loop gets its turn again."""

HEADER = struct.Struct("=IHHII")
GENERIC = 4
"""Length of nfgenmsg: family, version, resource id."""
ATTRIBUTE = struct.Struct("=HH")
TYPE_MASK = 0x3FFF
FAMILIES: dict[int, Family] = {1: "inet", 7: "bridge"}
NEW_GENERATION = 15
TABLE_NAME, PROCESS_NAME = 1, 3

Kind = Literal["table", "chain", "set"]
OBJECTS: dict[int, tuple[Kind, int]] = {
    **dict.fromkeys((0, 2), ("table", 1)),
    **dict.fromkeys((3, 5), ("chain", 3)),
    **dict.fromkeys((6, 8), ("chain", 2)),
    **dict.fromkeys((9, 11), ("set", 2)),
    **dict.fromkeys((12, 14), ("set", 2)),
    **dict.fromkeys((18, 20, 22, 24), ("table", 1)),
}
"""By message (new and deleted tables, chains, rules, sets, elements, stateful objects, flow tables): what to list
again and which attribute has its name. In all of them attribute 1 is the table's name."""


class Message(NamedTuple):
    """One netlink message of the nftables subsystem."""

    type: int
    port: int
    family: int
    attributes: memoryview


class RulesMonitor:
    """Reports each foreign transaction that touches table ``vnetd``, each object once a transaction.

    ``own_ports`` are the netlink ports whose transactions are not reported.
    """

    def __init__(self, listener: Callable[[RulesEvent | Overflow], None], own_ports: frozenset[int]) -> None:
        self._listener = listener
        self._own_ports = own_ports
        self._touched: dict[tuple[Family, Kind, str], None] = {}
        self._socket: socket.socket | None = None

    def open(self, receive_buffer: int = RECEIVE_BUFFER) -> None:
        """Listen in the caller's network namespace, on the running event loop. ``OSError`` if it cannot."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
            sock.bind((0, 0))
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_NFTABLES)
            asyncio.get_running_loop().add_reader(sock, self._readable)
        except BaseException:
            sock.close()
            raise
        self._socket = sock

    def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        for _ in range(READS_A_TURN):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._touched.clear()
                self._listener(Overflow("nftables"))
                continue
            for message in messages(data):
                self._take(message)

    def _take(self, message: Message) -> None:
        if message.port in self._own_ports:
            return
        if message.type == NEW_GENERATION:
            cause = attribute(message.attributes, PROCESS_NAME)
            touched, self._touched = self._touched, {}
            for family, kind, name in touched:
                self._listener(RulesEvent(family, kind, name, cause))
        elif (key := touched_object(message)) is not None:
            self._touched[key] = None


def touched_object(message: Message) -> tuple[Family, Kind, str] | None:
    """Which object of ours a message is about; ``None`` for other tables and for anonymous sets (part of rules)."""
    family, described = FAMILIES.get(message.family), OBJECTS.get(message.type)
    if family is None or described is None or attribute(message.attributes, TABLE_NAME) != "vnetd":
        return None
    kind, place = described
    name = attribute(message.attributes, place)
    return None if name.startswith("__") else (family, kind, name)


def messages(data: bytes) -> Iterator[Message]:
    """The nftables messages of one read."""
    view, offset = memoryview(data), 0
    while offset + HEADER.size + GENERIC <= len(data):
        length, kind, _, _, port = HEADER.unpack_from(data, offset)
        if length < HEADER.size + GENERIC:
            return
        if kind >> 8 == SUBSYSTEM_NFTABLES:
            start = offset + HEADER.size
            yield Message(kind & 0xFF, port, data[start], view[start + GENERIC : offset + length])
        offset += length + 3 & ~3


def attribute(attributes: memoryview, wanted: int) -> str:
    """A text attribute, "" if it is missing. Names come first, so little is read."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(attributes):
        length, kind = ATTRIBUTE.unpack_from(attributes, offset)
        if length < ATTRIBUTE.size:
            break
        if kind & TYPE_MASK == wanted:
            return bytes(attributes[offset + ATTRIBUTE.size : offset + length]).rstrip(b"\0").decode(errors="replace")
        offset += length + 3 & ~3
    return ""
