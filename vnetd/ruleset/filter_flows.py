"""Connection state without connection tracking: what was accepted one way is remembered, its replies are looked up.

The rule that accepts a packet writes its addresses and ports into a set with time-out; in the other direction
the swapped tuple is looked up, and refreshed. There is one set per protocol, IP version and direction of the
original packet, so that a guest cannot pass off a packet of its own making as the reply to another.

Kernels that track connections in the bridge family are treated the same. Ports of fragments but the first are not
known, thus only the first fragment of a datagram matches a stateful rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vnetd.model.filter import Direction
from vnetd.model.filter_protocols import Protocol
from vnetd.plan.rules import Json, Set
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.expressions import concat, in_set, match, payload
from vnetd.ruleset.filter_tests import address, ip_protocol

SIZE = 65536


@dataclass(frozen=True, slots=True)
class Flow:
    """How connections of one protocol are told apart; ``timeout`` in seconds without a packet."""

    name: str
    timeout: int
    header: str = ""


# RFC 5382 REQ-5: at least 2 h 4 min for TCP; RFC 4787 REQ-5: five minutes for UDP are recommended.
TCP = Flow("tcp", 7440, "tcp")
UDP = Flow("udp", 300, "udp")
SCTP = Flow("sctp", 7440, "sctp")
OTHER = Flow("ip", 600)
_BY_NUMBER = {6: TCP, 17: UDP, 132: SCTP}

REPLY_TYPES = {4: {0: 8, 14: 13, 16: 15, 18: 17}, 6: {129: 128}}
"""ICMP types that answer another, and that other one, by IP version."""


def flows(spec: Protocol) -> Sequence[Flow]:
    """What may be a connection of that protocol; the last one of several takes what the others left."""
    if spec.number is None:
        return (TCP, UDP, SCTP, OTHER)
    return (_BY_NUMBER.get(spec.number, OTHER),)


def flow_set(flow: Flow, version: int, direction: Direction) -> Set:
    """The set that remembers originals of that direction."""
    kind = f"ipv{version}_addr"
    rest = ("inet_service", "inet_service") if flow.header else ("inet_proto",)
    return Set(
        "bridge",
        f"flows_{flow.name}{version}_{direction}",
        ("ifname", kind, kind, *rest),
        flags=("dynamic",),
        size=SIZE,
        timeout=flow.timeout,
    )


def remember(flow: Flow, version: int, direction: Direction, interface: Json) -> Json:
    """Note the packet's connection, or that it is alive."""
    return _update(flow_set(flow, version, direction), _key(flow, version, interface, "s", "d"))


def known(flow: Flow, version: int, direction: Direction, interface: Json, refresh: bool = True) -> list[Json]:
    """Only packets that answer a connection noted before; these keep it alive."""
    where = flow_set(flow, version, direction)
    key = _key(flow, version, interface, "d", "s")
    return [in_set(key, where.name), *([_update(where, key)] if refresh else [])]


def note_requests(version: int, kind: int, direction: Direction, interface: Json) -> tuple[Json, ...]:
    """A rule that notes ICMP requests of a type, whatever becomes of them, for rules that accept the answers."""
    header, table = ("icmp", names.ICMP_TYPE) if version == 4 else ("icmpv6", names.ICMPV6_TYPE)
    is_request = match(payload(header, "type"), names.symbol(table, kind))
    return (is_request, remember(OTHER, version, direction, interface))


def _update(where: Set, key: Json) -> Json:
    return {"set": {"op": "update", "elem": key, "set": f"@{where.name}"}}


def _key(flow: Flow, version: int, interface: Json, first: str, second: str) -> Json:
    addresses = [address(version, f"{side}addr").expression for side in (first, second)]
    if not flow.header:
        return concat(interface, *addresses, ip_protocol(version))
    return concat(interface, *addresses, *(payload(flow.header, f"{side}port") for side in (first, second)))
