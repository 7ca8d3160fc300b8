"""RARP messages, whose fields libnftables does not know: matched by their offset in the network header."""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, ip_network

from vnetd.model.filter import Attribute
from vnetd.model.filter_values import OPCODES, integer
from vnetd.plan.rules import Json
from vnetd.ruleset.expressions import match, prefix

FIELDS = {
    "hwtype": (0, 16),
    "protocoltype": (16, 16),
    "opcode": (48, 16),
    "arpsrcmacaddr": (64, 48),
    "arpsrcipaddr": (112, 32),
    "arpdstmacaddr": (144, 48),
    "arpdstipaddr": (192, 32),
}
"""Offset and length in bits of each field, for Ethernet and IPv4 (RFC 826, RFC 903)."""
REGISTER = 128
"""Bits libnftables joins neighbouring comparisons up to."""
JSON_MAX = 2**63 - 1


def header_match(attributes: Mapping[str, Attribute]) -> Iterator[Json]:
    """Matches for all fields given; equalities of neighbours are one match, as libnftables makes and lists them."""
    pending: tuple[int, int, int] | None = None
    for name, (offset, length) in FIELDS.items():
        given = attributes.get(name)
        if given is None:
            continue
        mask, value = _mask(attributes, name, length), _number(given.value)
        plain = mask == (1 << length) - 1 and not given.negated
        if pending and plain and sum(pending[:2]) == offset and pending[1] + length <= REGISTER:
            pending = (pending[0], pending[1] + length, pending[2] << length | value)
            continue
        if pending:
            yield _equal(pending)
        pending = (offset, length, value) if plain else None
        if not plain:
            left: Json = _field(offset, length)
            if mask != (1 << length) - 1:
                left = {"&": [left, mask]}
            yield match(left, value & mask, "!=" if given.negated else "==")
    if pending:
        yield _equal(pending)


def network(address: str, length: int) -> Json:
    """The prefix of that length the address is in."""
    return prefix(str(ip_network(f"{address}/{length}", strict=False).network_address), length)


def _equal(field: tuple[int, int, int]) -> Json:
    offset, length, value = field
    return match(_field(offset, length), value if value <= JSON_MAX else f"0x{value:x}")


def _field(offset: int, length: int) -> Json:
    return {"payload": {"base": "nh", "offset": offset, "len": length}}


def _mask(attributes: Mapping[str, Attribute], name: str, length: int) -> int:
    given = attributes.get(name.replace("addr", "mask")) if "ip" in name else None
    bits = integer(given.value) if given else length
    return (1 << length) - (1 << (length - bits))


def _number(value: str) -> int:
    if "." in value:
        return int(IPv4Address(value))
    if ":" in value:
        return int(value.replace(":", ""), 16)
    return integer(value, OPCODES)
