"""What messages of nf_tables consist of, whatever they are about.

Numbers here and in what is built of it are those of the kernel's nf_tables.h and nfnetlink.h, lengths and order of
bytes those it gives the types.
"""

import struct
from collections.abc import Mapping

from vnetd.linux.netlink import encode
from vnetd.plan.rules import Family

SUBSYSTEM = 10
FAMILY: Mapping[Family, int] = {"inet": 1, "netdev": 5, "bridge": 7}
GENERIC = struct.Struct(">BBH")
"""nfgenmsg: family, version, resource."""
SIGNED = struct.Struct(">i")
DATA_VALUE, DATA_VERDICT = 1, 2
LIST_MEMBER = 1
"""The type of each member of a list."""
NAME = 16
"""Bytes of an interface name in a key."""

Message = tuple[int, int, bytes]
"""Type, flags and body; number and sender come with the sending."""


class Unsuited(Exception):
    """The transaction holds something that only libnftables can say."""


def nest(kind: int, body: bytes) -> bytes:
    """An attribute that consists of attributes."""
    return encode(kind | 0x8000, body)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a text."""
    return encode(kind, value.encode() + b"\0")


def signed(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits; those without sign look alike up to 2**31."""
    return encode(kind, SIGNED.pack(value))


def interface(name: str) -> bytes:
    """An interface name, filled up as it is in keys. ``ValueError`` if it is none, or libnftables' form of a prefix."""
    raw = name.encode()
    if not 0 < len(raw) < NAME or raw.endswith(b"*"):
        raise ValueError(name)
    return raw.ljust(NAME, b"\0")
