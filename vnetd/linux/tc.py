"""Messages of traffic control: what reading and changing it share. Formats: linux/pkt_sched.h, pkt_cls.h.

A device's qdiscs are asked for one by one: a dump would list those of every device of the host.
"""

import errno
import struct
from typing import NamedTuple

from vnetd.linux.netlink import U32, ReadSocket, attributes, nested
from vnetd.plan.traffic import OWN_PRIORITY, ToClass

TC = struct.Struct("=BxxxiIII")
RATE = struct.Struct("=BBHhHI")
HTB_OPTIONS = struct.Struct("=5I")  # behind two rates: buffer, cbuffer, quantum, level, priority
HTB_GLOBAL = struct.Struct("=5I")
SELECTOR = struct.Struct("=BBBxHHhhI")
KEY = struct.Struct(">II")
KEY_OFFSET = struct.Struct("=ii")
MIRRED = struct.Struct("=5IiI")
U64 = struct.Struct("=Q")

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS = 40, 41, 42
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
CHANGES = frozenset({36, 37, 40, 41, 44, 45})
"""Messages that report what became of a qdisc, class or filter."""
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_HTB_PARMS, TCA_HTB_INIT, TCA_HTB_RATE64, TCA_HTB_CEIL64 = 1, 2, 6, 7
TCA_U32_CLASSID, TCA_U32_SEL, TCA_U32_ACT = 1, 5, 7
TCA_ACT_OPTIONS, TCA_MIRRED_PARMS = 2, 2
ROOT, INGRESS, INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
HANDLE = 1 << 16
"""Of the root qdisc, ``1:``."""
ALL_ONES = 0xFFFFFFFF
STOLEN, EGRESS_REDIRECT = 4, 1
REDIRECT_PRIORITY = 1
NONE = frozenset({errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP})
"""What the kernel answers where there is no qdisc, only its own, which it does not show, or no traffic control."""
MAC_OFFSETS = (-14, -12)
"""Of the destination's first and last four octets, from where the network header begins."""


class Message(NamedTuple):
    """A qdisc, class or filter. ``info`` is a filter's priority and protocol, or a class's queue."""

    handle: int
    parent: int
    info: int
    kind: str
    options: bytes


def parse(data: bytes, start: int, end: int) -> Message:
    """The message between two offsets."""
    _family, _index, handle, parent, info = TC.unpack_from(data, start)
    found = attributes(data, start + TC.size, end)
    kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode(errors="replace")
    return Message(handle, parent, info, kind, found.get(TCA_OPTIONS, b""))


def qdisc(sock: ReadSocket, index: int, parent: int) -> Message | None:
    """The qdisc below ``parent``, ``None`` if there is none."""
    try:
        return sock.find(RTM_GETQDISC, TC.pack(0, index, 0, parent, 0), parse)
    except OSError as error:
        if error.errno in NONE:
            return None
        raise


def filters(sock: ReadSocket, index: int, parent: int) -> list[Message]:
    """Filters of the qdisc with the handle ``parent``."""
    return sock.dump(RTM_GETTFILTER, TC.pack(0, index, 0, parent, 0), parse)


def priority(message: Message) -> int:
    """Of a filter."""
    return message.info >> 16


def keys(selector: bytes) -> list[tuple[int, int, int]]:
    """``(mask, value, offset)`` of a ``u32`` match."""
    found = []
    for start in range(SELECTOR.size, len(selector) - 15, 16):
        mask, value = KEY.unpack_from(selector, start)
        found.append((mask, value, KEY_OFFSET.unpack_from(selector, start + KEY.size)[0]))
    return found


def to_class(message: Message) -> ToClass | None:
    """What a filter is, if it is one of vnetd's own that lead to a class by the receiver's MAC address."""
    found = nested(message.options)
    if message.kind != "u32" or priority(message) != OWN_PRIORITY or TCA_U32_SEL not in found:
        return None
    found_keys = keys(found[TCA_U32_SEL])
    if TCA_U32_CLASSID not in found or [(mask, offset) for mask, _, offset in found_keys] != [
        (ALL_ONES, offset) for offset in MAC_OFFSETS
    ]:
        return None
    mac = found_keys[0][1].to_bytes(4, "big") + found_keys[1][1].to_bytes(4, "big")[2:]
    return ToClass(mac.hex(":"), U32.unpack(found[TCA_U32_CLASSID])[0] & 0xFFFF)
