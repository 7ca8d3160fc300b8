"""What a rule looks at, as nftables expressions: one function per protocol element, from attributes to matches.

Matches come in the order libnftables lists them: what is next to each other in a header is next to each other here,
in the header's order. The ethertype is last, since a test of it before fields it is implied by would be left out, and
what libnftables tests by itself, ``meta protocol``, holds for frames in a VLAN too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.filter import Attribute
from vnetd.model.filter_protocols import Protocol
from vnetd.model.filter_values import ETHERTYPES, OPCODES, PROTOCOL_NUMBERS, integer
from vnetd.plan.rules import Json
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.expressions import match, meta, payload, span
from vnetd.ruleset.filter_raw import header_match, network

Attributes = Mapping[str, Attribute]
PORT_HEADERS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp"}


@dataclass(frozen=True, slots=True)
class Operand:
    """Where an attribute is in the packet, and its type in a set; no type: it cannot be in one."""

    expression: Json
    type: str = ""


def operands(spec: Protocol, attributes: Attributes) -> Mapping[str, Operand]:
    """The attributes of a match whose values a set can hold."""
    found = {"srcmacaddr": ether("saddr"), "dstmacaddr": ether("daddr")}
    if spec.name == "arp":
        found |= {f"arp{side}macaddr": arp(f"{short}addr ether", "ether_addr") for side, short in _SIDES}
        found |= {f"arp{side}ipaddr": arp(f"{short}addr ip", "ipv4_addr") for side, short in _SIDES}
    if spec.version:
        found |= {f"{side}ipaddr": address(spec.version, f"{short}addr") for side, short in _SIDES}
        header = port_header(spec, attributes)
        if header:
            found |= {f"{side}portstart": port(header, f"{short}port") for side, short in _SIDES}
    return found


_SIDES = (("src", "s"), ("dst", "d"))
PARTNERS = {"addr": "mask", "start": "end"}


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


def ethertype(number: int) -> Json:
    """Frames of that type, without VLAN tag."""
    return match(payload("ether", "type"), names.symbol(names.ETHERTYPE, number))


def compare(left: Json, right: Json, attribute: Attribute) -> Json:
    """Equal, or not equal if the attribute is negated."""
    return match(left, right, "!=" if attribute.negated else "==")


def tests(spec: Protocol, attributes: Attributes, known_type: int | None, header_tested: bool) -> list[Json]:
    """All matches for constant attributes. ``known_type`` is the ethertype the chain is entered with.

    ``header_tested``: another statement of the rule names a port already, which implies the protocol.
    """
    layer3 = list(_NETWORK[spec.name if spec.layer == 2 else "l3"](spec, attributes, header_tested))
    layer2 = list(_ethernet(attributes))
    needed = _ETHERTYPE.get(spec.name)
    kind = [ethertype(needed)] if needed and needed != known_type else []
    if spec.name == "arp":
        return layer2 + layer3 + kind
    if spec.name == "rarp":  # raw header fields mean something else in other frames
        return layer2 + kind + layer3
    return layer3 + layer2 + kind


_ETHERTYPE = {"ip": 0x800, "ipv6": 0x86DD, "arp": 0x806, "rarp": 0x8035}


def _ethernet(attributes: Attributes) -> Iterator[Json]:
    for name, field in (("dst", "daddr"), ("src", "saddr")):
        given = attributes.get(f"{name}macaddr")
        if given is None:
            continue
        mask = attributes.get(f"{name}macmask")
        left, value = payload("ether", field), given.value
        if mask and mask.value != "ff:ff:ff:ff:ff:ff":
            left, value = {"&": [left, mask.value]}, _masked_mac(given.value, mask.value)
        yield compare(left, value, given)
    kind = attributes.get("protocolid")
    if kind:
        number = integer(kind.value, ETHERTYPES)
        yield compare(payload("ether", "type"), names.symbol(names.ETHERTYPE, number), kind)


def _masked_mac(mac: str, mask: str) -> str:
    octets = zip(mac.split(":"), mask.split(":"), strict=True)
    return ":".join(f"{int(one, 16) & int(other, 16):02x}" for one, other in octets)


def _mac(spec: Protocol, attributes: Attributes, header_tested: bool) -> Iterator[Json]:
    yield from ()


def _arp(spec: Protocol, attributes: Attributes, header_tested: bool) -> Iterator[Json]:
    refuse_gratuitous(attributes)
    for name, field, table in (
        ("hwtype", "htype", {}),
        ("protocoltype", "ptype", names.ETHERTYPE),
        ("opcode", "operation", names.ARP_OPERATION),
    ):
        given = attributes.get(name)
        if given:
            yield compare(payload("arp", field), names.symbol(table, integer(given.value, OPCODES)), given)
    for side, short in _SIDES:
        hardware = attributes.get(f"arp{side}macaddr")
        if hardware:
            yield compare(payload("arp", f"{short}addr ether"), hardware.value, hardware)
        yield from _network(payload("arp", f"{short}addr ip"), attributes, f"arp{side}ip", 32)


def refuse_gratuitous(attributes: Attributes) -> None:
    """Two fields of one packet cannot be compared with each other in nftables."""
    given = attributes.get("gratuitous")
    if given and given.value == "true":
        raise Unsupported("attribute gratuitous of filter rules for ARP is not supported yet")


def _rarp(spec: Protocol, attributes: Attributes, header_tested: bool) -> Iterator[Json]:
    refuse_gratuitous(attributes)
    yield from header_match(attributes)


def _ip(spec: Protocol, attributes: Attributes, header_tested: bool) -> Iterator[Json]:
    yield from _internet(spec.version, attributes)
    header = port_header(spec, attributes)
    given = attributes.get("protocol")
    icmp = list(_icmpv6_ranges(attributes))
    ports = list(_ports(header, attributes))
    if any("port" in name for name in attributes) and not header:
        raise Invalid(f"ports in <{spec.name}> need a protocol that is not negated")
    if given and not ports and not icmp and not (header and header_tested):
        number = integer(given.value, PROTOCOL_NUMBERS)
        yield compare(ip_protocol(spec.version), names.protocol(number), given)
    yield from ports
    yield from icmp


def _l3(spec: Protocol, attributes: Attributes, header_tested: bool) -> Iterator[Json]:
    yield from _internet(spec.version, attributes)
    header = port_header(spec, attributes)
    ports = list(_ports(header, attributes))
    icmp = list(_icmp(spec, attributes))
    if spec.number is not None and not ports and not icmp and not (header and header_tested):
        yield match(ip_protocol(spec.version), names.protocol(spec.number))
    yield from ports
    yield from icmp


def _internet(version: int, attributes: Attributes) -> Iterator[Json]:
    header = "ip" if version == 4 else "ip6"
    dscp = attributes.get("dscp")
    if dscp:
        yield compare(payload(header, "dscp"), names.symbol(names.DSCP, integer(dscp.value)), dscp)
    for side, short in _SIDES:
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
    for side, short in _SIDES:
        first, last = attributes.get(f"{side}portstart"), attributes.get(f"{side}portend")
        if first and header:
            start = integer(first.value)
            end = integer(last.value) if last else start
            if end < start:
                raise Invalid(f"port range {start} to {end} ends before it begins")
            yield compare(payload(header, f"{short}port"), span(start, end) if last and end > start else start, first)


def _icmp(spec: Protocol, attributes: Attributes) -> Iterator[Json]:
    kind, code = attributes.get("type"), attributes.get("code")
    if kind is None:
        return
    if code and kind.negated:
        raise Unsupported(f"a negated type together with a code in <{spec.name}> is not supported yet")
    four = spec.version == 4
    header = "icmp" if four else "icmpv6"
    types = names.ICMP_TYPE if four else names.ICMPV6_TYPE
    yield compare(payload(header, "type"), names.symbol(types, integer(kind.value)), kind)
    if code:
        yield compare(payload(header, "code"), integer(code.value), code)


def _icmpv6_ranges(attributes: Attributes) -> Iterator[Json]:
    """``type``, ``typeend``, ``code`` and ``codeend`` of <ipv6> are one range of each, absent ends open."""
    given = [attributes[name] for name in ("type", "typeend", "code", "codeend") if name in attributes]
    if not given:
        return
    tables: Mapping[str, Mapping[int, str]] = {"type": names.ICMPV6_TYPE, "code": {}}
    found = []
    for field, table in tables.items():
        first, last = _bounds(attributes, field)
        if (first, last) != (0, 255):
            right = names.symbols(table, first, last)
            found.append(compare(payload("icmpv6", field), right, given[0]))
    if given[0].negated and len(found) != 1:
        raise Unsupported("a negated type together with a code in <ipv6> is not supported yet")
    yield from found or [match(meta("l4proto"), names.protocol(58))]


def _bounds(attributes: Attributes, field: str) -> tuple[int, int]:
    first, last = attributes.get(field), attributes.get(f"{field}end")
    start = integer(first.value) if first else 0
    end = integer(last.value) if last else (start if first else 255)
    if end < start:
        raise Invalid(f"{field} range {start} to {end} ends before it begins")
    return start, end


_Builder = Callable[[Protocol, Attributes, bool], Iterator[Json]]
_NETWORK: Mapping[str, _Builder] = {"mac": _mac, "arp": _arp, "rarp": _rarp, "ip": _ip, "ipv6": _ip, "l3": _l3}
