"""Which parts of traffic control this kernel has, found out in the network namespace of the calling thread.

A part is asked for by its name alone, on the loopback device: the kernel says ENOENT if it has no such part, and
anything else (EINVAL for the missing details, mostly) if it has.
"""

import errno
import platform
import socket
import struct
from collections.abc import Iterator

from vnetd.linux import netlink
from vnetd.linux.netlink import ReadSocket, encode
from vnetd.model.capability import Capability

RTM_NEWQDISC, RTM_NEWTFILTER, RTM_NEWACTION = 36, 44, 48
TC = struct.Struct("=BxxxiIII")
ACTION = struct.Struct("=Bxxx")
TC_H_ROOT, TC_H_INGRESS, INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
ETH_P_ALL = 0x0003
TCA_KIND, TCA_OPTIONS, TCA_ACT_TAB, TCA_ACT_KIND = 1, 2, 1, 1

QDISCS = ("htb", "tbf", "fq_codel")
CLASSIFIERS = ("matchall", "u32")
ACTIONS = ("police", "mirred")


def probe_tc() -> Iterator[Capability]:
    """Queueing disciplines (``tc-htb`` and so on), classifiers and actions."""
    sock = ReadSocket()
    lo = socket.if_nametoindex("lo")
    new = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    try:
        for kind in QDISCS:
            body = TC.pack(0, lo, 0x10000, TC_H_ROOT, 0) + _kind(kind)
            yield _tried(kind, _answer(sock, RTM_NEWQDISC, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE, body))
        body = TC.pack(0, lo, INGRESS_HANDLE, TC_H_INGRESS, 0) + _kind("ingress")
        ingress = _answer(sock, RTM_NEWQDISC, new, body)
        yield _tried("ingress", ingress)
        for kind in CLASSIFIERS:
            info = (1 << 16) | socket.htons(ETH_P_ALL)
            body = TC.pack(0, lo, 0, INGRESS_HANDLE, info) + _kind(kind) + encode(TCA_OPTIONS, b"")
            yield _tried(kind, ingress or _answer(sock, RTM_NEWTFILTER, new, body))
        for kind in ACTIONS:
            body = ACTION.pack(0) + encode(TCA_ACT_TAB, encode(1, encode(TCA_ACT_KIND, kind.encode() + b"\0")))
            yield _tried(kind, _answer(sock, RTM_NEWACTION, new, body))
    finally:
        sock.close()


def _kind(name: str) -> bytes:
    return encode(TCA_KIND, name.encode() + b"\0")


def _answer(sock: ReadSocket, message: int, flags: int, body: bytes) -> int:
    try:
        sock.change(message, flags, body)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _tried(kind: str, code: int) -> Capability:
    if code in {errno.ENOENT, errno.EOPNOTSUPP}:
        return Capability(f"tc-{kind}", False, f"this kernel ({platform.release()}) has no {kind} in traffic control")
    return Capability(f"tc-{kind}", True)
