"""Headers libnftables does not know, RARP messages and BPDUs: matched by the offset of their fields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from vnetd.model.errors import Invalid
from vnetd.model.filter_values import OPCODES, integer
from vnetd.plan.rules import Json
from vnetd.ruleset.expressions import match, span
from vnetd.ruleset.filter_comparisons import Attributes

Fields = Mapping[str, tuple[int, int]]
"""Offset in the network header and length of each field, in bits, by the name of its attribute, in their order."""
RARP: Fields = {
    "hwtype": (0, 16),
    "protocoltype": (16, 16),
    "opcode": (48, 16),
    "arpsrcmacaddr": (64, 48),
    "arpsrcipaddr": (112, 32),
    "arpdstmacaddr": (144, 48),
    "arpdstipaddr": (192, 32),
}
"""For Ethernet and IPv4 (RFC 826, RFC 903)."""
BPDU: Fields = {
    "type": (48, 8),
    "flags": (56, 8),
    "root-priority": (64, 16),
    "root-address": (80, 48),
    "root-cost": (128, 32),
    "sender-priority": (160, 16),
    "sender-address": (176, 48),
    "port": (224, 16),
    "age": (240, 16),
    "max-age": (256, 16),
    "hello-time": (272, 16),
    "forward-delay": (288, 16),
}
"""After the LLC header of three octets (IEEE 802.1D, 9.3)."""
REGISTER = 128
"""Bits libnftables joins neighbouring comparisons up to."""
JSON_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Test:
    """A field compared: with ``first`` below ``mask``, or with the range up to ``last``."""

    offset: int
    length: int
    first: int
    last: int
    mask: int
    negated: bool

    @property
    def plain(self) -> bool:
        """Whether it is an equality of whole octets, which libnftables joins with its neighbours."""
        return self.first == self.last and self.mask == (1 << self.length) - 1 and not self.negated

    def statement(self) -> Json:
        """The comparison."""
        left: Json = field(self.offset, self.length)
        if self.mask != (1 << self.length) - 1:
            left = {"&": [left, self.mask]}
        right = _json(self.first) if self.first == self.last else span(_json(self.first), _json(self.last))
        return match(left, right, "!=" if self.negated else "==")


def header_match(fields: Fields, attributes: Attributes, known: tuple[int, int, int] | None = None) -> Iterator[Json]:
    """Matches for all fields given; equalities of neighbours are one match, as libnftables makes and lists them.

    ``known`` is an equality (offset, length, value) that comes before them. Raises ``Invalid`` for a range that ends
    before it begins.
    """
    pending = _Test(*known, last=known[2], mask=(1 << known[1]) - 1, negated=False) if known else None
    for name, (offset, length) in fields.items():
        if name not in attributes and f"{name}-hi" not in attributes:
            continue
        one = _test(attributes, name, offset, length)
        if pending and one.plain and pending.offset + pending.length == offset and _fits(pending, one):
            value = pending.first << length | one.first
            joined = pending.length + length
            pending = _Test(pending.offset, joined, value, value, (1 << joined) - 1, False)
            continue
        if pending:
            yield pending.statement()
        pending = one if one.plain else None
        if not pending:
            yield one.statement()
    if pending:
        yield pending.statement()


def field(offset: int, length: int) -> Json:
    """Bits of the network header."""
    return {"payload": {"base": "nh", "offset": offset, "len": length}}


def _fits(pending: _Test, one: _Test) -> bool:
    return pending.length + one.length <= REGISTER


def _test(attributes: Attributes, name: str, offset: int, length: int) -> _Test:
    low, high = attributes.get(name), attributes.get(f"{name}-hi")
    given = low or high
    assert given is not None
    mask = _mask(attributes, name, length)
    first = _number(low.value) & mask if low else 0
    last = _number(high.value) if high else first
    if last < first:
        raise Invalid(f"{name} range {first} to {last} ends before it begins")
    return _Test(offset, length, first, last, mask, given.negated)


def _mask(attributes: Attributes, name: str, length: int) -> int:
    if name.endswith("-address"):
        given = attributes.get(f"{name}-mask")
        return _number(given.value) if given else (1 << length) - 1
    given = attributes.get(name.replace("addr", "mask")) if "ip" in name else None
    bits = integer(given.value) if given else length
    return (1 << length) - (1 << (length - bits))


def _number(value: str) -> int:
    if "." in value:
        return int(IPv4Address(value))
    if ":" in value:
        return int(value.replace(":", ""), 16)
    return integer(value, OPCODES)


def _json(value: int) -> Json:
    return value if value <= JSON_MAX else f"0x{value:x}"
