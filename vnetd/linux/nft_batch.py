"""Transactions of nf_tables without libnftables: what guests coming and going consist of (docs/adr/0020).

libnftables takes at least three times as long for them, for it first lists every chain and set there is. All else is
left to it.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

from vnetd.linux.netlink import HEADER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, RECEIVE, S32, messages
from vnetd.linux.nft_elements import coming, going
from vnetd.linux.nft_entrances import entrances
from vnetd.linux.nft_json import Kinds
from vnetd.linux.nft_messages import GENERIC, SUBSYSTEM, Message, Unsuited
from vnetd.plan.rules import Fragment

BATCH_BEGIN, BATCH_END = 0x10, 0x11
MOST = 256
"""Elements, chains and rules of one transaction: the kernel counts the bytes of a list of elements with 16 bits, and a
socket holds that many answers, should each be refused."""


class BatchWriter:
    """Commits through ``sock``, the library's own: tables may belong to it. Used by one thread at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 0

    def commit(self, remove: Fragment, add: Fragment, kinds: Kinds) -> None:
        """One transaction: what goes, then what comes. Raises ``Unsuited``, and ``OSError`` as the kernel refuses."""
        if not (changes := list(_changes(remove, add, kinds))):
            return
        whole = GENERIC.pack(0, 0, SUBSYSTEM)
        *others, (kind, flags, body) = changes
        # What is refused is answered anyway, and whatever comes after it looked at still.
        last = kind, flags | NLM_F_ACK, body
        batch = [(BATCH_BEGIN, NLM_F_REQUEST, whole), *others, last, (BATCH_END, NLM_F_REQUEST, whole)]
        self._sock.send(b"".join(map(self._numbered, batch)))
        answers = list(self._take_answers())
        if code := next((code for code in answers if code), 0 if answers else errno.EPROTO):
            raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _numbered(self, message: Message) -> bytes:
        kind, flags, body = message
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        return HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body

    def _take_answers(self) -> Iterator[int]:
        """Error numbers, 0 for what was done; all are there by the time the batch is sent."""
        with suppress(BlockingIOError):
            while True:
                data = self._sock.recv(RECEIVE, socket.MSG_DONTWAIT)
                for kind, _flags, _sequence, _port, start, _end in messages(data):
                    if kind == NLMSG_ERROR:
                        yield -S32.unpack_from(data, start)[0]


def _changes(remove: Fragment, add: Fragment, kinds: Kinds) -> Iterator[Message]:
    """In the order of ``nft_json.transaction``."""
    rules = sum(len(chain.rules) for chain in add.chains)
    count = len(remove.elements) + len(add.elements) + len(add.chains) + rules
    if remove.chains or remove.sets or add.sets or count > MOST:
        raise Unsuited
    yield from going(remove.elements, kinds)
    yield from entrances(add.chains, kinds)
    yield from coming(add.elements, kinds)
