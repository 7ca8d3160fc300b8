"""Routes of the host's with everything the kernel tells of them, and made again elsewhere."""

import errno
import socket
import struct
from collections.abc import Collection
from dataclasses import replace

from vnetd.linux import netlink
from vnetd.linux.links import name_of
from vnetd.linux.netlink import U32, ReadSocket, address_of, encode, number
from vnetd.linux.operations import index_of
from vnetd.linux.route_messages import (
    FAMILIES,
    HOP,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTN_UNICAST,
    RouteMessage,
    dump_routes,
    hops,
    network_of,
)
from vnetd.model.base import IPAddress
from vnetd.plan.possessions import HeldRoute, NextHop

RTA_SRC, RTA_PREFSRC, RTA_METRICS, RTA_FLOW, RTA_CACHEINFO = 2, 7, 8, 11, 12
RTA_PREF, RTA_ENCAP, RTA_EXPIRES, RTA_NH_ID = 20, 22, 23, 30
RTNH_F_DEAD, RTNH_F_ONLINK = 1, 4
RT_TABLE_LOCAL = 255
NLM_F_APPEND = 0x800
USER_HZ = 100
UNPORTABLE = {RTA_NH_ID: "a next hop object", RTA_ENCAP: "an encapsulation", RTA_FLOW: "a realm"}
UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL})

_ROUTE_EXPIRES = struct.Struct("=8xi")


def read_routes(sock: ReadSocket, index: int, sources: Collection[IPAddress]) -> tuple[list[HeldRoute], list[str]]:
    """Routes through a device or from one of ``sources``, and words for those that cannot be moved.

    They are looked for in all tables and on all devices. Left out is what the kernel makes by itself: link-local IPv6,
    local routes.
    """
    routes: list[HeldRoute] = []
    unportable: list[str] = []
    for family in FAMILIES:
        for one in dump_routes(sock, family):
            if not _concerns(one, index, sources):
                continue
            if what := _obstacle(one):
                unportable.append(f"route {one.destination} with {what}")
            elif route := _held(one):
                routes.append(route)
    return routes, unportable


def give_route(sock: ReadSocket, route: HeldRoute) -> None:
    """Add a route. One whose gateway lost its own route goes on existing, but the kernel would not take it again:
    such a gateway is said to be on the link.
    """
    append = netlink.NLM_F_CREATE | NLM_F_APPEND
    try:
        sock.change(netlink.RTM_NEWROUTE, append, _route_body(route))
    except OSError as error:
        near = replace(route, hops=tuple(replace(hop, onlink=hop.gateway is not None) for hop in route.hops))
        if error.errno not in UNREACHABLE or near == route:
            raise
        sock.change(netlink.RTM_NEWROUTE, append, _route_body(near))


def take_route(sock: ReadSocket, route: HeldRoute) -> None:
    """Delete exactly this route."""
    sock.change(netlink.RTM_DELROUTE, 0, _route_body(route))


def _concerns(route: RouteMessage, index: int, sources: Collection[IPAddress]) -> bool:
    """Whether it leads through the device or comes from one of the addresses, and is not one the kernel makes."""
    to = route.destination
    if route.table == RT_TABLE_LOCAL or to.is_multicast or (to.is_link_local and to.version == 6):
        return False
    return index in {hop.device for hop in hops(route)} or _source(route) in sources


def _held(route: RouteMessage) -> HeldRoute | None:
    """The route as a value, ``None`` if one of its devices went since the dump."""
    found = route.found
    ways = tuple(
        NextHop(name_of(hop.device), hop.gateway, hop.weight, bool(hop.flags & RTNH_F_ONLINK)) for hop in hops(route)
    )
    if not ways or not all(way.device for way in ways):
        return None
    return HeldRoute(
        destination=route.destination,
        hops=ways,
        table=route.table,
        protocol=route.protocol,
        scope=route.scope,
        tos=route.tos,
        metric=number(found, RTA_PRIORITY),
        source=_source(route),
        origin=network_of(route.family, found.get(RTA_SRC), route.source_length) if route.source_length else None,
        preference=found[RTA_PREF][0] if RTA_PREF in found else None,
        expires=_expires(route),
        metrics=found.get(RTA_METRICS, b""),
    )


def _source(route: RouteMessage) -> IPAddress | None:
    return address_of(route.found[RTA_PREFSRC]) if RTA_PREFSRC in route.found else None


def _obstacle(route: RouteMessage) -> str:
    """What of a route could not be made again, "" if all could."""
    for kind, what in UNPORTABLE.items():
        if kind in route.found:
            return what
    dead = any(flags & RTNH_F_DEAD for flags in (route.flags, *(hop.flags for hop in hops(route))))
    return "a next hop whose device is down" if dead else ""


def _expires(route: RouteMessage) -> int:
    """Seconds until an IPv6 route ends, 0 for never. IPv4's ``expires`` is for exceptions, which are no routes."""
    if route.family != socket.AF_INET6 or RTA_CACHEINFO not in route.found:
        return 0
    ticks: int = _ROUTE_EXPIRES.unpack_from(route.found[RTA_CACHEINFO])[0]
    return max(ticks // USER_HZ, 1) if ticks > 0 else 0


def _route_body(route: HeldRoute) -> bytes:
    """The request that makes this route, and that deletes it."""
    family = socket.AF_INET6 if route.destination.version == 6 else socket.AF_INET
    single = route.hops[0] if len(route.hops) == 1 else None
    flags = RTNH_F_ONLINK if single and single.onlink else 0
    table = route.table if route.table < 256 else 0
    lengths = route.destination.prefixlen, route.origin.prefixlen if route.origin else 0
    body: bytes = netlink.ROUTE.pack(
        family, *lengths, route.tos, table, route.protocol, route.scope, RTN_UNICAST, flags
    )
    body += encode(RTA_TABLE, U32.pack(route.table)) + encode(RTA_DST, route.destination.network_address.packed)
    if route.origin:
        body += encode(RTA_SRC, route.origin.network_address.packed)
    if route.metric:
        body += encode(RTA_PRIORITY, U32.pack(route.metric))
    if route.source is not None:
        body += encode(RTA_PREFSRC, route.source.packed)
    if route.preference is not None:
        body += encode(RTA_PREF, bytes([route.preference]))
    if route.expires:
        body += encode(RTA_EXPIRES, U32.pack(route.expires))
    if route.metrics:
        body += encode(RTA_METRICS, route.metrics)
    if single:
        return body + encode(RTA_OIF, U32.pack(index_of(single.device))) + _via(single, family)
    return body + encode(RTA_MULTIPATH, b"".join(_hop(hop, family) for hop in route.hops))


def _hop(hop: NextHop, family: int) -> bytes:
    via = _via(hop, family)
    flags = RTNH_F_ONLINK if hop.onlink else 0
    return HOP.pack(HOP.size + len(via), flags, hop.weight, index_of(hop.device)) + via


def _via(hop: NextHop, family: int) -> bytes:
    if hop.gateway is None:
        return b""
    if family == socket.AF_INET and hop.gateway.version == 6:
        return encode(RTA_VIA, struct.pack("=H", socket.AF_INET6) + hop.gateway.packed)
    return encode(RTA_GATEWAY, hop.gateway.packed)
