"""A made-up packet of a guest's, or to it, followed through vnetd's rules and those of others."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from vnetd.model.errors import Invalid
from vnetd.packets.sightings import Address
from vnetd.plan.rules import Fragment, Json, Stranger
from vnetd.reconcile.loop import Loop
from vnetd.ruleset.filter_explain import entered, words
from vnetd.ruleset.filter_origin import origin_of
from vnetd.ruleset.probe import TRANSPORT, Probe, Undecidable, frame
from vnetd.ruleset.trace import Outcome, Rules
from vnetd.service.api import Options
from vnetd.service.filter_uses import Bound
from vnetd.service.filters import FilterService
from vnetd.service.views import Finding

NOBODY = "02:00:00:00:00:01"
"""MAC address of the other end where it makes no difference."""
IP_FAMILIES = {4: {"ip", "inet"}, 6: {"ip6", "inet"}}


@dataclass(frozen=True, slots=True)
class Ask:
    """Whom a guest wants to reach (``out``), or who wants to reach it."""

    other: Address
    out: bool
    protocol: str
    port: int

    @property
    def words(self) -> str:
        """For people."""
        what = self.protocol if self.protocol == "icmp" else f"{self.protocol} {self.port}"
        return f"{what} {'to' if self.out else 'from'} {self.other}"


def ask_of(options: Options) -> Ask | None:
    """What is to be probed, ``None`` for nothing. Raises ``Invalid`` naming what is wrong with it."""
    unknown = sorted(set(options) - {"to", "from", "protocol", "port"})
    if unknown:
        raise Invalid(f"unknown option {unknown[0]!r}; known here: to, from, protocol, port")
    ends = [name for name in ("to", "from") if name in options]
    if not ends:
        if options:
            raise Invalid("a probe needs an address: give to or from")
        return None
    if len(ends) == 2:
        raise Invalid("give to or from, not both: the guest is the other end")
    protocol, port = options.get("protocol", "icmp"), options.get("port", 0)
    if protocol not in {"tcp", "udp", "icmp"} or protocol not in TRANSPORT:
        raise Invalid(f"protocol {protocol!r} cannot be probed: tcp, udp and icmp can")
    needed = range(1, 65536) if protocol != "icmp" else range(1)
    if not isinstance(port, int) or port not in needed:
        raise Invalid(
            f"port {port!r}: {'tcp and udp need one from 1 to 65535' if protocol != 'icmp' else 'icmp has none'}"
        )
    try:
        other = ip_address(str(options[ends[0]]))
    except ValueError as error:
        raise Invalid(f"{ends[0]}: {error}") from None
    return Ask(other, ends[0] == "to", str(protocol), port)


class Probing:
    """Evaluates rules; nothing is sent."""

    def __init__(self, loop: Loop, filters: FilterService) -> None:
        self._loop = loop
        self._filters = filters

    async def filtered(
        self, bound: Bound, ask: Ask | None, bridge: str, own: Address | None = None
    ) -> tuple[Finding, ...]:
        """What the filter of a device does with the packet."""
        if ask is None:
            return ()
        known = self._filters.addresses(bound, ask.other.version)
        source = own or next(iter(known), None)
        if source is None:
            return (Finding("filter", "unknown", f"an IPv{ask.other.version} address of the guest is not known"),)
        made = await self._frame(ask, source, bound.mac or NOBODY, bridge)
        fragment = self._loop.rules.fragment(bound.owner) or Fragment()
        start = entered(fragment, bound.device, towards_guest=not ask.out)
        try:
            outcome = Rules.of(fragment, bound.family).trace(start, Probe(made, bound.device, bound.device))
        except Undecidable as error:
            return (Finding("filter", "unknown", f"filter {bound.filter}: cannot be told without sending: {error}"),)
        return (_decision(bound, ask, source, outcome),)

    async def routed(self, ask: Ask, own: Address | None, bridge: str, mac: str) -> AsyncIterator[Finding]:
        """What forwarding does with the packet: sysctls, vnetd's rules of networks, and those of others."""
        version = ask.other.version
        uplink = await self._uplink(ask.other)
        if not uplink:
            yield Finding("route", "problem", f"the host has no route to {ask.other}")
            return
        yield Finding("route", "ok", f"{ask.other} is reached through {uplink}")
        inbound = bridge if ask.out else uplink
        path = ("net", f"ipv{version}", "conf", inbound if version == 4 else "all", "forwarding")
        if (await self._loop.host.kernel.sysctls([path])).get(path) != "1":
            yield Finding("forwarding", "problem", f"sysctl {'.'.join(path)} is not 1: the host does not forward")
        else:
            yield Finding("forwarding", "ok", f"the host forwards IPv{version} that comes in through {inbound}")
        if own is None:
            yield Finding("rules", "unknown", f"an IPv{version} address of the guest is not known")
            return
        made = await self._frame(ask, own, mac, bridge)
        probe = Probe(made, inbound, uplink if ask.out else bridge)
        yield self._own_rules("forward", probe)
        async for finding in self._others(ask, probe, "forward"):
            yield finding

    async def by_host(self, ask: Ask, own: Address | None, bridge: str, hook: str, mac: str) -> AsyncIterator[Finding]:
        """What rules for packets to the host itself do."""
        if own is None or not ask.out:
            return
        probe = Probe(await self._frame(ask, own, mac, bridge), bridge, "")
        yield self._own_rules(hook, probe)
        async for finding in self._others(ask, probe, hook):
            yield finding

    def _own_rules(self, hook: str, probe: Probe) -> Finding:
        try:
            outcome = Rules.of(self._loop.rules.contents(), "inet").trace(hook, probe)
        except Undecidable as error:
            return Finding("rules", "unknown", f"vnetd's rules for networks: cannot be told: {error}")
        if outcome.verdict in {"drop", "reject"}:
            last = outcome.trail[-1]
            where = f"rule {last.place + 1} of chain {last.chain} of table inet vnetd"
            return Finding("rules", "problem", f"vnetd's rules for networks refuse it: {where}")
        return Finding("rules", "ok", "vnetd's rules for networks let it pass")

    async def _others(self, ask: Ask, probe: Probe, hook: str) -> AsyncIterator[Finding]:
        families = IP_FAMILIES[ask.other.version]
        for one in await self._loop.host.nft.strangers():
            if one.family in families and one.hook.hook == hook and one.hook.type == "filter":
                for finding in _stranger(one, probe):
                    yield finding

    async def _uplink(self, address: Address) -> str:
        routes = [r for r in await self._loop.routes.all() if r.destination.version == address.version]
        fitting = [route for route in routes if address in route.destination]
        return max(fitting, key=lambda route: route.destination.prefixlen).device if fitting else ""

    async def _frame(self, ask: Ask, own: Address, mac: str, bridge: str) -> bytes:
        link = await self._loop.host.kernel.link(bridge) if bridge else None
        other = link.mac if link else NOBODY
        if ask.out:
            return frame(own, ask.other, ask.protocol, ask.port, mac, other)
        return frame(ask.other, own, ask.protocol, ask.port, other, mac)


def _decision(bound: Bound, ask: Ask, own: Address, outcome: Outcome) -> Finding:
    told = [(step, origin) for step in outcome.trail if (origin := origin_of(step.rule))]
    passes = outcome.verdict not in {"drop", "reject"}
    says = f"filter {bound.filter}, {ask.words}, the guest being {own}: {'passes' if passes else 'dropped'}"
    state = "ok" if passes else "problem"
    if not told:
        return Finding("filter", state, f"{says}, for no rule says otherwise")
    _, origin = told[-1]
    rule = words(origin, not ask.out, {})
    return Finding("filter", state, f"{says} by rule “{rule}” of filter {origin.origin}, chain {origin.chain}")


def _stranger(one: Stranger, probe: Probe) -> Iterator[Finding]:
    where = f"chain {one.name} of table {one.family} {one.table}"
    rules = Rules(one.chains, {name: dict(_elements(found)) for name, found in one.sets.items()})
    try:
        outcome = rules.trace(one.name, probe)
    except Undecidable as error:
        state = "unknown" if one.hook.policy == "drop" else "ok"
        if state == "unknown":
            yield Finding("others", state, f"{where} may drop it: its policy is drop, and {error} cannot be told")
        return
    if outcome.verdict in {"drop", "reject"}:
        last = outcome.trail[-1]
        rule = f"rule {last.place + 1} of chain {last.chain} of table {one.family} {one.table}"
        yield Finding("others", "problem", f"{rule} drops it: {_short(last.rule)}")
    elif not outcome.verdict and one.hook.policy == "drop":
        yield Finding("others", "problem", f"{where} drops it: no rule lets it pass, and the policy is drop")


def _elements(listed: tuple[Json, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for one in listed:
        key, data = one if isinstance(one, list) else (one, None)
        parts = key["concat"] if isinstance(key, Mapping) and "concat" in key else [key]
        yield tuple(map(_text, parts)), _verdict(data)


def _text(part: Json) -> str:
    match part:
        case {"elem": {"val": inner}}:
            return _text(inner)
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return f"{first}-{last}"
    return str(part)


def _verdict(data: Json) -> str:
    if not isinstance(data, Mapping):
        return ""
    kind, body = next(iter(data.items()))
    return f"{kind} {body['target']}" if body else str(kind)


def _short(rule: tuple[Json, ...]) -> str:
    text = json.dumps([one for one in rule if "counter" not in one])
    return text if len(text) < 200 else f"{text[:200]}…"
