"""What hangs on a device of the host's with everything the kernel tells of it, and made again: here its addresses.

What ``addresses`` reads is for comparing with vnetd's own; this is for moving what belongs to the host.
"""

import errno
import socket
import struct
from ipaddress import ip_interface

from vnetd.linux import netlink
from vnetd.linux.addresses import (
    IFA_ADDRESS,
    IFA_LOCAL,
)
from vnetd.linux.held_routes import give_route, read_routes, take_route
from vnetd.linux.links import read_link
from vnetd.linux.neighbours import read_permanent, read_proxies
from vnetd.linux.netlink import U32, ReadSocket, address_of, attributes, encode, number
from vnetd.linux.operations import index_of, reporting
from vnetd.linux.policy_rules import give_rule, read_rules, take_rule
from vnetd.plan.kernel import GiveAddress, GiveRoute, GiveRule, Operation, TakeAddress, TakeRoute, TakeRule
from vnetd.plan.possessions import (
    FOREVER,
    HeldAddress,
    HeldRoute,
    Possessions,
    is_portable,
)

IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 3, 4, 6, 8, 9, 11
IFA_F_NODAD, IFA_F_PERMANENT = 0x02, 0x80
IFA_F_SETTABLE = 0x710
"""HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: the others are the kernel's to set."""
GONE = frozenset({errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENOENT})

_CACHE = struct.Struct("=IIII")


def read_possessions(sock: ReadSocket, name: str) -> Possessions | None:
    """What hangs on the link ``name``, ``None`` if there is none and no rule names it. Raises ``OSError``.

    Routes are looked for in all tables and on all devices, for those that come from one of the link's addresses go
    with the address. Left out is what the kernel makes by itself with every device: link-local IPv6, local routes.
    A route whose source went with its address stays in tables other than the main one; the kernel takes no such route.
    """
    link = read_link(sock, name)
    rules = read_rules(sock, name)
    if link is None:
        return Possessions(rules=rules) if rules else None
    everywhere = _addresses(sock, name)
    addresses = tuple(one for index, one in everywhere if index == link.index and is_portable(one.address))
    sources = frozenset(address.address.ip for address in addresses)
    routes, unportable = read_routes(sock, link.index, sources)
    present = {address.address.ip for _, address in everywhere} | {None}
    homeless = [route for route in routes if route.source not in present]
    unportable += [f"route {route.destination} from {route.source}, which this host has not," for route in homeless]
    return Possessions(
        addresses,
        tuple(route for route in routes if route not in homeless),
        read_permanent(sock, link.index),
        read_proxies(sock, link.index),
        tuple(unportable),
        rules=rules,
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
                give_route(sock, route)
        case TakeRoute(route):
            with reporting("delete route", _words(route), GONE):
                take_route(sock, route)
        case GiveRule(rule):
            with reporting("add rule", str(rule), {errno.EEXIST}):
                give_rule(sock, rule)
        case TakeRule(rule):
            with reporting("delete rule", str(rule), GONE):
                take_rule(sock, rule)
        case _:
            return False
    return True


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
    flags = number(found, IFA_FLAGS) or flags
    preferred, valid, *_ = _CACHE.unpack(found[IFA_CACHEINFO]) if IFA_CACHEINFO in found else (FOREVER, FOREVER)
    label = found.get(IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace")
    return index, HeldAddress(
        address=ip_interface((own, length)),
        peer=address_of(other) if local and other and other != local else None,
        broadcast=address_of(found[IFA_BROADCAST]) if IFA_BROADCAST in found else None,
        scope=scope,
        flags=flags & IFA_F_SETTABLE,
        label="" if label == name else label,
        metric=number(found, IFA_RT_PRIORITY),
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
