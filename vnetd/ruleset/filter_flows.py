"""Connections a guest's filter has let through, remembered in dynamic sets filled from the packet path.

What is accepted leaves its addresses and ports in a set with time-out, unless it answers what is in the set of the
other direction; that is refreshed instead. There is one set per protocol, IP version and direction of the original
packet, keyed by the guest's device, so that no guest can pass off a packet of its own making as the reply to another.

ICMP is told apart by the kind of request; its identifier cannot be part of a set's key with libnftables 1.0. Ports of
fragments but the first are not known, thus only the first fragment of a datagram matches a stateful rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vnetd.model.filter import Direction
from vnetd.plan.rules import Json, Set
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.expressions import ACCEPT, anonymous_set, concat, match, meta, payload
from vnetd.ruleset.filter_tests import address, ip_protocol, is_icmp
from vnetd.ruleset.filter_uses import Statements, Uses

SIZE = 262_144
"""Connections each set can hold; the kernel allocates what is used."""


@dataclass(frozen=True, slots=True)
class Flow:
    """How connections of one protocol are told apart; ``timeout`` in seconds without a packet.

    ``header`` has ports. ``request`` is the ICMP type that ``reply`` answers.
    """

    name: str
    timeout: int
    header: str = ""
    request: int | None = None
    reply: int | None = None


# RFC 5382 REQ-5: at least 2 h 4 min for TCP; RFC 4787 REQ-5: five minutes for UDP are recommended.
TCP, UDP, UDPLITE, SCTP = (
    Flow(name, timeout, name) for name, timeout in (("tcp", 7440), ("udp", 300), ("udplite", 300), ("sctp", 7440))
)
OTHER = Flow("ip", 600)
_BY_NUMBER = {6: TCP, 17: UDP, 132: SCTP, 136: UDPLITE}
ICMP = {4: 1, 6: 58}
REQUESTS = {4: {8: 0, 13: 14, 15: 16, 17: 18}, 6: {128: 129}}
"""ICMP types that are answered by another, and that other one, by IP version (RFC 792, RFC 950, RFC 4443)."""


def asking(version: int) -> tuple[Flow, ...]:
    """The kinds of ICMP requests."""
    kinds = REQUESTS[version].items()
    return tuple(Flow(f"icmp{request}_", 60, request=request, reply=reply) for request, reply in kinds)


def flows(version: int, number: int | None) -> Sequence[Flow]:
    """What may be a connection of an IP protocol, of any if there is no number; the last one takes what is left."""
    if number is None:
        return (TCP, UDP, UDPLITE, SCTP, *asking(version), OTHER)
    return asking(version) if number == ICMP[version] else (_BY_NUMBER.get(number, OTHER),)


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of a guest's packets of one IP version; ``interface`` is its device as that hook knows it."""

    version: int
    towards_guest: bool

    @property
    def interface(self) -> Json:
        """The guest's device."""
        return meta("oifname" if self.towards_guest else "iifname")

    @property
    def own(self) -> Direction:
        """The direction of packets here."""
        return Direction.IN if self.towards_guest else Direction.OUT

    @property
    def other(self) -> Direction:
        """The direction of what packets here may answer."""
        return Direction.OUT if self.towards_guest else Direction.IN


def flow_set(flow: Flow, version: int, direction: Direction, answered: bool = False) -> Set:
    """The set that remembers originals of that direction; ``answered``: only those that were replied to."""
    kind = f"ipv{version}_addr"
    rest = ("inet_service",) * 2 if flow.header else ("inet_proto",) if flow is OTHER else ()
    return Set(
        "bridge",
        f"{'answered' if answered else 'flows'}_{flow.name}{version}_{direction}",
        ("ifname", kind, kind, *rest),
        flags=("dynamic",),
        size=SIZE,
        timeout=flow.timeout,
    )


def replies(flow: Flow, side: Side, uses: Uses) -> Statements:
    """Only packets that answer a connection remembered."""
    return _found(flow, side, uses, flow.reply, _key(flow, side, "d", "s"), flow_set(flow, side.version, side.other))


def answered(flow: Flow, side: Side, uses: Uses) -> Statements:
    """Only packets of a connection that was answered, in the direction of the original."""
    where = flow_set(flow, side.version, side.own, answered=True)
    return _found(flow, side, uses, flow.request, _key(flow, side, "s", "d"), where)


def _found(flow: Flow, side: Side, uses: Uses, kind: int | None, key: Json, where: Set) -> Statements:
    return (*_icmp(side.version, kind), match(key, uses.set(where)))


def no_flow(version: int) -> Statements:
    """ICMP messages that neither ask nor answer: errors, neighbour discovery and the like."""
    types = sorted({kind for pair in REQUESTS[version].items() for kind in pair})
    return _icmp_types(version, types, "!=")


def no_request(version: int) -> Statements:
    """ICMP messages that do not ask."""
    return _icmp_types(version, sorted(REQUESTS[version]), "!=")


def answers(version: int) -> Statements:
    """ICMP messages that answer."""
    return _icmp_types(version, sorted(REQUESTS[version].values()), "==")


def noting(side: Side, uses: Uses, *, note_answers: bool) -> list[Statements]:
    """Rules for what is accepted: note it, or that what it answers is alive, and let it pass.

    With ``note_answers`` also note which connections were answered.
    """
    rules: list[Statements] = []
    kinds = flows(side.version, None)
    for flow in kinds:
        key = _key(flow, side, "d", "s")
        seen = [_update(flow_set(flow, side.version, side.other, answered=True), key, uses)] if note_answers else []
        refresh = _update(flow_set(flow, side.version, side.other), key, uses)
        rules.append((*replies(flow, side, uses), refresh, *seen, ACCEPT))
    for flow in kinds:
        note = _update(flow_set(flow, side.version, side.own), _key(flow, side, "s", "d"), uses)
        rules.append((*_icmp(side.version, flow.request), *_not_icmp(flow, side.version), note, ACCEPT))
    return [*rules, (ACCEPT,)]


def _not_icmp(flow: Flow, version: int) -> Statements:
    return (match(ip_protocol(version), names.protocol(ICMP[version]), "!="),) if flow is OTHER else ()


def _icmp(version: int, kind: int | None) -> Statements:
    return () if kind is None else _icmp_types(version, [kind], "==")


def _icmp_types(version: int, types: Sequence[int], op: str) -> Statements:
    header, table = ("icmp", names.ICMP_TYPE) if version == 4 else ("icmpv6", names.ICMPV6_TYPE)
    words = [names.symbol(table, kind) for kind in types]
    kinds = words[0] if len(words) == 1 else anonymous_set(*words)
    return (is_icmp(version), match(payload(header, "type"), kinds, op))


def _update(where: Set, key: Json, uses: Uses) -> Json:
    return {"set": {"op": "update", "elem": key, "set": uses.set(where)}}


def _key(flow: Flow, side: Side, first: str, second: str) -> Json:
    addresses = [address(side.version, f"{end}addr").expression for end in (first, second)]
    if flow.header:
        addresses += [payload(flow.header, f"{end}port") for end in (first, second)]
    elif flow is OTHER:
        addresses.append(ip_protocol(side.version))
    return concat(side.interface, *addresses)
