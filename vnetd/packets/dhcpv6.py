"""DHCP for IPv6: the addresses of a message and how long they are valid (RFC 8415, 21.4 to 21.6)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

REPLY, RELEASE, DECLINE = 7, 8, 9
IA_NA, IA_TA, IA_ADDRESS = 3, 4, 5
HEADER = 4
BEFORE_OPTIONS = {IA_NA: 12, IA_TA: 4}
"""Bytes of an identity association before its own options."""
FOR_EVER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Message:
    """``addresses`` are those of all identity associations, each with its valid lifetime (``None``: infinite)."""

    kind: int
    addresses: tuple[tuple[IPv6Address, int | None], ...]


def parse(data: bytes) -> Message:
    """Read a message between client and server. Raises ``ValueError`` or ``struct.error`` for what is cut off."""
    if not data:
        raise ValueError("no message")
    addresses = [
        found
        for code, value in _options(data[HEADER:])
        if code in BEFORE_OPTIONS
        for found in _addresses(value[BEFORE_OPTIONS[code] :])
    ]
    return Message(data[0], tuple(addresses))


def _addresses(data: bytes) -> Iterator[tuple[IPv6Address, int | None]]:
    for code, value in _options(data):
        if code == IA_ADDRESS:
            valid = struct.unpack_from("!I", value, 20)[0]
            yield IPv6Address(value[:16]), None if valid == FOR_EVER else valid


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        code, length = struct.unpack_from("!HH", data, place)
        value = data[place + 4 : place + 4 + length]
        if len(value) < length:
            raise ValueError("cut off in an option")
        yield code, value
        place += 4 + length
