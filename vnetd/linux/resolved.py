"""``host.Resolver``: systemd-resolved, spoken to on the message bus that vnetd itself is on.

Source: org.freedesktop.resolve1(5). A resolver that runs in another network namespace knows other links by the same
numbers, so only one of our own counts.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, TypeVar, TypeVarTuple

from vnetd.linux.bus_calls import BusCalls, CallRefused
from vnetd.linux.operations import index_of
from vnetd.linux.threads import Worker
from vnetd.model.errors import HostError
from vnetd.plan.link_dns import LinkDns, LinkDomain, NameServer

NAME, PATH = "org.freedesktop.resolve1", "/org/freedesktop/resolve1"
MANAGER, LINK, PROPERTIES = f"{NAME}.Manager", f"{NAME}.Link", "org.freedesktop.DBus.Properties"
NO_SUCH_LINK, MANAGED = f"{NAME}.NoSuchLink", f"{NAME}.LinkBusy"
PATIENCE = 2.0
"""Seconds each answer may take."""
SCOPE_DNS = 1
"""Bit of ``ScopesMask``: names are asked for on the link by DNS now."""
MODES = {
    "llmnr": ("LLMNR", "SetLinkLLMNR"),
    "multicast_dns": ("MulticastDNS", "SetLinkMulticastDNS"),
    "dns_over_tls": ("DNSOverTLS", "SetLinkDNSOverTLS"),
    "dnssec": ("DNSSEC", "SetLinkDNSSEC"),
}
"""Fields of ``LinkDns`` with the property that tells them and the method that sets them."""

T = TypeVar("T")
Args = TypeVarTuple("Args")
Change = tuple[str, str, Any]
"""Method, signature of its last argument, that argument."""


class Resolved:
    """systemd-resolved on ``bus``: ``system``, ``session`` or an address. Each verb has a thread of its own, for
    they are few, and the answer may take seconds.
    """

    def __init__(self, bus: str) -> None:
        self._bus = bus

    async def settings(self, link: str) -> LinkDns | None:
        """See ``host.Resolver``."""
        try:
            return await self._converse("read name servers of", link, _settings)
        except HostError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    async def give(self, link: str, dns: LinkDns) -> None:
        """See ``host.Resolver``."""
        await self._converse("set name servers of", link, _give, dns)

    async def take(self, link: str) -> None:
        """See ``host.Resolver``."""
        try:
            await self._converse("forget name servers of", link, _take)
        except HostError as error:
            if error.errno != errno.ENODEV:
                raise

    async def _converse(
        self, operation: str, link: str, function: Callable[[BusCalls, int, *Args], T], *args: *Args
    ) -> T | None:
        worker = Worker("vnetd-resolved")
        try:
            return await worker.run(_with_resolver, self._bus, link, function, *args)
        except OSError as error:
            raise HostError(operation, link, _cause(error)) from error
        finally:
            await worker.close()


def _cause(error: OSError) -> int | str:
    if error.errno == errno.ENODEV or (isinstance(error, CallRefused) and error.name == NO_SUCH_LINK):
        return errno.ENODEV
    said = f"no answer within {PATIENCE:.0f} s" if isinstance(error, TimeoutError) else str(error)
    return f"systemd-resolved: {said}"


def _with_resolver(bus: str, link: str, function: Callable[[BusCalls, int, *Args], T], *args: *Args) -> T | None:
    """What ``function`` says of the link's number; ``None`` if there is no bus or no resolver on it."""
    try:
        calls = BusCalls(bus, PATIENCE)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    with calls:
        return function(calls, index_of(link), *args) if _is_here(calls) else None


def _is_here(calls: BusCalls) -> bool:
    """Whether a resolver runs, in our network namespace."""
    if not calls.ask("NameHasOwner", "s", NAME):
        return False
    process = calls.ask("GetConnectionUnixProcessID", "s", NAME)
    try:
        return os.path.samefile(f"/proc/{process}/ns/net", "/proc/self/ns/net")
    except OSError:
        return False


def _settings(calls: BusCalls, index: int) -> LinkDns:
    (path,) = calls.call(NAME, PATH, MANAGER, "GetLink", "i", index)
    (found,) = calls.call(NAME, path, PROPERTIES, "GetAll", "s", LINK)
    told = {name: variant.value for name, variant in found.items()}
    domains = tuple(LinkDomain(name, route_only) for name, route_only in told["Domains"])
    return LinkDns(
        servers=tuple(NameServer(ip_address(bytes(address)), port, name) for _, address, port, name in told["DNSEx"]),
        domains=domains,
        default_route=_default_route(told, domains),
        negative_trust_anchors=tuple(sorted(told.get("DNSSECNegativeTrustAnchors", ()))),
        **{field: told.get(shown, "") for field, (shown, _) in MODES.items()},
    )


def _default_route(told: dict[str, Any], domains: tuple[LinkDomain, ...]) -> bool | None:
    """What somebody has set, ``None`` for what the resolver does by itself, of which only the outcome is told.

    By itself it asks for everything where no domain is said to be a route only, once it asks for names at all.
    """
    shown: bool = told["DefaultRoute"]
    if not told["ScopesMask"] & SCOPE_DNS:
        return shown or None
    return None if shown == (not any(domain.route_only for domain in domains)) else shown


def _give(calls: BusCalls, index: int, dns: LinkDns) -> None:
    for member, signature, value in _changes(_settings(calls, index), dns):
        calls.call(NAME, PATH, MANAGER, member, f"i{signature}", index, value)


def _changes(now: LinkDns, dns: LinkDns) -> Iterator[Change]:
    if dns.servers != now.servers:
        servers = [[_family(one), one.address.packed, one.port, one.name] for one in dns.servers]
        yield "SetLinkDNSEx", "a(iayqs)", servers
    if dns.domains != now.domains:
        yield "SetLinkDomains", "a(sb)", [[domain.name, domain.route_only] for domain in dns.domains]
    if dns.default_route not in {None, now.default_route}:
        yield "SetLinkDefaultRoute", "b", dns.default_route
    for field, (_, member) in MODES.items():
        wanted = getattr(dns, field)
        if wanted not in {"", getattr(now, field)}:
            yield member, "s", wanted
    if dns.negative_trust_anchors != now.negative_trust_anchors:
        yield "SetLinkDNSSECNegativeTrustAnchors", "as", list(dns.negative_trust_anchors)


def _family(server: NameServer) -> int:
    return socket.AF_INET6 if server.address.version == 6 else socket.AF_INET


def _take(calls: BusCalls, index: int) -> None:
    try:
        calls.call(NAME, PATH, MANAGER, "RevertLink", "i", index)
    except CallRefused as refusal:
        if refusal.name != MANAGED:
            raise
