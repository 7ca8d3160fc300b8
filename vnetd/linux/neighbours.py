"""The host's neighbour tables (ARP, neighbour discovery) as rtnetlink reports them."""

import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address

from vnetd.linux import netlink
from vnetd.linux.netlink import ReadSocket, attributes, encode
from vnetd.linux.operations import index_of
from vnetd.model.base import IPAddress
from vnetd.plan.kernel import Neighbour

NEIGHBOUR = struct.Struct("=BxxxiHBB")
CACHE = struct.Struct("=4I")
RTM_GETNEIGH = 30
NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_IFINDEX = 1, 2, 3, 8
KNOWN = 0x02 | 0x04 | 0x08 | 0x10
"""States in which the neighbour answered once: reachable, stale, delay, probe. Not: entered by hand, or failed."""
FAMILIES = (socket.AF_INET, socket.AF_INET6)
TICKS = os.sysconf("SC_CLK_TCK")


def read_neighbours(sock: ReadSocket, name: str) -> tuple[Neighbour, ...]:
    """Who has answered the host on the link ``name``; none if there is no such link. Raises ``OSError``."""
    try:
        only = encode(NDA_IFINDEX, netlink.U32.pack(index_of(name)))
    except OSError:
        return ()
    found = []
    for family in FAMILIES:
        found += sock.dump(RTM_GETNEIGH, NEIGHBOUR.pack(family, 0, 0, 0, 0) + only, _neighbour)
    return tuple(one for one in found if one is not None)


def _neighbour(data: bytes, start: int, end: int) -> Neighbour | None:
    _family, _index, state, _flags, _kind = NEIGHBOUR.unpack_from(data, start)
    found = attributes(data, start + NEIGHBOUR.size, end)
    packed, mac, cache = found.get(NDA_DST, b""), found.get(NDA_LLADDR, b""), found.get(NDA_CACHEINFO, b"")
    if not state & KNOWN or len(mac) != 6 or len(packed) not in {4, 16}:
        return None
    address: IPAddress = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    confirmed = CACHE.unpack_from(cache)[0] if len(cache) >= CACHE.size else 0
    return Neighbour(address, mac.hex(":"), confirmed // TICKS)
