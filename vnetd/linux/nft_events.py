"""What other processes do to vnetd's nftables tables, from the kernel's netlink multicast group.

A transaction is reported as one message an object, then one that closes it and names the process. Each message
carries the netlink port of who asked for it: that tells vnetd's own transactions, whatever process or thread id
the kernel sees (nf_tables.h, nfnetlink.h of the kernel's user-space API).
"""

from collections.abc import Callable
from typing import Literal

from vnetd.host.events import Overflow, RulesEvent
from vnetd.linux.netlink import NETLINK_NETFILTER, attribute, messages
from vnetd.linux.netlink_listener import Burst, Listener, listening
from vnetd.plan.rules import Family

GROUP_NFTABLES = 7
SUBSYSTEM_NFTABLES = 10
RECEIVE_BUFFER = 8 << 20
"""Bytes; a table of a thousand networks that is flushed at once fits."""

GENERIC = 4
"""Length of nfgenmsg: family, version, resource id."""
FAMILIES: dict[int, Family] = {1: "inet", 5: "netdev", 7: "bridge"}
NEW_GENERATION = 15
TABLE_NAME, PROCESS_NAME = 1, 3

Kind = Literal["table", "chain", "rules", "set"]
OBJECTS: dict[int, tuple[Kind, int]] = {
    **dict.fromkeys((0, 2), ("table", 1)),
    **dict.fromkeys((3, 5), ("chain", 3)),
    **dict.fromkeys((6, 8), ("rules", 2)),
    **dict.fromkeys((9, 11), ("set", 2)),
    **dict.fromkeys((12, 14), ("set", 2)),
    **dict.fromkeys((18, 20, 22, 24), ("table", 1)),
}
"""By message (new and deleted tables, chains, rules, sets, elements, stateful objects, flow tables): what to list
again and which attribute has its name. In all of them attribute 1 is the table's name."""


class RulesMonitor:
    """Reports each foreign transaction that touches table ``vnetd``, each object once a transaction.

    ``own_ports`` are the netlink ports whose transactions are not reported. The kernel keeps them back, so that they
    wake nobody: a datagram tells of one transaction only.
    """

    def __init__(self, listener: Callable[[RulesEvent | Overflow], None], own_ports: frozenset[int]) -> None:
        self._listener = listener
        self._own_ports = own_ports
        self._touched: dict[tuple[Family, Kind, str], None] = {}
        self._reader: Listener | None = None

    def open(self, receive_buffer: int = RECEIVE_BUFFER) -> None:
        """Listen in the caller's network namespace, on the running event loop. ``OSError`` if it cannot."""
        sock = listening(NETLINK_NETFILTER, receive_buffer, (GROUP_NFTABLES,), self._own_ports)
        self._reader = Listener(sock, self._take)

    def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.close()

    def _take(self, burst: Burst) -> None:
        for data in burst:
            if data is None:
                self._touched.clear()
                self._listener(Overflow("nftables"))
                continue
            for kind, _flags, _sequence, _port, start, end in messages(data):
                if kind >> 8 == SUBSYSTEM_NFTABLES and end - start >= GENERIC:
                    self._note(kind & 0xFF, FAMILIES.get(data[start]), data, start + GENERIC, end)

    def _note(self, kind: int, family: Family | None, data: bytes, start: int, end: int) -> None:
        """One message: an object of a transaction, or its end."""
        if kind == NEW_GENERATION:
            cause = text(data, start, end, PROCESS_NAME)
            touched, self._touched = self._touched, {}
            for key in touched:
                self._listener(RulesEvent(*key, cause))
        elif family and (named := touched_object(kind, data, start, end)):
            self._touched[family, *named] = None


def touched_object(kind: int, data: bytes, start: int, end: int) -> tuple[Kind, str] | None:
    """Which object of ours a message is about; ``None`` for other tables and for anonymous sets (part of rules)."""
    described = OBJECTS.get(kind)
    if described is None or text(data, start, end, TABLE_NAME) != "vnetd":
        return None
    what, place = described
    name = text(data, start, end, place)
    return None if name.startswith("__") else (what, name)


def text(data: bytes, start: int, end: int, wanted: int) -> str:
    """A text attribute, "" if it is missing."""
    return (attribute(data, start, end, wanted) or b"").rstrip(b"\0").decode(errors="replace")
