"""What a rule looks at, as nftables expressions: one function per protocol element, from attributes to matches.

Matches come in the order libnftables lists them. The ethertype is last, since a test of it before fields it is implied
by would be left out, and what libnftables tests by itself, ``meta protocol``, holds for frames in a VLAN too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from vnetd.model.errors import Invalid
from vnetd.model.filter_protocols import Protocol
from vnetd.model.filter_values import PROTOCOL_NUMBERS, integer
from vnetd.plan.rules import Json
from vnetd.ruleset import filter_link as link
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.expressions import match, meta, payload, span
from vnetd.ruleset.filter_comparisons import SIDES, Attributes, compare, network
from vnetd.ruleset.filter_tcp import tcp_flags, tcp_option

ICMPV6 = 58
PORT_HEADERS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp"}


@dataclass(frozen=True, slots=True)
class Tests:
    """What a packet must be like: as one of ``alternatives`` says, each of which is a conjunction of matches, and as
    one of ``either`` says, if there are any, and as none of ``neither`` says."""

    alternatives: list[list[Json]]
    either: list[list[Json]] = field(default_factory=list)
    neither: list[list[Json]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Operand:
    """Where an attribute is in the packet, and its type in a set; no type: it cannot be in one."""

    expression: Json
    type: str = ""


def operands(spec: Protocol, attributes: Attributes) -> Mapping[str, Operand]:
    """The attributes of a match whose values a set can hold."""
    found = {"srcmacaddr": ether("saddr"), "dstmacaddr": ether("daddr")}
    if spec.name == "arp":
        found |= {f"arp{side}macaddr": arp(f"{short}addr ether", "ether_addr") for side, short in SIDES}
        found |= {f"arp{side}ipaddr": arp(f"{short}addr ip", "ipv4_addr") for side, short in SIDES}
    if spec.version:
        for side, short in SIDES:
            found[f"{side}ipaddr"] = found[f"{side}ipfrom"] = address(spec.version, f"{short}addr")
        header = port_header(spec, attributes)
        if header:
            found |= {f"{side}portstart": port(header, f"{short}port") for side, short in SIDES}
    return found


PARTNERS = {"addr": "mask", "start": "end", "from": "to"}


def partner(name: str) -> str:
    """The attribute that makes a mask or a range of this one, "" if there is none."""
    for ending, other in PARTNERS.items():
        if name.endswith(ending):
            return name.removesuffix(ending) + other
    return ""


def ether(field: str) -> Operand:
    """A field of the Ethernet header."""
    return Operand(payload("ether", field), "ether_addr")


def arp(field: str, type: str) -> Operand:
    """A field of an ARP message for Ethernet and IPv4."""
    return Operand(payload("arp", field), type)


def address(version: int, field: str) -> Operand:
    """An address of the IP header."""
    return Operand(payload("ip" if version == 4 else "ip6", field), f"ipv{version}_addr")


def port(header: str, field: str) -> Operand:
    """A port."""
    return Operand(payload(header, field), "inet_service")


def ip_protocol(version: int) -> Json:
    """The transport protocol; IPv6's is behind any extension headers."""
    return payload("ip", "protocol") if version == 4 else meta("l4proto")


def port_header(spec: Protocol, attributes: Attributes) -> str:
    """Name of the header that holds the ports, "" if the protocol is not known to have any."""
    if spec.layer == 3:
        return PORT_HEADERS.get(spec.number or 0, "") if spec.has_ports else ""
    given = attributes.get("protocol")
    if given is None or given.negated or given.value.startswith("$"):
        return ""
    return PORT_HEADERS.get(integer(given.value, PROTOCOL_NUMBERS), "")


def tests(spec: Protocol, attributes: Attributes, known_type: int | None, header_tested: bool) -> Tests:
    """What constant attributes ask for. ``known_type`` is the ethertype the chain is entered with.

    ``header_tested``: another statement of the rule names a port already, which implies the protocol.
    """
    alternatives = [_in_order(spec, attributes, known_type, one) for one in _upper(spec, attributes, header_tested)]
    gratuitous = attributes.get("gratuitous")
    if gratuitous is None or gratuitous.value != "true":
        return Tests(alternatives)
    differing = link.differing_addresses()
    return Tests(alternatives, either=differing) if gratuitous.negated else Tests(alternatives, neither=differing)


def _in_order(spec: Protocol, attributes: Attributes, known_type: int | None, upper: list[Json]) -> list[Json]:
    """Matches of the network layer and above with those of the link layer, as libnftables lists them."""
    if spec.name == "stp":
        return list(link.stp(attributes))
    ethernet = list(link.ethernet(attributes))
    if spec.name == "vlan":
        return ethernet + list(link.vlan(attributes, known_type))
    needed = _ETHERTYPE.get(spec.name)
    kind = [link.ethertype(needed)] if needed and needed != known_type else []
    if spec.name == "arp":
        return ethernet + upper + kind
    if spec.name == "rarp":  # raw header fields mean something else in other frames
        return ethernet + kind + upper
    return upper + ethernet + kind


_ETHERTYPE = {"ip": 0x800, "ipv6": 0x86DD, "arp": 0x806, "rarp": 0x8035}


def _upper(spec: Protocol, attributes: Attributes, header_tested: bool) -> list[list[Json]]:
    """Alternatives of what is asked of the network layer and above."""
    if spec.layer == 2 and not spec.version:
        builder = _MESSAGES.get(spec.name)
        return [list(builder(attributes)) if builder else []]
    internet = list(_internet(spec.version, attributes))
    transport = _ip(spec, attributes, header_tested) if spec.layer == 2 else _l3(spec, attributes, header_tested)
    return [internet + one for one in transport]


_Builder = Callable[[Attributes], Iterator[Json]]
_MESSAGES: Mapping[str, _Builder] = {"arp": link.arp, "rarp": link.rarp}


def _ip(spec: Protocol, attributes: Attributes, header_tested: bool) -> list[list[Json]]:
    header = port_header(spec, attributes)
    if any("port" in name for name in attributes) and not header:
        raise Invalid(f"ports in <{spec.name}> need a protocol that is not negated")
    given = attributes.get("protocol")
    alternatives = _icmpv6_ranges(attributes)
    if alternatives is not None:
        if given and (given.negated or integer(given.value, PROTOCOL_NUMBERS) != ICMPV6):
            raise Invalid("type and code in <ipv6> need protocol icmpv6")
        return alternatives
    ports = list(_ports(header, attributes))
    if given and not ports and not (header and header_tested):
        number = integer(given.value, PROTOCOL_NUMBERS)
        return [[compare(ip_protocol(spec.version), names.protocol(number), given)]]
    return [ports]


def _l3(spec: Protocol, attributes: Attributes, header_tested: bool) -> list[list[Json]]:
    if alternatives := _icmp(spec, attributes):
        return alternatives
    header = port_header(spec, attributes)
    flags = tcp_flags(attributes)
    if flags is None:
        return []
    found, option = [*_ports(header, attributes), *flags], tcp_option(attributes)
    if spec.number is not None and not found and not (header and header_tested):
        # An option implies TCP only as long as it is to be there: packets of other protocols have none.
        found = [match(ip_protocol(spec.version), names.protocol(spec.number))]
    return [[*found, *option]]


def _internet(version: int, attributes: Attributes) -> Iterator[Json]:
    header = "ip" if version == 4 else "ip6"
    dscp = attributes.get("dscp")
    if dscp:
        yield compare(payload(header, "dscp"), names.symbol(names.DSCP, integer(dscp.value)), dscp)
    for side, short in SIDES:
        field = payload(header, f"{short}addr")
        yield from _network(field, attributes, f"{side}ip", 32 if version == 4 else 128)
        first, last = attributes.get(f"{side}ipfrom"), attributes.get(f"{side}ipto")
        if first:
            yield compare(field, _span(first.value, last.value) if last else first.value, first)


def _span(first: str, last: str) -> Json:
    if first == last:
        return first
    if ip_address(last).packed < ip_address(first).packed:
        raise Invalid(f"address range {first} to {last} ends before it begins")
    return span(first, last)


def _network(field: Json, attributes: Attributes, stem: str, full: int) -> Iterator[Json]:
    given = attributes.get(f"{stem}addr")
    if given is None:
        return
    mask = attributes.get(f"{stem}mask")
    length = integer(mask.value) if mask else full
    yield compare(field, given.value if length == full else network(given.value, length), given)


def _ports(header: str, attributes: Attributes) -> Iterator[Json]:
    for side, short in SIDES:
        first, last = attributes.get(f"{side}portstart"), attributes.get(f"{side}portend")
        if first and header:
            start = integer(first.value)
            end = integer(last.value) if last else start
            if end < start:
                raise Invalid(f"port range {start} to {end} ends before it begins")
            yield compare(payload(header, f"{short}port"), span(start, end) if last and end > start else start, first)


def _icmp(spec: Protocol, attributes: Attributes) -> list[list[Json]]:
    """Alternatives; without type any code is meant, and a negated pair is any other pair."""
    kind, code = attributes.get("type"), attributes.get("code")
    four = spec.version == 4
    header, table = ("icmp", names.ICMP_TYPE) if four else ("icmpv6", names.ICMPV6_TYPE)
    fields = []
    if kind:
        fields.append((payload(header, "type"), names.symbol(table, integer(kind.value))))
    if code:
        fields.append((payload(header, "code"), integer(code.value)))
    return [[is_icmp(spec.version), *one] for one in _all_or_not(fields, negated=bool(kind and kind.negated))]


def is_icmp(version: int) -> Json:
    """ICMP, to be said before its fields: what libnftables tests by itself does not hold for packets in a VLAN."""
    return match(ip_protocol(version), names.protocol(1 if version == 4 else ICMPV6))


def _all_or_not(fields: list[tuple[Json, Json]], *, negated: bool) -> list[list[Json]]:
    """One alternative in which all fields are equal, or those in which a field is unequal and all before it equal."""
    if not negated:
        return [[match(left, right) for left, right in fields]] if fields else []
    return [
        [*(match(one, value) for one, value in fields[:place]), match(left, right, "!=")]
        for place, (left, right) in enumerate(fields)
    ]


def _icmpv6_ranges(attributes: Attributes) -> list[list[Json]] | None:
    """``type``, ``typeend``, ``code`` and ``codeend`` of <ipv6> are one range of each, absent ends open.

    ``None`` if none of them is given, no alternative if they can never hold.
    """
    given = [attributes[name] for name in ("type", "typeend", "code", "codeend") if name in attributes]
    if not given:
        return None
    tables: Mapping[str, Mapping[int, str]] = {"type": names.ICMPV6_TYPE, "code": {}}
    fields = []
    for place, table in tables.items():
        first, last = _bounds(attributes, place)
        if (first, last) != (0, 255):
            fields.append((payload("icmpv6", place), names.symbols(table, first, last)))
    if not fields:
        return [] if given[0].negated else [[match(meta("l4proto"), names.protocol(ICMPV6))]]
    return _all_or_not(fields, negated=given[0].negated)


def _bounds(attributes: Attributes, field: str) -> tuple[int, int]:
    first, last = attributes.get(field), attributes.get(f"{field}end")
    start = integer(first.value) if first else 0
    end = integer(last.value) if last else (start if first else 255)
    if end < start:
        raise Invalid(f"{field} range {start} to {end} ends before it begins")
    return start, end
