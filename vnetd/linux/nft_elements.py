"""Elements of plain sets and maps as nf_tables messages: what guests coming and going consist of (docs/adr/0020).

libnftables takes three times as long for them, for it first lists every chain and set there is. All else is left to it.
Numbers are those of the kernel's nf_tables.h and nfnetlink.h, lengths and order of bytes those it gives the types.
"""

import errno
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from vnetd.linux.netlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    RECEIVE,
    S32,
    encode,
    messages,
)
from vnetd.linux.nft_json import TABLE, Kinds
from vnetd.plan.rules import Element, Family, Fragment, Set

BATCH_BEGIN, BATCH_END, SUBSYSTEM = 0x10, 0x11, 10
NEW_ELEMENT, DELETE_ELEMENT = SUBSYSTEM << 8 | 12, SUBSYSTEM << 8 | 14
LIST_TABLE, LIST_SET, LIST_ELEMENTS, LIST_ELEMENT = 1, 2, 3, 1
ELEMENT_KEY, ELEMENT_DATA, DATA_VALUE, DATA_VERDICT, VERDICT_CODE, VERDICT_CHAIN = 1, 2, 1, 2, 1, 2
NESTED = 0x8000
VERDICTS = {"drop": 0, "accept": 1, "continue": -1, "jump": -3, "goto": -4, "return": -5}
FAMILY: Mapping[Family, int] = {"inet": 1, "netdev": 5, "bridge": 7}
GENERIC = struct.Struct(">BBH")
"""nfgenmsg: family, version, resource."""
CODE = struct.Struct(">i")
NAME = 16
"""Bytes of an interface name in a key."""
MOST = 256
"""Elements of one transaction; the kernel counts the bytes of each list of them with 16 bits."""


class Unsuited(Exception):
    """The transaction holds something that only libnftables can say."""


class ElementWriter:
    """Commits elements through ``sock``, the library's own: tables may belong to it. Used on the library's thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sequence = 0

    def commit(self, remove: Fragment, add: Fragment, kinds: Kinds) -> None:
        """One transaction: what goes, then what comes. Raises ``Unsuited``, and ``OSError`` as the kernel refuses."""
        if remove.chains or remove.sets or add.chains or add.sets or len(remove.elements) + len(add.elements) > MOST:
            raise Unsuited
        changes = [
            *_changes(DELETE_ELEMENT, NLM_F_REQUEST, remove.elements, kinds),
            *_changes(NEW_ELEMENT, NLM_F_REQUEST | NLM_F_CREATE, add.elements, kinds),
        ]
        whole = GENERIC.pack(0, 0, SUBSYSTEM)
        batch = [(BATCH_BEGIN, NLM_F_REQUEST, whole), *changes, (BATCH_END, NLM_F_REQUEST, whole)]
        self._sock.send(b"".join(self._message(kind, flags, body) for kind, flags, body in batch))
        answers = list(self._take_answers())
        if refusals := [code for code in answers if code]:
            raise OSError(refusals[0], os.strerror(refusals[0]))
        if len(answers) != len(changes):
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _message(self, kind: int, flags: int, body: bytes) -> bytes:
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


def _changes(kind: int, flags: int, elements: Collection[Element], kinds: Kinds) -> Iterator[tuple[int, int, bytes]]:
    """One message a set, sorted, so that equal changes are equal messages."""
    by_set: defaultdict[tuple[Family, str], list[Element]] = defaultdict(list)
    for element in elements:
        by_set[element.family, element.set].append(element)
    for (family, name), members in sorted(by_set.items()):
        one = kinds.get((family, name))
        if one is None or one.flags or one.data not in {None, "verdict"}:
            raise Unsuited
        listed = b"".join(_nest(LIST_ELEMENT, _element(member, one)) for member in members)
        body = GENERIC.pack(FAMILY[family], 0, 0) + _text(LIST_TABLE, TABLE) + _text(LIST_SET, name)
        yield kind, flags | NLM_F_ACK, body + _nest(LIST_ELEMENTS, listed)


def _element(element: Element, one: Set) -> bytes:
    """Its key, each component of several filled up to whole words, and in a map its verdict."""
    try:
        parts = [PACKED[kind](text) for kind, text in zip(one.key, element.key, strict=True)]
    except (KeyError, ValueError):
        raise Unsuited from None
    key = parts[0] if len(parts) == 1 else b"".join(part + bytes(-len(part) % 4) for part in parts)
    return _nest(ELEMENT_KEY, encode(DATA_VALUE, key)) + (_verdict(element.data) if one.data else b"")


def _verdict(data: str) -> bytes:
    verdict, _, chain = data.partition(" ")
    code = encode(VERDICT_CODE, CODE.pack(VERDICTS[verdict]))
    return _nest(ELEMENT_DATA, _nest(DATA_VERDICT, code + (_text(VERDICT_CHAIN, chain) if chain else b"")))


def _interface(name: str) -> bytes:
    raw = name.encode()
    if not 0 < len(raw) < NAME or raw.endswith(b"*"):  # that would be a prefix
        raise ValueError(name)
    return raw.ljust(NAME, b"\0")


def _ethernet(address: str) -> bytes:
    raw = bytes.fromhex(address.replace(":", ""))
    if len(raw) != 6:
        raise ValueError(address)
    return raw


PACKED: Mapping[str, Callable[[str], bytes]] = {
    "ifname": _interface,
    "ipv4_addr": lambda text: IPv4Address(text).packed,
    "ipv6_addr": lambda text: IPv6Address(text).packed,
    "ether_addr": _ethernet,
}
"""Components of a key by their type."""


def _nest(kind: int, body: bytes) -> bytes:
    return encode(kind | NESTED, body)


def _text(kind: int, text: str) -> bytes:
    return encode(kind, text.encode() + b"\0")
