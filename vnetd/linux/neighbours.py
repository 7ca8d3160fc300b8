"""Neighbour tables (ARP, neighbour discovery): who has answered the host, and what somebody entered by hand."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import TypeVar

from vnetd.linux import netlink
from vnetd.linux.netlink import ReadSocket, attributes, encode
from vnetd.linux.operations import index_of, reporting
from vnetd.model.base import IPAddress
from vnetd.plan.kernel import GiveNeighbour, GiveProxy, Operation, TakeNeighbour, TakeProxy
from vnetd.plan.links import Neighbour
from vnetd.plan.possessions import HeldNeighbour

NEIGHBOUR = struct.Struct("=BxxxiHBB")
CACHE = struct.Struct("=4I")
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_IFINDEX, NDA_PROTOCOL = 1, 2, 3, 8, 12
KNOWN = 0x02 | 0x04 | 0x08 | 0x10
"""States in which the neighbour answered once: reachable, stale, delay, probe. Not: entered by hand, or failed."""
NUD_PERMANENT = 0x80
NTF_PROXY = 0x08
NTF_SETTABLE = 0x10 | 0x80
"""EXT_LEARNED, ROUTER: the others say how a request is meant, not what an entry is."""
FAMILIES = (socket.AF_INET, socket.AF_INET6)
TICKS = os.sysconf("SC_CLK_TCK")
GONE = frozenset({errno.ENOENT, errno.ENODEV})

T = TypeVar("T")


def read_neighbours(sock: ReadSocket, name: str) -> tuple[Neighbour, ...]:
    """Who has answered the host on the link ``name``; none if there is no such link. Raises ``OSError``."""
    try:
        index = index_of(name)
    except OSError:
        return ()
    return tuple(_entries(sock, index, 0, _neighbour))


def read_permanent(sock: ReadSocket, index: int) -> tuple[HeldNeighbour, ...]:
    """Neighbours on a link that somebody entered for ever. Raises ``OSError``."""
    return tuple(_entries(sock, index, 0, _permanent))


def read_proxies(sock: ReadSocket, index: int) -> tuple[IPAddress, ...]:
    """Addresses the host answers neighbours on a link for. Raises ``OSError``."""
    return tuple(_entries(sock, index, NTF_PROXY, _proxied))


def execute_neighbour(sock: ReadSocket, operation: Operation) -> bool:
    """Do ``operation`` if it is one of those done here; whether it was. Raises ``HostError`` naming it."""
    match operation:
        case GiveNeighbour(link, held):
            with reporting("add neighbour", f"{held.address} on {link}"):
                sock.change(RTM_NEWNEIGH, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE, _entry(link, held))
        case TakeNeighbour(link, held):
            with reporting("delete neighbour", f"{held.address} on {link}", GONE):
                sock.change(RTM_DELNEIGH, 0, _key(link, held.address))
        case GiveProxy(link, proxied):
            with reporting("add neighbour proxy", f"{proxied} on {link}", {errno.EEXIST}):
                sock.change(RTM_NEWNEIGH, netlink.NLM_F_CREATE, _key(link, proxied, NTF_PROXY))
        case TakeProxy(link, proxied):
            with reporting("delete neighbour proxy", f"{proxied} on {link}", GONE):
                sock.change(RTM_DELNEIGH, 0, _key(link, proxied, NTF_PROXY))
        case _:
            return False
    return True


def _entries(sock: ReadSocket, index: int, flags: int, parse: Callable[[bytes, int, int], T | None]) -> Iterator[T]:
    """Entries of one link in both families' tables. Older kernels list proxies of all links, so each is looked at."""
    only = encode(NDA_IFINDEX, netlink.U32.pack(index))

    def here(data: bytes, start: int, end: int) -> T | None:
        return parse(data, start, end) if NEIGHBOUR.unpack_from(data, start)[1] == index else None

    for family in FAMILIES:
        found = sock.dump(RTM_GETNEIGH, NEIGHBOUR.pack(family, 0, 0, flags, 0) + only, here)
        yield from (one for one in found if one is not None)


def _neighbour(data: bytes, start: int, end: int) -> Neighbour | None:
    _family, _index, state, _flags, _kind = NEIGHBOUR.unpack_from(data, start)
    found = attributes(data, start + NEIGHBOUR.size, end)
    packed, mac, cache = found.get(NDA_DST, b""), found.get(NDA_LLADDR, b""), found.get(NDA_CACHEINFO, b"")
    if not state & KNOWN or len(mac) != 6 or len(packed) not in {4, 16}:
        return None
    confirmed = CACHE.unpack_from(cache)[0] if len(cache) >= CACHE.size else 0
    return Neighbour(ip_address(packed), mac.hex(":"), confirmed // TICKS)


def _permanent(data: bytes, start: int, end: int) -> HeldNeighbour | None:
    _family, _index, state, flags, _kind = NEIGHBOUR.unpack_from(data, start)
    found = attributes(data, start + NEIGHBOUR.size, end)
    if not state & NUD_PERMANENT or NDA_LLADDR not in found:
        return None
    protocol = found.get(NDA_PROTOCOL, b"\0")[0]
    return HeldNeighbour(ip_address(found[NDA_DST]), found[NDA_LLADDR].hex(":"), flags & NTF_SETTABLE, protocol)


def _proxied(data: bytes, start: int, end: int) -> IPAddress | None:
    packed = attributes(data, start + NEIGHBOUR.size, end).get(NDA_DST, b"")
    return ip_address(packed) if packed else None


def _entry(link: str, held: HeldNeighbour) -> bytes:
    body = _key(link, held.address, held.flags) + encode(NDA_LLADDR, bytes.fromhex(held.mac.replace(":", "")))
    return body + encode(NDA_PROTOCOL, bytes([held.protocol])) if held.protocol else body


def _key(link: str, address: IPAddress, flags: int = 0) -> bytes:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    # Proxies are permanent too, as `ip` makes them: newer kernels drop others when the link loses its carrier.
    return NEIGHBOUR.pack(family, index_of(link), NUD_PERMANENT, flags, 0) + encode(NDA_DST, address.packed)
