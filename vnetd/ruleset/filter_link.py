"""What rules of the link layer look at, as nftables expressions: Ethernet, VLAN, STP, ARP and RARP.

Matches come in the order libnftables lists them: what is next to each other in a header is next to each other here,
in the header's order.
"""

from collections.abc import Iterator

from vnetd.model.filter import Attribute
from vnetd.model.filter_values import ETHERTYPES, OPCODES, integer
from vnetd.plan.rules import Json
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.expressions import match, payload
from vnetd.ruleset.filter_comparisons import SIDES, Attributes, compare, network
from vnetd.ruleset.filter_raw import BPDU, RARP, field, header_match

STP_ADDRESS = "01:80:c2:00:00:00"
LLC = (0, 40, 0x4242030000)
"""Offset, length and value, in bits, of what every BPDU begins with: LLC header and protocol identifier."""
VLAN = 0x8100


def ethertype(number: int) -> Json:
    """Frames of that type, without VLAN tag."""
    return match(payload("ether", "type"), names.symbol(names.ETHERTYPE, number))


def ethernet(attributes: Attributes) -> Iterator[Json]:
    """Addresses and type."""
    for name, place in (("dst", "daddr"), ("src", "saddr")):
        given = attributes.get(f"{name}macaddr")
        if given:
            yield _masked(payload("ether", place), given, attributes.get(f"{name}macmask"))
    kind = attributes.get("protocolid")
    if kind:
        number = integer(kind.value, ETHERTYPES)
        yield compare(payload("ether", "type"), names.symbol(names.ETHERTYPE, number), kind)


def _masked(place: Json, given: Attribute, mask: Attribute | None) -> Json:
    if mask is None or mask.value == "ff:ff:ff:ff:ff:ff":
        return compare(place, given.value, given)
    octets = zip(given.value.split(":"), mask.value.split(":"), strict=True)
    value = ":".join(f"{int(one, 16) & int(other, 16):02x}" for one, other in octets)
    return compare({"&": [place, mask.value]}, value, given)


def vlan(attributes: Attributes, known_type: int | None) -> Iterator[Json]:
    """Frames with a tag. A test of its number implies that there is one."""
    number, inner = attributes.get("vlanid"), attributes.get("encap-protocol")
    if number is None and (inner or known_type != VLAN):
        yield ethertype(VLAN)
    if number:
        yield compare(payload("vlan", "id"), integer(number.value), number)
    if inner:
        kind = names.symbol(names.ETHERTYPE, integer(inner.value, ETHERTYPES))
        yield compare(payload("vlan", "type"), kind, inner)


def stp(attributes: Attributes) -> Iterator[Json]:
    """BPDUs. Fields of a configuration are those of any BPDU that is long enough to have them."""
    yield match(payload("ether", "daddr"), STP_ADDRESS)
    yield from ethernet(attributes)
    yield from header_match(BPDU, attributes, LLC)


def arp(attributes: Attributes) -> Iterator[Json]:
    """ARP messages for Ethernet and IPv4."""
    for name, place, table in (
        ("hwtype", "htype", {}),
        ("protocoltype", "ptype", names.ETHERTYPE),
        ("opcode", "operation", names.ARP_OPERATION),
    ):
        given = attributes.get(name)
        if given:
            yield compare(payload("arp", place), names.symbol(table, integer(given.value, OPCODES)), given)
    for side, short in SIDES:
        hardware = attributes.get(f"arp{side}macaddr")
        if hardware:
            yield compare(payload("arp", f"{short}addr ether"), hardware.value, hardware)
        given, mask = attributes.get(f"arp{side}ipaddr"), attributes.get(f"arp{side}ipmask")
        length = integer(mask.value) if mask else 32
        if given:
            right = given.value if length == 32 else network(given.value, length)
            yield compare(payload("arp", f"{short}addr ip"), right, given)


def rarp(attributes: Attributes) -> Iterator[Json]:
    """RARP messages for Ethernet and IPv4."""
    yield from header_match(RARP, attributes)


def differing_addresses() -> list[list[Json]]:
    """Ways in which the addresses an ARP or RARP message is from and for differ: one bit is set in one of them.

    nftables cannot compare two fields of a packet with each other before Linux 6.13.
    """
    fields = [field(*RARP[name]) for name in ("arpsrcipaddr", "arpdstipaddr")]
    return [
        [match({"&": [one, 1 << bit]}, 1 << bit), match({"&": [other, 1 << bit]}, 0)]
        for bit in range(32)
        for one, other in (fields, fields[::-1])
    ]
