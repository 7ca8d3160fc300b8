"""Changes traffic control: qdiscs, classes and filters of one device."""

import errno
import socket

from vnetd.linux import netlink, tc
from vnetd.linux.links import IFLA_INFO_KIND, IFLA_LINKINFO, make_link
from vnetd.linux.netlink import U32, ReadSocket, encode
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
)

NEW, REPLACE = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
TCA_ACT_KIND = 1
ETHERNET, TERMINAL = 1, 1
HTB_VERSION, RATE_TO_QUANTUM = 3, 10
LARGEST_32 = 2**32 - 1
GONE = tc.NONE | {errno.ENODEV}
PROTOCOL_ALL = socket.htons(3)


def execute_traffic(sock: ReadSocket, operation: Operation) -> bool:
    """Do ``operation`` if it is one of traffic control; whether it was. Raises ``HostError`` naming it."""
    match operation:
        case CreateIfb(name, alias):
            _create_ifb(sock, name, alias)
        case AddHtb(link):
            with reporting("limit", link):
                options = encode(tc.TCA_HTB_INIT, tc.HTB_GLOBAL.pack(HTB_VERSION, RATE_TO_QUANTUM, DEFAULT, 0, 0))
                _change(sock, tc.RTM_NEWQDISC, NEW, index_of(link), tc.HANDLE, tc.ROOT, "htb", options)
        case DeleteRoot(link):
            with reporting("delete limit of", link, GONE):
                _change(sock, tc.RTM_DELQDISC, 0, index_of(link), 0, tc.ROOT)
        case PutClass(link, one):
            with reporting("set limit of", link):
                _put_class(sock, index_of(link), one)
        case DeleteClass(link, minor):
            with reporting("delete limit of", link, GONE):
                _change(sock, tc.RTM_DELTCLASS, 0, index_of(link), tc.HANDLE | minor, tc.HANDLE)
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
                options = encode(tc.TCA_U32_CLASSID, U32.pack(tc.HANDLE | wanted.minor))
                options += _selector(_destination(wanted.mac))
                _change(sock, tc.RTM_NEWTFILTER, NEW, index, 0, tc.HANDLE, "u32", options, _info(OWN_PRIORITY))
            case DeleteFilter(_, wanted):
                for one in tc.filters(sock, index, tc.HANDLE):
                    if tc.to_class(one) == wanted:
                        _change(sock, tc.RTM_DELTFILTER, 0, index, one.handle, tc.HANDLE, "u32", info=one.info)
            case DeletePriority(_, priority):
                _change(sock, tc.RTM_DELTFILTER, 0, index, 0, tc.HANDLE, info=_info(priority))


def _create_ifb(sock: ReadSocket, name: str, alias: str) -> None:
    with reporting("create ifb", name):
        make_link(sock, name, alias, encode(IFLA_LINKINFO, encode(IFLA_INFO_KIND, b"ifb")))


def _put_class(sock: ReadSocket, index: int, one: HtbClass) -> None:
    parameters = _rate(one.rate) + _rate(one.ceil)
    parameters += tc.HTB_OPTIONS.pack(one.buffer, one.ceil_buffer, one.quantum, 0, 0)
    options = encode(tc.TCA_HTB_PARMS, parameters)
    for kind, rate in ((tc.TCA_HTB_RATE64, one.rate), (tc.TCA_HTB_CEIL64, one.ceil)):
        options += encode(kind, tc.U64.pack(rate)) if rate > LARGEST_32 else b""
    parent = tc.HANDLE | one.parent if one.parent else tc.HANDLE
    _change(sock, tc.RTM_NEWTCLASS, REPLACE, index, tc.HANDLE | one.minor, parent, "htb", options)
    if one.queue:
        queue, limit = one.minor << 16, U32.pack(one.queue)
        _change(sock, tc.RTM_NEWQDISC, REPLACE, index, queue, tc.HANDLE | one.minor, "bfifo", limit)


def _set_redirect(sock: ReadSocket, index: int, to: int) -> None:
    if tc.qdisc(sock, index, tc.INGRESS) is None:
        _change(sock, tc.RTM_NEWQDISC, NEW, index, tc.INGRESS_HANDLE, tc.INGRESS, "ingress")
    else:
        _delete_redirect(sock, index)
    mirred = encode(tc.TCA_MIRRED_PARMS, tc.MIRRED.pack(0, 0, tc.STOLEN, 0, 0, tc.EGRESS_REDIRECT, to))
    action = encode(TCA_ACT_KIND, b"mirred\0") + encode(tc.TCA_ACT_OPTIONS, mirred)
    options = encode(tc.TCA_U32_CLASSID, U32.pack(0)) + _selector([]) + encode(tc.TCA_U32_ACT, encode(1, action))
    _change(sock, tc.RTM_NEWTFILTER, NEW, index, 0, tc.INGRESS_HANDLE, "u32", options, _info(tc.REDIRECT_PRIORITY))


def _end_redirect(sock: ReadSocket, index: int) -> None:
    """A ``clsact``, which somebody else set for his own filters, stays."""
    ingress = tc.qdisc(sock, index, tc.INGRESS)
    if ingress is None:
        return
    if ingress.kind == "ingress":
        _change(sock, tc.RTM_DELQDISC, 0, index, 0, tc.INGRESS)
    else:
        _delete_redirect(sock, index)


def _delete_redirect(sock: ReadSocket, index: int) -> None:
    try:
        _change(sock, tc.RTM_DELTFILTER, 0, index, 0, tc.INGRESS_HANDLE, info=_info(tc.REDIRECT_PRIORITY))
    except OSError as error:
        if error.errno not in tc.NONE:
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
    body = tc.TC.pack(0, index, handle, parent, info)
    body += encode(tc.TCA_KIND, name.encode() + b"\0") if name else b""
    body += encode(tc.TCA_OPTIONS, options) if options else b""
    sock.change(kind, flags, body)


def _info(priority: int) -> int:
    return priority << 16 | PROTOCOL_ALL


def _destination(mac: str) -> list[tuple[int, int]]:
    octets = bytes.fromhex(mac.replace(":", ""))
    halves = int.from_bytes(octets[:4], "big"), int.from_bytes(octets[2:], "big")
    return list(zip(halves, tc.MAC_OFFSETS, strict=True))


def _selector(keys: list[tuple[int, int]]) -> bytes:
    """A ``u32`` match of 32-bit values at offsets from the network header; without any it matches everything."""
    keys = keys or [(0, 0)]
    mask = tc.ALL_ONES if keys != [(0, 0)] else 0
    packed = b"".join(tc.KEY.pack(mask, value) + tc.KEY_OFFSET.pack(offset, 0) for value, offset in keys)
    return encode(tc.TCA_U32_SEL, tc.SELECTOR.pack(TERMINAL, 0, len(keys), 0, 0, 0, 0, 0) + packed)


def _rate(rate: int) -> bytes:
    """``tc_ratespec``. Naming the link layer spares the kernel the tables of older programs."""
    return tc.RATE.pack(0, ETHERNET, 0, 0, 0, min(rate, LARGEST_32))
