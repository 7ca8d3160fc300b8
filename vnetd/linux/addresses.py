"""Addresses and routes as rtnetlink reports them."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface

from vnetd.linux import netlink
from vnetd.linux.links import name_of
from vnetd.linux.netlink import ReadSocket, attributes, encode, number
from vnetd.linux.route_messages import (
    FAMILIES,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    dump_routes,
    gateway,
    hops,
)
from vnetd.model.base import IPInterface, IPNetwork
from vnetd.plan.links import HostRoute, KernelRoute

IFA_ADDRESS, IFA_LOCAL = 1, 2
RT_TABLE_MAIN = 254
RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA = 1, 2, 9
LOOPBACK = "lo"


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
        (one.protocol, KernelRoute(one.destination, gateway(one.found), number(one.found, RTA_PRIORITY)))
        for family in FAMILIES
        for one in dump_routes(sock, family, only)
        if RTA_MULTIPATH not in one.found
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
        for one in dump_routes(sock, family):
            for hop in hops(one):
                device = names[hop.device] if hop.device in names else names.setdefault(hop.device, name_of(hop.device))
                if device not in {"", LOOPBACK} and not one.destination.is_multicast:
                    yield HostRoute(one.destination, device, one.table, one.protocol, hop.gateway)


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
