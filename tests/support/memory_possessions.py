"""What belongs to the host on devices in memory: addresses with all their attributes, routes of any table,
neighbours, proxies."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from vnetd.host.events import AddressEvent, RouteEvent
from vnetd.model.errors import HostError
from vnetd.plan.kernel import (
    GiveAddress,
    GiveNeighbour,
    GiveProxy,
    GiveRoute,
    GiveRule,
    PossessionOperation,
    TakeAddress,
    TakeNeighbour,
    TakeProxy,
    TakeRoute,
    TakeRule,
)
from vnetd.plan.links import KernelRoute
from vnetd.plan.possessions import (
    PROTO_KERNEL,
    SCOPE_LINK,
    HeldAddress,
    HeldRoute,
    HeldRule,
    NextHop,
    Possessions,
    is_portable,
)

if TYPE_CHECKING:
    from support.memory_kernel import Entry, MemoryKernel

CONNECTED_METRIC6 = 256


def words(operation: PossessionOperation) -> tuple[str, str]:
    """Operation and object as the real kernel's errors name them."""
    verb = "add" if isinstance(operation, GiveAddress | GiveRoute | GiveRule | GiveNeighbour | GiveProxy) else "delete"
    match operation:
        case GiveAddress(link, address) | TakeAddress(link, address):
            return f"{verb} address", f"{address.address} on {link}"
        case GiveRoute(route) | TakeRoute(route):
            return f"{verb} route", f"{route.destination} on {', '.join(hop.device for hop in route.hops)}"
        case GiveRule(rule) | TakeRule(rule):
            return f"{verb} rule", str(rule)
        case GiveNeighbour(link, neighbour) | TakeNeighbour(link, neighbour):
            return f"{verb} neighbour", f"{neighbour.address} on {link}"
        case GiveProxy(link, proxied) | TakeProxy(link, proxied):
            return f"{verb} neighbour proxy", f"{proxied} on {link}"


def possessions(kernel: "MemoryKernel", entry: "Entry") -> Possessions:
    """What hangs on a link, and the routes elsewhere that come from its addresses."""
    addresses = tuple(_held(entry, address) for address in sorted(entry.addresses, key=str) if is_portable(address))
    sources = {held.address.ip for held in addresses}
    routes = [
        route for route in _routes(kernel) if route.uses(entry.link.name) or (route.source and route.source in sources)
    ]
    whole = [route for route in routes if _has_source(kernel, route)]
    return Possessions(
        addresses,
        tuple(sorted(whole, key=str)),
        tuple(entry.permanent.values()),
        tuple(entry.proxies),
        tuple(
            f"route {route.destination} from {route.source}, which this host has not,"
            for route in routes
            if route not in whole
        ),
        rules=rules_about(kernel, entry.link.name),
    )


def rules_about(kernel: "MemoryKernel", name: str) -> tuple[HeldRule, ...]:
    """Rules of policy routing that name a device, whether it is there or not."""
    return tuple(rule for rule in kernel.policy_rules if rule.names(name))


def perform(kernel: "MemoryKernel", operation: PossessionOperation, cause: str) -> None:
    """Do one operation. Raises ``HostError`` as the kernel would."""
    match operation:
        case GiveAddress(link, address):
            _give_address(kernel, kernel.require(operation, link), address, cause)
        case TakeAddress(link, address):
            if entry := kernel.find(link):
                kernel.drop_address(entry, address.address, cause)
        case GiveRoute(route):
            _give_route(kernel, operation, route, cause)
        case TakeRoute(route):
            _take_route(kernel, route, cause)
        case GiveRule(rule):
            if rule not in kernel.policy_rules:
                _change_rules(kernel, rule, [*kernel.policy_rules, rule], cause)
        case TakeRule(rule):
            if rule in kernel.policy_rules:
                _change_rules(kernel, rule, [one for one in kernel.policy_rules if one != rule], cause)
        case _:
            _perform_on_neighbours(kernel, operation)


def _perform_on_neighbours(
    kernel: "MemoryKernel", operation: GiveNeighbour | TakeNeighbour | GiveProxy | TakeProxy
) -> None:
    match operation:
        case GiveNeighbour(link, neighbour):
            kernel.require(operation, link).permanent[neighbour.address] = neighbour
        case GiveProxy(link, proxied):
            entry = kernel.require(operation, link)
            entry.proxies = [*(one for one in entry.proxies if one != proxied), proxied]
        case TakeNeighbour(link, neighbour):
            if found := kernel.find(link):
                found.permanent.pop(neighbour.address, None)
        case TakeProxy(link, proxied):
            if found := kernel.find(link):
                found.proxies = [one for one in found.proxies if one != proxied]


def _change_rules(kernel: "MemoryKernel", rule: HeldRule, rules: list[HeldRule], cause: str) -> None:
    kernel.policy_rules = sorted(rules, key=lambda one: (one.said[0], one.priority))
    for name in filter(None, {rule.iif: None, rule.oif: None}):
        entry = kernel.find(name)
        kernel.emit(RouteEvent(entry.link.index if entry else 0, cause, name))


def _held(entry: "Entry", address: object) -> HeldAddress:
    found = entry.details.get(address)  # type: ignore[call-overload]
    return found if found else HeldAddress(address)  # type: ignore[arg-type]


def _routes(kernel: "MemoryKernel") -> Iterator[HeldRoute]:
    for entry in kernel.entries.values():
        if entry.link.name != "lo" and entry.link.up:
            yield from (_static(entry.link.name, route) for route in entry.routes)
            yield from _connected(entry)
    yield from kernel.further_routes


def _static(device: str, route: KernelRoute) -> HeldRoute:
    direct = route.destination.version == 4 and route.gateway is None
    return HeldRoute(
        route.destination,
        (NextHop(device, route.gateway),),
        metric=route.metric,
        scope=SCOPE_LINK if direct else 0,
    )


def _connected(entry: "Entry") -> Iterator[HeldRoute]:
    for address in entry.addresses:
        network = ip_network(address.network)
        if network not in entry.cut and is_portable(address) and network.prefixlen < network.max_prefixlen:
            hops = (NextHop(entry.link.name),)
            if address.version == 4:
                yield HeldRoute(network, hops, protocol=PROTO_KERNEL, scope=SCOPE_LINK, source=address.ip)
            else:
                yield HeldRoute(network, hops, protocol=PROTO_KERNEL, metric=CONNECTED_METRIC6)


def _give_address(kernel: "MemoryKernel", entry: "Entry", held: HeldAddress, cause: str) -> None:
    entry.addresses.add(held.address)
    if held != HeldAddress(held.address):
        entry.details[held.address] = held
    kernel.emit(AddressEvent(entry.link.index, cause, entry.link.name))


def _give_route(kernel: "MemoryKernel", operation: GiveRoute, route: HeldRoute, cause: str) -> None:
    for hop in route.hops:
        entry = kernel.require(operation, hop.device)
        if not entry.link.up:
            raise HostError(*words(operation), errno.ENETDOWN)
    if not _has_source(kernel, route):
        raise HostError(*words(operation), errno.EINVAL)
    if any(route.identity == one.identity for one in _routes(kernel)):
        return
    if not all(_near(kernel, hop) for hop in route.hops):
        route = replace(route, hops=tuple(replace(hop, onlink=hop.gateway is not None) for hop in route.hops))
    (first, *_) = route.hops
    entry = kernel.require(operation, first.device)
    plain = KernelRoute(route.destination, first.gateway, route.metric)
    if route == _static(first.device, plain):
        entry.routes.add(plain)
    elif route.protocol == PROTO_KERNEL and route.destination in entry.cut:
        entry.cut.discard(route.destination)
    else:
        kernel.further_routes.append(route)
    kernel.emit(RouteEvent(entry.link.index, cause, entry.link.name))


def _has_source(kernel: "MemoryKernel", route: HeldRoute) -> bool:
    addresses = (address.ip for entry in kernel.entries.values() for address in entry.addresses)
    return route.source is None or route.source in addresses


def _near(kernel: "MemoryKernel", hop: NextHop) -> bool:
    """Whether the kernel finds the gateway on the hop's device."""
    entry = kernel.find(hop.device)
    assert entry is not None
    gateway = hop.gateway
    return gateway is None or gateway.is_link_local or any(gateway in address.network for address in entry.addresses)


def _take_route(kernel: "MemoryKernel", route: HeldRoute, cause: str) -> None:
    entry = kernel.find(route.hops[0].device)
    if entry is None or not any(route.identity == one.identity for one in _routes(kernel)):
        return
    plain = KernelRoute(route.destination, route.hops[0].gateway, route.metric)
    kept = [one for one in kernel.further_routes if one.identity != route.identity]
    if len(kept) != len(kernel.further_routes):
        kernel.further_routes = kept
    elif plain in entry.routes:
        entry.routes.discard(plain)
    else:
        entry.cut.add(route.destination)
    kernel.emit(RouteEvent(entry.link.index, cause, entry.link.name))
