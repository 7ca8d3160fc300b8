"""Rules of policy routing as the kernel tells them."""

import struct
from collections.abc import Mapping

from vnetd.linux.netlink import encode
from vnetd.plan.possessions import HeldRule

SUPPRESS_PREFIXLEN, TABLE, PROTOCOL = 14, 15, 21
NEVER = b"\xff" * 4
TO_TABLE = 1
RT_TABLE_COMPAT = 252


def rule(
    priority: int,
    iif: str = "",
    oif: str = "",
    *,
    family: int = 2,
    lengths: tuple[int, int] = (0, 0),
    tos: int = 0,
    table: int = 7,
    action: int = TO_TABLE,
    flags: int = 0,
    more: Mapping[int, bytes] | None = None,
) -> HeldRule:
    """A rule about devices; ``lengths`` of the prefixes it is to and from, ``more`` attributes by type."""
    small = table if table < 256 else RT_TABLE_COMPAT
    head = struct.pack("=BBBBBxxBI", family, *lengths, tos, small, action, flags)
    attributes = {SUPPRESS_PREFIXLEN: NEVER, TABLE: struct.pack("=I", table), PROTOCOL: b"\0"} | dict(more or {})
    return HeldRule(priority, head + b"".join(encode(kind, attributes[kind]) for kind in sorted(attributes)), iif, oif)
