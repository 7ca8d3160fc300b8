"""Addresses and routes as rtnetlink reports them."""

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from vnetd.linux import netlink
from vnetd.linux.netlink import Attributes, ReadSocket, attributes, encode
from vnetd.model.base import IPAddress, IPInterface, IPNetwork
from vnetd.plan.links import HostRoute, KernelRoute

IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 9, 15, 18
RTN_UNICAST = 1
RT_TABLE_MAIN = 254
RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA = 1, 2, 9
FAMILIES = (socket.AF_INET, socket.AF_INET6)
LOOPBACK = "lo"

_NEXT_HOP = struct.Struct("=HBBi")
_Route = tuple[int, int, IPNetwork, Attributes]
"""Table, protocol, destination and attributes."""


def read_addresses(sock: ReadSocket, index: int) -> frozenset[IPInterface]:
    """Addresses of both families of one link, link-local ones included. Raises ``OSError``."""
    body = netlink.ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, index)
    return frozenset(filter(None, sock.dump(netlink.RTM_GETADDR, body, _address)))


def read_routes(sock: ReadSocket, index: int) -> tuple[frozenset[KernelRoute], frozenset[IPNetwork]]:
    """Unicast routes of the main table through one link that somebody set, and the subnets routed to the link itself.

    Of the first, those the kernel makes (connected subnets, redirects, router advertisements) are left out, and so
    are routes with several next hops, which belong to no single link. Raises ``OSError``.
    """
    only = encode(RTA_OIF, netlink.U32.pack(index)) + encode(RTA_TABLE, netlink.U32.pack(RT_TABLE_MAIN))
    routes = [
        (protocol, KernelRoute(destination, _gateway(found), _number(found, RTA_PRIORITY)))
        for family in FAMILIES
        for _table, protocol, destination, found in _dump_routes(sock, family, only)
        if RTA_MULTIPATH not in found
    ]
    made = {RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA}
    return (
        frozenset(route for protocol, route in routes if protocol not in made),
        frozenset(route.destination for _, route in routes if route.gateway is None),
    )


def read_host_routes(sock: ReadSocket) -> Iterator[HostRoute]:
    """Unicast routes of every table with their devices, one a next hop. Raises ``OSError``."""
    names: dict[int, str] = {}
    for family in FAMILIES:
        for table, protocol, destination, found in _dump_routes(sock, family, b""):
            for index, gateway in _next_hops(found):
                device = names[index] if index in names else names.setdefault(index, _name(index))
                if device not in {"", LOOPBACK} and not destination.is_multicast:
                    yield HostRoute(destination, device, table, protocol, gateway)


def _dump_routes(sock: ReadSocket, family: int, only: bytes) -> list[_Route]:
    body = netlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0) + only
    try:
        return sock.dump(netlink.RTM_GETROUTE, body, _route)
    except OSError as error:
        # No table of this number yet, or a kernel without this family.
        if error.errno in {errno.ENOENT, errno.EOPNOTSUPP}:
            return []
        raise


def _address(data: bytes, start: int, end: int) -> IPInterface | None:
    family, length, *_ = netlink.ADDRESS.unpack_from(data, start)
    found = attributes(data, start + netlink.ADDRESS.size, end)
    # IFA_ADDRESS is the other end of a point-to-point link; our own is IFA_LOCAL, which IPv6 has only there.
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if packed is None:
        return None
    if family == socket.AF_INET:
        return IPv4Interface((packed, length))
    return IPv6Interface((packed, length))


def _route(data: bytes, start: int, end: int) -> _Route:
    family, length, _source, _tos, table, protocol, *_ = netlink.ROUTE.unpack_from(data, start)
    found = attributes(data, start + netlink.ROUTE.size, end)
    destination: IPNetwork
    if family == socket.AF_INET:
        destination = IPv4Network((found.get(RTA_DST, bytes(4)), length))
    else:
        destination = IPv6Network((found.get(RTA_DST, bytes(16)), length))
    return _number(found, RTA_TABLE) or table, protocol, destination, found


def _next_hops(found: Attributes) -> Iterator[tuple[int, IPAddress | None]]:
    if RTA_OIF in found:
        yield _number(found, RTA_OIF), _gateway(found)
    data = found.get(RTA_MULTIPATH, b"")
    start = 0
    while start + _NEXT_HOP.size <= len(data):
        length, _flags, _weight, index = _NEXT_HOP.unpack_from(data, start)
        if length < _NEXT_HOP.size:
            return
        yield index, _gateway(attributes(data, start + _NEXT_HOP.size, start + length))
        start += (length + 3) & ~3


def _gateway(found: Attributes) -> IPAddress | None:
    packed = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]  # RTA_VIA begins with the family
    if not packed:
        return None
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _number(found: Attributes, kind: int) -> int:
    number: int = netlink.U32.unpack(found[kind])[0] if kind in found else 0
    return number


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""  # went since the dump
