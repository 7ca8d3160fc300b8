"""Route messages of rtnetlink, as those who compare routes read them and those who move them. Format: rtnetlink(7)."""

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from vnetd.linux import netlink
from vnetd.linux.netlink import Attributes, ReadSocket, address_of, attributes, number
from vnetd.model.base import IPAddress, IPNetwork

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 9, 15, 18
RTN_UNICAST = 1
FAMILIES = (socket.AF_INET, socket.AF_INET6)
HOP = struct.Struct("=HBBi")


class RouteMessage(NamedTuple):
    """A route with its attributes, of which some are read already."""

    family: int
    destination: IPNetwork
    source_length: int
    tos: int
    table: int
    protocol: int
    scope: int
    flags: int
    found: Attributes


class Hop(NamedTuple):
    """Where a route leads: the index of a device, and by whom there."""

    device: int
    gateway: IPAddress | None
    weight: int
    flags: int


def dump_routes(sock: ReadSocket, family: int, only: bytes = b"") -> list[RouteMessage]:
    """Unicast routes of every table that have the attributes ``only``. Raises ``OSError``."""
    body = netlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0) + only
    try:
        return sock.dump(netlink.RTM_GETROUTE, body, _route)
    except OSError as error:
        # No table of this number yet, or a kernel without this family.
        if error.errno in {errno.ENOENT, errno.EOPNOTSUPP}:
            return []
        raise


def hops(route: RouteMessage) -> Iterator[Hop]:
    """All ways a route leads; one has none if it leads nowhere."""
    found = route.found
    if RTA_OIF in found:
        yield Hop(number(found, RTA_OIF), gateway(found), 0, route.flags)
    data, start = found.get(RTA_MULTIPATH, b""), 0
    while start + HOP.size <= len(data):
        length, flags, weight, device = HOP.unpack_from(data, start)
        if length < HOP.size:
            return
        yield Hop(device, gateway(attributes(data, start + HOP.size, start + length)), weight, flags)
        start += (length + 3) & ~3


def gateway(found: Attributes) -> IPAddress | None:
    """The next router, of the route's own IP version or of another."""
    packed = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]  # RTA_VIA begins with the family
    return address_of(packed) if packed else None


def network_of(family: int, packed: bytes | None, length: int) -> IPNetwork:
    """A subnet as the kernel tells it: without an address it is the one of all."""
    if family == socket.AF_INET:
        return IPv4Network((packed or bytes(4), length))
    return IPv6Network((packed or bytes(16), length))


def _route(data: bytes, start: int, end: int) -> RouteMessage:
    family, length, source_length, tos, table, protocol, scope, _type, flags = netlink.ROUTE.unpack_from(data, start)
    found = attributes(data, start + netlink.ROUTE.size, end)
    destination = network_of(family, found.get(RTA_DST), length)
    table = number(found, RTA_TABLE) or table
    return RouteMessage(family, destination, source_length, tos, table, protocol, scope, flags, found)
