"""How a device's possessions come to hang on another one: what is where, to operations.

``plan_move`` is pure and total, and planning again after its operations were executed gives none, so the same function
moves, takes a move back that failed half-way, and ends one that the end of the daemon interrupted.

Rules of policy routing are about the device packets come in by, which is the card or the bridge it is plugged into. So
they name both as long as it may be either: ``plan_rules`` is for before, ``plan_leave`` for afterwards.
"""

from collections.abc import Iterator
from dataclasses import replace

from vnetd.plan.kernel import (
    GiveAddress,
    GiveNeighbour,
    GiveProxy,
    GiveRoute,
    GiveRule,
    Operation,
    TakeAddress,
    TakeNeighbour,
    TakeProxy,
    TakeRoute,
    TakeRule,
    WriteSysctl,
)
from vnetd.plan.possessions import FOREVER, PROTO_KERNEL, HeldAddress, HeldRoute, HeldRule, Possessions

SLACK = 60
"""Seconds by which lifetimes may differ from what is known: less is not worth a record."""


def plan_move(
    held: Possessions, source: str, target: str, at_source: Possessions, at_target: Possessions
) -> list[Operation]:
    """Operations after which ``held``, but for its rules, hangs on ``target`` and on ``source`` no more.

    Routes in it name ``source``.

    Order: what needs something goes before it and comes after it. Routes need addresses, routes with a gateway need
    those without; the kernel deletes all IPv4 addresses of a subnet with the first, and neighbours with the last.
    """
    return [
        *_taken(held, source, target, at_source),
        *_given(held, source, target, at_target),
    ]


def plan_rules(held: Possessions, source: str, target: str, at_target: Possessions) -> list[Operation]:
    """Operations after which the rules, which are about ``source``, hold for ``target`` as well, in their order."""
    wanted = (rule.through(source, target) for rule in held.rules)
    return [GiveRule(rule) for rule in wanted if rule not in at_target.rules]


def plan_leave(at_source: Possessions) -> list[Operation]:
    """Operations after which no rule is about a device any more.

    Who says more goes first: what a request to delete leaves unsaid, the kernel takes for anything.
    """
    return [TakeRule(rule) for rule in sorted(at_source.rules, key=_detail, reverse=True)]


def guarded(operations: list[Operation], source: str, promote: str | None) -> list[Operation]:
    """The operations, and while they run the kernel keeps the other addresses of a subnet whose first is deleted.

    ``promote`` is the sysctl's value before, which it gets back; ``None``: the host has no such sysctl.
    """
    if not operations or promote in {None, "1"}:
        return operations
    path = ("net", "ipv4", "conf", source, "promote_secondaries")
    return [WriteSysctl(path, "1"), *operations, WriteSysctl(path, str(promote))]


def united(one: Possessions, other: Possessions) -> Possessions:
    """Both, each thing once and as ``one`` has it; the order of ``one`` first."""
    known = {held.identity for held in one.addresses}
    routes = {route.identity for route in one.routes}
    neighbours = {neighbour.address for neighbour in one.neighbours}
    return Possessions(
        (*one.addresses, *(a for a in other.addresses if a.identity not in known)),
        (*one.routes, *(route for route in other.routes if route.identity not in routes)),
        (*one.neighbours, *(neighbour for neighbour in other.neighbours if neighbour.address not in neighbours)),
        (*one.proxies, *(proxy for proxy in other.proxies if proxy not in one.proxies)),
        (*one.unportable, *other.unportable),
        one.dns or other.dns,
        (*one.rules, *(rule for rule in other.rules if rule not in one.rules)),
    )


def aged(held: Possessions, seconds: int) -> Possessions:
    """The same after this time: lifetimes are shorter, at least one second."""
    if seconds <= 0:
        return held
    return replace(
        held,
        addresses=tuple(
            replace(one, valid=_less(one.valid, seconds), preferred=_less(one.preferred, seconds))
            for one in held.addresses
        ),
        routes=tuple(
            replace(route, expires=max(route.expires - seconds, 1)) if route.expires else route for route in held.routes
        ),
    )


def _less(lifetime: int, seconds: int) -> int:
    return lifetime if lifetime == FOREVER else max(lifetime - seconds, 1)


def alike(one: Possessions, other: Possessions) -> bool:
    """Whether both are the same, but for some seconds of lifetimes."""
    pairs = zip(_lifetimes(one), _lifetimes(other), strict=False)
    return _lasting(one) == _lasting(other) and all(abs(this - that) <= SLACK for this, that in pairs)


def _lasting(held: Possessions) -> tuple[object, ...]:
    addresses = [replace(address, valid=0, preferred=0) for address in held.addresses]
    routes = {route.identity for route in held.routes}
    return addresses, routes, held.rules, set(held.neighbours), set(held.proxies), held.dns


def _lifetimes(held: Possessions) -> Iterator[int]:
    for address in held.addresses:
        yield from (address.valid, address.preferred)
    yield from (route.expires for route in sorted(held.routes, key=lambda route: str(route.identity)))


def renamed(held: Possessions, source: str, target: str) -> Possessions:
    """The same possessions, with routes through ``target`` instead of ``source``, and rules about it."""
    return replace(
        held,
        routes=tuple(route.through(source, target) for route in held.routes),
        rules=tuple(rule.through(source, target) for rule in held.rules),
    )


def _taken(held: Possessions, source: str, target: str, at_source: Possessions) -> Iterator[Operation]:
    routes = {route.identity for route in at_source.routes}
    moving = [route for route in held.routes if route.uses(source) and route.identity in routes]
    yield from (TakeRoute(route) for route in sorted(moving, key=_need, reverse=True))
    neighbours = {neighbour.address for neighbour in at_source.neighbours}
    yield from (TakeNeighbour(source, one) for one in held.neighbours if one.address in neighbours)
    present = {address.identity for address in at_source.addresses}
    yield from (TakeAddress(source, one) for one in reversed(_by_age(held)) if one.identity in present)
    yield from (TakeProxy(source, proxied) for proxied in held.proxies if proxied in at_source.proxies)


def _given(held: Possessions, source: str, target: str, at_target: Possessions) -> Iterator[Operation]:
    neighbours = {neighbour.address for neighbour in at_target.neighbours}
    yield from (GiveNeighbour(target, one) for one in held.neighbours if one.address not in neighbours)
    present = {address.identity for address in at_target.addresses}
    missing = [address for address in _by_age(held) if address.identity not in present]
    yield from (GiveAddress(target, address) for address in missing)
    routes = {route.identity for route in at_target.routes}
    wanted = [route.through(source, target) for route in held.routes]
    # Routes elsewhere that come from an address go when that goes: they are given again with it.
    coming = [route for route in wanted if route.identity not in routes or (missing and not route.uses(target))]
    yield from (GiveRoute(route) for route in sorted(coming, key=_need))
    yield from (GiveProxy(target, proxied) for proxied in held.proxies if proxied not in at_target.proxies)


def _detail(rule: HeldRule) -> tuple[int, int, bytes]:
    return len(rule.said), bool(rule.iif) + bool(rule.oif), rule.said


def _by_age(held: Possessions) -> list[HeldAddress]:
    """Addresses in the order they have to be given in to stand as they do: the kernel puts new IPv6 ones first."""
    older = [one for one in held.addresses if one.address.version == 4]
    return [*older, *(one for one in reversed(held.addresses) if one.address.version == 6)]


def _need(route: HeldRoute) -> tuple[bool, bool, int]:
    """Routes that need others sort after them: the kernel's own, then those without a gateway, then the rest.

    A gateway may itself be reached through a gateway's route; narrower routes first makes the usual case hold.
    """
    return route.protocol != PROTO_KERNEL, any(hop.gateway for hop in route.hops), -route.destination.prefixlen
