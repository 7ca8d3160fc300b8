"""Traffic control through rtnetlink: qdiscs, classes and filters of one device. Formats: linux/pkt_sched.h, pkt_cls.h.

A device's qdiscs are asked for one by one: a dump would list those of every device of the host.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from vnetd.linux import netlink
from vnetd.linux.links import IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO
from vnetd.linux.netlink import U32, Attributes, ReadSocket, attributes, encode, nested
from vnetd.linux.operations import index_of, reporting
from vnetd.plan.kernel import Operation
from vnetd.plan.traffic import (
    DEFAULT,
    OWN_PRIORITY,
    AddFilter,
    AddHtb,
    CreateIfb,
    DeleteClass,
    DeleteFilter,
    DeletePriority,
    DeleteRoot,
    EndRedirect,
    HtbClass,
    PutClass,
    Redirect,
    ToClass,
    Traffic,
)

TC = struct.Struct("=BxxxiIII")
RATE = struct.Struct("=BBHhHI")
HTB_OPTIONS = struct.Struct("=5I")  # behind two rates: buffer, cbuffer, quantum, level, priority
HTB_GLOBAL = struct.Struct("=5I")
SELECTOR = struct.Struct("=BBBxHHhhI")
KEY = struct.Struct(">II")
KEY_OFFSET = struct.Struct("=ii")
MIRRED = struct.Struct("=5IiI")
U64 = struct.Struct("=Q")

NEW, REPLACE = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS = 40, 41, 42
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
CHANGES = frozenset({36, 37, 40, 41, 44, 45})
"""Messages that report what became of a qdisc, class or filter."""
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_HTB_PARMS, TCA_HTB_INIT, TCA_HTB_RATE64, TCA_HTB_CEIL64 = 1, 2, 6, 7
TCA_U32_CLASSID, TCA_U32_SEL, TCA_U32_ACT = 1, 5, 7
TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_MIRRED_PARMS = 1, 2, 2
ROOT, INGRESS, INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
HANDLE = 1 << 16
"""Of the root qdisc, ``1:``."""
ETHERNET, TERMINAL, ALL_ONES = 1, 1, 0xFFFFFFFF
STOLEN, EGRESS_REDIRECT = 4, 1
REDIRECT_PRIORITY = 1
HTB_VERSION, RATE_TO_QUANTUM = 3, 10
LARGEST_32 = 2**32 - 1
NONE = frozenset({errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP})
"""What the kernel answers where there is no qdisc, only its own, which it does not show, or no traffic control."""
GONE = NONE | {errno.ENODEV}
_PROTOCOL_ALL = socket.htons(3)
_MAC_OFFSETS = (-14, -12)
"""Of the destination's first and last four octets, from where the network header begins."""


class _Message(NamedTuple):
    handle: int
    parent: int
    info: int
    kind: str
    options: bytes


def read_traffic(sock: ReadSocket, name: str) -> Traffic | None:
    """Traffic control of the link ``name``, ``None`` if there is no such link. Raises ``OSError``."""
    try:
        index = index_of(name)
        root, ingress = _qdisc(sock, index, ROOT), _qdisc(sock, index, INGRESS)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    ours = root is not None and root.handle == HANDLE and root.kind == "htb"
    filters = _filters(sock, index, HANDLE) if ours else []
    return Traffic(
        root=_root_kind(root),
        default=_default(root) if ours and root else 0,
        classes=frozenset(_classes(sock, index)) if ours else frozenset(),
        filters=frozenset(found for one in filters if (found := _to_class(one))),
        strange=frozenset(_priority(one) for one in filters if not _to_class(one) and _is_rule(one)),
        ingress=ingress is not None,
        redirect=_redirect(sock, index) if ingress else 0,
    )


def execute_traffic(sock: ReadSocket, operation: Operation) -> bool:
    """Do ``operation`` if it is one of traffic control; whether it was. Raises ``HostError`` naming it."""
    match operation:
        case CreateIfb(name, alias):
            _create_ifb(sock, name, alias)
        case AddHtb(link):
            with reporting("limit", link):
                options = encode(TCA_HTB_INIT, HTB_GLOBAL.pack(HTB_VERSION, RATE_TO_QUANTUM, DEFAULT, 0, 0))
                _change(sock, RTM_NEWQDISC, NEW, index_of(link), HANDLE, ROOT, "htb", options)
        case DeleteRoot(link):
            with reporting("delete limit of", link, GONE):
                _change(sock, RTM_DELQDISC, 0, index_of(link), 0, ROOT)
        case PutClass(link, one):
            with reporting("set limit of", link):
                _put_class(sock, index_of(link), one)
        case DeleteClass(link, minor):
            with reporting("delete limit of", link, GONE):
                _change(sock, RTM_DELTCLASS, 0, index_of(link), HANDLE | minor, HANDLE)
        case AddFilter() | DeleteFilter() | DeletePriority():
            _execute_filter(sock, operation)
        case Redirect(link, to):
            with reporting("limit what is received by", link):
                _set_redirect(sock, index_of(link), index_of(to))
        case EndRedirect(link):
            with reporting("end the limit of what is received by", link, GONE):
                _end_redirect(sock, index_of(link))
        case _:
            return False
    return True


def _execute_filter(sock: ReadSocket, operation: AddFilter | DeleteFilter | DeletePriority) -> None:
    with reporting("set reservation on", operation.link, () if isinstance(operation, AddFilter) else GONE):
        index = index_of(operation.link)
        match operation:
            case AddFilter(_, wanted):
                options = encode(TCA_U32_CLASSID, U32.pack(HANDLE | wanted.minor)) + _selector(_destination(wanted.mac))
                _change(sock, RTM_NEWTFILTER, NEW, index, 0, HANDLE, "u32", options, _info(OWN_PRIORITY))
            case DeleteFilter(_, wanted):
                for one in _filters(sock, index, HANDLE):
                    if _to_class(one) == wanted:
                        _change(sock, RTM_DELTFILTER, 0, index, one.handle, HANDLE, "u32", info=one.info)
            case DeletePriority(_, priority):
                _change(sock, RTM_DELTFILTER, 0, index, 0, HANDLE, info=_info(priority))


def _create_ifb(sock: ReadSocket, name: str, alias: str) -> None:
    kind = encode(IFLA_LINKINFO, encode(IFLA_INFO_KIND, b"ifb"))
    with reporting("create ifb", name):
        body = netlink.LINK.pack(0, 0, 0, 0, 0) + encode(IFLA_IFNAME, name.encode() + b"\0") + kind
        sock.change(netlink.RTM_NEWLINK, NEW, body)
        link = netlink.LINK.pack(0, 0, index_of(name), 0, 0)
        try:
            sock.change(netlink.RTM_NEWLINK, 0, link + encode(IFLA_IFALIAS, alias.encode() + b"\0"))
        except BaseException:
            sock.change(netlink.RTM_DELLINK, 0, link)  # without its alias it would be nobody's for ever
            raise


def _put_class(sock: ReadSocket, index: int, one: HtbClass) -> None:
    parameters = _rate(one.rate) + _rate(one.ceil)
    parameters += HTB_OPTIONS.pack(one.buffer, one.ceil_buffer, one.quantum, 0, 0)
    options = encode(TCA_HTB_PARMS, parameters)
    for kind, rate in ((TCA_HTB_RATE64, one.rate), (TCA_HTB_CEIL64, one.ceil)):
        options += encode(kind, U64.pack(rate)) if rate > LARGEST_32 else b""
    parent = HANDLE | one.parent if one.parent else HANDLE
    _change(sock, RTM_NEWTCLASS, REPLACE, index, HANDLE | one.minor, parent, "htb", options)
    if one.queue:
        queue, limit = one.minor << 16, U32.pack(one.queue)
        _change(sock, RTM_NEWQDISC, REPLACE, index, queue, HANDLE | one.minor, "bfifo", limit)


def _set_redirect(sock: ReadSocket, index: int, to: int) -> None:
    if _qdisc(sock, index, INGRESS) is None:
        _change(sock, RTM_NEWQDISC, NEW, index, INGRESS_HANDLE, INGRESS, "ingress")
    else:
        _delete_redirect(sock, index)
    mirred = encode(TCA_MIRRED_PARMS, MIRRED.pack(0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to))
    action = encode(TCA_ACT_KIND, b"mirred\0") + encode(TCA_ACT_OPTIONS, mirred)
    options = encode(TCA_U32_CLASSID, U32.pack(0)) + _selector([]) + encode(TCA_U32_ACT, encode(1, action))
    _change(sock, RTM_NEWTFILTER, NEW, index, 0, INGRESS_HANDLE, "u32", options, _info(REDIRECT_PRIORITY))


def _end_redirect(sock: ReadSocket, index: int) -> None:
    """A ``clsact``, which somebody else set for his own filters, stays."""
    ingress = _qdisc(sock, index, INGRESS)
    if ingress is None:
        return
    if ingress.kind == "ingress":
        _change(sock, RTM_DELQDISC, 0, index, 0, INGRESS)
    else:
        _delete_redirect(sock, index)


def _delete_redirect(sock: ReadSocket, index: int) -> None:
    try:
        _change(sock, RTM_DELTFILTER, 0, index, 0, INGRESS_HANDLE, info=_info(REDIRECT_PRIORITY))
    except OSError as error:
        if error.errno not in NONE:
            raise


def _change(
    sock: ReadSocket,
    kind: int,
    flags: int,
    index: int,
    handle: int,
    parent: int,
    name: str = "",
    options: bytes = b"",
    info: int = 0,
) -> None:
    body = TC.pack(0, index, handle, parent, info)
    body += encode(TCA_KIND, name.encode() + b"\0") if name else b""
    body += encode(TCA_OPTIONS, options) if options else b""
    sock.change(kind, flags, body)


def _info(priority: int) -> int:
    return priority << 16 | _PROTOCOL_ALL


def _priority(message: _Message) -> int:
    return message.info >> 16


def _destination(mac: str) -> list[tuple[int, int]]:
    octets = bytes.fromhex(mac.replace(":", ""))
    return [(int.from_bytes(octets[:4], "big"), _MAC_OFFSETS[0]), (int.from_bytes(octets[2:], "big"), _MAC_OFFSETS[1])]


def _selector(keys: list[tuple[int, int]]) -> bytes:
    """A ``u32`` match of 32-bit values at offsets from the network header; without any it matches everything."""
    keys = keys or [(0, 0)]
    mask = ALL_ONES if keys != [(0, 0)] else 0
    packed = b"".join(KEY.pack(mask, value) + KEY_OFFSET.pack(offset, 0) for value, offset in keys)
    return encode(TCA_U32_SEL, SELECTOR.pack(TERMINAL, 0, len(keys), 0, 0, 0, 0, 0) + packed)


def _rate(rate: int) -> bytes:
    """``tc_ratespec``. Naming the link layer spares the kernel the tables of older programs."""
    return RATE.pack(0, ETHERNET, 0, 0, 0, min(rate, LARGEST_32))


def _message(data: bytes, start: int, end: int) -> _Message:
    _family, _index, handle, parent, info = TC.unpack_from(data, start)
    found = attributes(data, start + TC.size, end)
    kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode(errors="replace")
    return _Message(handle, parent, info, kind, found.get(TCA_OPTIONS, b""))


def _qdisc(sock: ReadSocket, index: int, parent: int) -> _Message | None:
    try:
        return sock.find(RTM_GETQDISC, TC.pack(0, index, 0, parent, 0), _message)
    except OSError as error:
        if error.errno in NONE:
            return None
        raise


def _root_kind(root: _Message | None) -> str:
    if root is None or not root.handle:
        return ""
    return root.kind if root.handle == HANDLE else "other"


def _default(root: _Message) -> int:
    init = nested(root.options).get(TCA_HTB_INIT, b"")
    default: int = HTB_GLOBAL.unpack(init)[2] if len(init) == HTB_GLOBAL.size else 0
    return default


def _classes(sock: ReadSocket, index: int) -> Iterator[HtbClass]:
    for one in sock.dump(RTM_GETTCLASS, TC.pack(0, index, 0, HANDLE, 0), _message):
        found = nested(one.options)
        parameters = found.get(TCA_HTB_PARMS, b"")
        buffer, ceil_buffer, quantum, *_ = HTB_OPTIONS.unpack_from(parameters, 2 * RATE.size)
        parent = 0 if one.parent in {ROOT, HANDLE} else one.parent & 0xFFFF
        minor = one.handle & 0xFFFF
        yield HtbClass(
            minor=minor,
            parent=parent,
            rate=_shown_rate(found, TCA_HTB_RATE64, parameters, 0),
            ceil=_shown_rate(found, TCA_HTB_CEIL64, parameters, RATE.size),
            buffer=buffer,
            ceil_buffer=ceil_buffer,
            quantum=quantum,
            queue=_queue(sock, index, minor) if one.info else 0,
        )


def _shown_rate(found: Attributes, wide: int, parameters: bytes, start: int) -> int:
    rate: int = U64.unpack(found[wide])[0] if wide in found else RATE.unpack_from(parameters, start)[-1]
    return rate


def _queue(sock: ReadSocket, index: int, minor: int) -> int:
    """Length of a class's queue in bytes if it is of vnetd's kind."""
    queue = _qdisc(sock, index, HANDLE | minor)
    if queue is None or queue.kind != "bfifo" or queue.handle != minor << 16 or len(queue.options) < U32.size:
        return 0
    limit: int = U32.unpack_from(queue.options)[0]
    return limit


def _filters(sock: ReadSocket, index: int, parent: int) -> list[_Message]:
    return sock.dump(RTM_GETTFILTER, TC.pack(0, index, 0, parent, 0), _message)


def _is_rule(message: _Message) -> bool:
    """The kernel lists a filter's hash tables, and the filter itself, beside its rules."""
    return bool(message.handle & 0xFFF) if message.kind == "u32" else bool(message.handle)


def _keys(selector: bytes) -> list[tuple[int, int, int]]:
    """``(mask, value, offset)`` of a ``u32`` match."""
    found = []
    for start in range(SELECTOR.size, len(selector) - 15, 16):
        mask, value = KEY.unpack_from(selector, start)
        found.append((mask, value, KEY_OFFSET.unpack_from(selector, start + KEY.size)[0]))
    return found


def _to_class(message: _Message) -> ToClass | None:
    found = nested(message.options)
    if message.kind != "u32" or _priority(message) != OWN_PRIORITY or TCA_U32_SEL not in found:
        return None
    keys = _keys(found[TCA_U32_SEL])
    if TCA_U32_CLASSID not in found or [(mask, offset) for mask, _, offset in keys] != [
        (ALL_ONES, offset) for offset in _MAC_OFFSETS
    ]:
        return None
    mac = keys[0][1].to_bytes(4, "big") + keys[1][1].to_bytes(4, "big")[2:]
    return ToClass(mac.hex(":"), U32.unpack(found[TCA_U32_CLASSID])[0] & 0xFFFF)


def _redirect(sock: ReadSocket, index: int) -> int:
    """Index of the device that takes all that is received, -1 for one that was deleted, 0 for none."""
    for one in _filters(sock, index, INGRESS_HANDLE):
        found = nested(one.options)
        keys = _keys(found.get(TCA_U32_SEL, b""))
        if one.kind == "u32" and _priority(one) == REDIRECT_PRIORITY and keys and not any(mask for mask, *_ in keys):
            for action in nested(found.get(TCA_U32_ACT)).values():
                parameters = nested(nested(action).get(TCA_ACT_OPTIONS)).get(TCA_MIRRED_PARMS, b"")
                if len(parameters) == MIRRED.size:
                    *_, verdict, _, _, kind, to = MIRRED.unpack(parameters)
                    return (int(to) or -1) if (verdict, kind) == (STOLEN, EGRESS_REDIRECT) else 0
    return 0
