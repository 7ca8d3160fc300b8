"""Addresses and routes of a device with everything the kernel tells of them, and made again.

What ``addresses`` reads is for comparing with vnetd's own; this is for moving what belongs to the host.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface

from vnetd.linux import netlink
from vnetd.linux.addresses import (
    FAMILIES,
    IFA_ADDRESS,
    IFA_LOCAL,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTN_UNICAST,
)
from vnetd.linux.links import read_link
from vnetd.linux.neighbours import read_permanent, read_proxies
from vnetd.linux.netlink import U32, Attributes, ReadSocket, attributes, encode
from vnetd.linux.operations import index_of, reporting
from vnetd.model.base import IPAddress, IPNetwork
from vnetd.plan.kernel import GiveAddress, GiveRoute, Operation, TakeAddress, TakeRoute
from vnetd.plan.possessions import (
    FOREVER,
    HeldAddress,
    HeldRoute,
    NextHop,
    Possessions,
    is_portable,
)

IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 3, 4, 6, 8, 9, 11
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80
IFA_F_SETTABLE = 0x710
"""HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: the others are the kernel's to set."""
RTA_SRC, RTA_PREFSRC, RTA_METRICS, RTA_FLOW, RTA_CACHEINFO = 2, 7, 8, 11, 12
RTA_PREF, RTA_ENCAP, RTA_EXPIRES, RTA_NH_ID = 20, 22, 23, 30
RTNH_F_DEAD, RTNH_F_ONLINK = 1, 4
RT_TABLE_LOCAL = 255
NLM_F_APPEND = 0x800
USER_HZ = 100
UNPORTABLE = {RTA_NH_ID: "a next hop object", RTA_ENCAP: "an encapsulation", RTA_FLOW: "a realm"}
UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL})
GONE = frozenset({errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENOENT})

_CACHE = struct.Struct("=IIII")
_ROUTE_EXPIRES = struct.Struct("=8xi")
_HOP = struct.Struct("=HBBi")


def read_possessions(sock: ReadSocket, name: str) -> Possessions | None:
    """What hangs on the link ``name``, ``None`` if there is none. Raises ``OSError``.

    Routes are looked for in all tables and on all devices, for those that come from one of the link's addresses go
    with the address. Left out is what the kernel makes by itself with every device: link-local IPv6, local routes.
    A route whose source went with its address stays in tables other than the main one; the kernel takes no such route.
    """
    link = read_link(sock, name)
    if link is None:
        return None
    everywhere = _addresses(sock, name)
    addresses = tuple(one for index, one in everywhere if index == link.index and is_portable(one.address))
    sources = frozenset(address.address.ip for address in addresses)
    routes: list[HeldRoute] = []
    unportable: list[str] = []
    for family in FAMILIES:
        for data, start, end in _dump_routes(sock, family):
            _collect(data, start, end, link.index, sources, routes, unportable)
    present = {address.address.ip for _, address in everywhere} | {None}
    homeless = [route for route in routes if route.source not in present]
    unportable += [f"route {route.destination} from {route.source}, which this host has not," for route in homeless]
    return Possessions(
        addresses,
        tuple(route for route in routes if route not in homeless),
        read_permanent(sock, link.index),
        read_proxies(sock, link.index),
        tuple(unportable),
    )


def execute_possession(sock: ReadSocket, operation: Operation) -> bool:
    """Do ``operation`` if it is one of those done here; whether it was. Raises ``HostError`` naming it."""
    match operation:
        case GiveAddress(link, address):
            with reporting("add address", f"{address.address} on {link}"):
                body = _address_body(index_of(link), address, link)
                sock.change(netlink.RTM_NEWADDR, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE, body)
        case TakeAddress(link, address):
            with reporting("delete address", f"{address.address} on {link}", GONE):
                sock.change(netlink.RTM_DELADDR, 0, _address_key(index_of(link), address))
        case GiveRoute(route):
            with reporting("add route", _words(route), {errno.EEXIST}):
                _give_route(sock, route)
        case TakeRoute(route):
            with reporting("delete route", _words(route), GONE):
                sock.change(netlink.RTM_DELROUTE, 0, _route_body(route))
        case _:
            return False
    return True


def _give_route(sock: ReadSocket, route: HeldRoute) -> None:
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


def _words(route: HeldRoute) -> str:
    return f"{route.destination} on {', '.join(hop.device for hop in route.hops)}"


def _addresses(sock: ReadSocket, name: str) -> list[tuple[int, HeldAddress]]:
    """Every address of the host with its link's number, those of link ``name`` as they are there."""
    body = netlink.ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    found = sock.dump(netlink.RTM_GETADDR, body, lambda data, start, end: _address(data, start, end, name))
    return [address for address in found if address]


def _address(data: bytes, start: int, end: int, name: str) -> tuple[int, HeldAddress] | None:
    _family, length, flags, scope, index = netlink.ADDRESS.unpack_from(data, start)
    found = attributes(data, start + netlink.ADDRESS.size, end)
    local, other = found.get(IFA_LOCAL), found.get(IFA_ADDRESS)
    own = local or other
    if own is None:
        return None
    flags = _number(found, IFA_FLAGS) or flags
    preferred, valid, *_ = _CACHE.unpack(found[IFA_CACHEINFO]) if IFA_CACHEINFO in found else (FOREVER, FOREVER)
    label = found.get(IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace")
    return index, HeldAddress(
        address=ip_interface((own, length)),
        peer=_ip(other) if local and other and other != local else None,
        broadcast=_ip(found[IFA_BROADCAST]) if IFA_BROADCAST in found else None,
        scope=scope,
        flags=flags & IFA_F_SETTABLE,
        label="" if label == name else label,
        metric=_number(found, IFA_RT_PRIORITY),
        protocol=found.get(IFA_PROTO, b"\0")[0],
        valid=valid,
        preferred=preferred,
    )


def _address_key(index: int, held: HeldAddress) -> bytes:
    family = socket.AF_INET6 if held.address.version == 6 else socket.AF_INET
    own = held.address.ip.packed
    body: bytes = netlink.ADDRESS.pack(family, held.address.network.prefixlen, 0, held.scope, index)
    return body + encode(IFA_LOCAL, own) + encode(IFA_ADDRESS, held.peer.packed if held.peer else own)


def _address_body(index: int, held: HeldAddress, link: str) -> bytes:
    body = _address_key(index, held)
    flags = held.flags | (IFA_F_NODAD if held.address.version == 6 else 0)
    if flags:
        body += encode(IFA_FLAGS, U32.pack(flags))
    if held.broadcast is not None:
        body += encode(IFA_BROADCAST, held.broadcast.packed)
    if held.address.version == 4:
        body += encode(IFA_LABEL, (held.label or link).encode() + b"\0")
    if held.metric:
        body += encode(IFA_RT_PRIORITY, U32.pack(held.metric))
    if held.protocol:
        body += encode(IFA_PROTO, bytes([held.protocol]))
    if held.valid != FOREVER:
        body += encode(IFA_CACHEINFO, _CACHE.pack(held.preferred, max(held.valid, 1), 0, 0))
    elif held.preferred != FOREVER:
        body += encode(IFA_CACHEINFO, _CACHE.pack(held.preferred, FOREVER, 0, 0))
    return body


def _dump_routes(sock: ReadSocket, family: int) -> list[tuple[bytes, int, int]]:
    body = netlink.ROUTE.pack(family, 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0)
    try:
        return sock.dump(netlink.RTM_GETROUTE, body, lambda data, start, end: (data[start:end], 0, end - start))
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EOPNOTSUPP}:
            return []
        raise


def _collect(
    data: bytes,
    start: int,
    end: int,
    index: int,
    sources: Collection[IPAddress],
    routes: list[HeldRoute],
    unportable: list[str],
) -> None:
    """Take a route if it concerns the device; note why it cannot be moved if so."""
    family, length, source_length, tos, table, protocol, scope, _type, flags = netlink.ROUTE.unpack_from(data, start)
    found = attributes(data, start + netlink.ROUTE.size, end)
    table = _number(found, RTA_TABLE) or table
    devices = [device for device, *_ in _hops(found, flags)]
    source = _ip(found[RTA_PREFSRC]) if RTA_PREFSRC in found else None
    destination = _network(family, found.get(RTA_DST), length)
    if index not in devices and source not in sources:
        return
    if table == RT_TABLE_LOCAL or destination.is_multicast or (destination.is_link_local and destination.version == 6):
        return
    if what := _obstacle(found, flags):
        unportable.append(f"route {destination} with {what}")
        return
    hops = [(_device(device), gateway, weight, onlink) for device, gateway, weight, onlink in _hops(found, flags)]
    if not hops or not all(device for device, *_ in hops):
        return  # one of its devices went since the dump
    routes.append(
        HeldRoute(
            destination=destination,
            hops=tuple(NextHop(*hop) for hop in hops),
            table=table,
            protocol=protocol,
            scope=scope,
            tos=tos,
            metric=_number(found, RTA_PRIORITY),
            source=source,
            origin=_network(family, found.get(RTA_SRC), source_length) if source_length else None,
            preference=found[RTA_PREF][0] if RTA_PREF in found else None,
            expires=_expires(family, found),
            metrics=found.get(RTA_METRICS, b""),
        )
    )


def _obstacle(found: Attributes, flags: int) -> str:
    """What of a route could not be made again, "" if all could."""
    for kind, what in UNPORTABLE.items():
        if kind in found:
            return what
    data = found.get(RTA_MULTIPATH, b"")
    return "a next hop whose device is down" if any(hop & RTNH_F_DEAD for hop in (flags, *_hop_flags(data))) else ""


def _hop_flags(data: bytes) -> Iterator[int]:
    start = 0
    while start + _HOP.size <= len(data):
        length, flags, _weight, _device = _HOP.unpack_from(data, start)
        if length < _HOP.size:
            return
        yield flags
        start += (length + 3) & ~3


def _expires(family: int, found: Attributes) -> int:
    """Seconds until an IPv6 route ends, 0 for never. IPv4's ``expires`` is for exceptions, which are no routes."""
    if family != socket.AF_INET6 or RTA_CACHEINFO not in found:
        return 0
    ticks: int = _ROUTE_EXPIRES.unpack_from(found[RTA_CACHEINFO])[0]
    return max(ticks // USER_HZ, 1) if ticks > 0 else 0


def _hops(found: Attributes, flags: int) -> Iterator[tuple[int, IPAddress | None, int, bool]]:
    if RTA_OIF in found:
        yield _number(found, RTA_OIF), _gateway(found), 0, bool(flags & RTNH_F_ONLINK)
    data, start = found.get(RTA_MULTIPATH, b""), 0
    while start + _HOP.size <= len(data):
        length, hop_flags, weight, device = _HOP.unpack_from(data, start)
        if length < _HOP.size:
            return
        inside = attributes(data, start + _HOP.size, start + length)
        yield device, _gateway(inside), weight, bool(hop_flags & RTNH_F_ONLINK)
        start += (length + 3) & ~3


def _gateway(found: Attributes) -> IPAddress | None:
    packed = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]  # RTA_VIA begins with the family
    return _ip(packed) if packed else None


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
    return _HOP.pack(_HOP.size + len(via), flags, hop.weight, index_of(hop.device)) + via


def _via(hop: NextHop, family: int) -> bytes:
    if hop.gateway is None:
        return b""
    if family == socket.AF_INET and hop.gateway.version == 6:
        return encode(RTA_VIA, struct.pack("=H", socket.AF_INET6) + hop.gateway.packed)
    return encode(RTA_GATEWAY, hop.gateway.packed)


def _network(family: int, packed: bytes | None, length: int) -> IPNetwork:
    if family == socket.AF_INET:
        return IPv4Network((packed or bytes(4), length))
    return IPv6Network((packed or bytes(16), length))


def _ip(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _number(found: Attributes, kind: int) -> int:
    number: int = U32.unpack(found[kind])[0] if kind in found else 0
    return number


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
