"""Values of variables as elements of sets keyed by the guest's device, where a set can say what the rule says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import combinations

from vnetd.model.errors import Invalid
from vnetd.model.filter import Match
from vnetd.model.filter_values import integer
from vnetd.plan.rules import Set
from vnetd.ruleset.filter_resolve import Placed
from vnetd.ruleset.filter_tests import operands, partner
from vnetd.ruleset.filter_uses import digest
from vnetd.ruleset.filter_variables import Group, Values

MAX_FIELDS = 4
"""Fields beside the interface in a set: libnftables before 1.0.7 loses a sixth component when it lists."""
MAX_BOXES = 256
"""Rows of several ranges each that are compared with each other."""
Span = tuple[int, int]
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One component of a key: an attribute with that of its mask or range's end ("": none) and its type in a set."""

    name: str
    end: str
    type: str

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes it stands for."""
        return (self.name, self.end) if self.end else (self.name,)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Fields whose values are looked up together, with the interface, in a set. ``fixed`` are constants in them."""

    fields: tuple[Field, ...]
    fixed: tuple[tuple[str, str], ...]
    negated: bool
    set: Set
    plain: bool = False
    """Whether each row of values goes into the set as it is."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """All attributes that are dealt with by looking up."""
        return tuple(name for field in self.fields for name in field.names)

    def rows(self, origin: str, values: Values) -> Sequence[Row] | None:
        """What goes into the set beside the interface, ``None`` if these values cannot be in one set: they overlap.
        Of negated values what they have in common: each makes a rule, so what one of them is not is meant.

        Raises ``Invalid`` for a range that ends before it begins.
        """
        if self.plain:
            return values.rows
        try:
            boxes = [self._box(dict(zip(values.group.attributes, row, strict=True))) for row in values.rows]
        except ValueError as error:
            raise Invalid(f"filter {origin}: {error}") from None
        if self.negated:
            boxes = _common(boxes)
        ranging = [place for place, field in enumerate(self.fields) if field.end]
        if len(ranging) == 1:
            boxes = _merged(boxes, ranging[0])
        elif ranging and (len(boxes) > MAX_BOXES or any(map(_overlap, combinations(dict.fromkeys(boxes), 2)))):
            return None
        return [
            tuple(_text(field, part) for field, part in zip(self.fields, box, strict=True))
            for box in dict.fromkeys(boxes)
        ]

    def _box(self, row: Mapping[str, str]) -> tuple[Span | str, ...]:
        known = {**dict(self.fixed), **row}
        return tuple(_span(field, known[field.name], known.get(field.end, "")) for field in self.fields)


def lookup(placed: Placed, group: Group) -> Lookup | None:
    """The set for a group of variables, ``None`` where a set cannot say it."""
    match = placed.rule.match
    assert match is not None
    fields = _fields(match, group)
    negated = any(match.values[name].negated for name in group.attributes)
    if fields is None or len(fields) > MAX_FIELDS or (negated and len(fields) > 1):
        return None
    if match.spec.layer == 3 and "srcmacaddr" in group.attributes and len(fields) > 1:
        return None  # it is left out in one direction
    sources = [(str(one), placed.scope.get(one.name)) for one in group.variables]
    fixed = tuple(
        (name, match.values[name].value) for one in fields for name in one.names if name not in group.attributes
    )
    ranges = tuple(place for place, one in enumerate(fields) if one.end)
    shape = [(one.type, [name in group.attributes for name in one.names]) for one in fields]
    name = f"values_{digest((shape, fixed and [value for _, value in fixed], sources))}"
    types = (one.type for one in fields)
    kind = Set("bridge", name, ("ifname", *types), flags=("interval",) if ranges else ())
    plain = not (fixed or negated or ranges) and all(one.type != "inet_service" for one in fields)
    return Lookup(fields, fixed, negated, kind, plain)


def _fields(match: Match, group: Group) -> tuple[Field, ...] | None:
    possible = operands(match.spec, match.values)
    found: dict[str, Field] = {}
    for name in group.attributes:
        base = next((one for one in match.values if partner(one) == name), name)
        end = partner(base) if partner(base) in match.values else ""
        if base not in possible or (end and possible[base].type == "ether_addr"):
            return None
        foreign = (one for one in (base, end) if one and one not in group.attributes)
        if any(match.values[one].value.startswith("$") for one in foreign):
            return None
        found[base] = Field(base, end, possible[base].type)
    return tuple(found.values())


def _span(field: Field, value: str, end: str) -> Span | str:
    """A component's value: text as it is compared, or first and last number of a range."""
    if field.type == "inet_service":
        first, last = integer(value), integer(end) if end else integer(value)
        return _ordered(first, last, value, end) if end else str(first)
    if not end:
        return value
    if "." in end or ":" in end:
        return _ordered(int(ip_address(value)), int(ip_address(end)), value, end)
    network = ip_network(f"{value}/{end}", strict=False)
    return int(network.network_address), int(network.broadcast_address)


def _ordered(first: int, last: int, value: str, end: str) -> Span:
    if last < first:
        raise ValueError(f"range {value} to {end} ends before it begins")
    return first, last


def _common(boxes: Sequence[tuple[Span | str, ...]]) -> list[tuple[Span | str, ...]]:
    """What boxes of one component, which negated ones are, have in common: one box or none."""
    parts = [part for (part,) in dict.fromkeys(boxes)]
    spans = [part for part in parts if not isinstance(part, str)]
    if not spans:
        return [(part,) for part in parts] if len(parts) == 1 else []
    first, last = max(first for first, _ in spans), min(last for _, last in spans)
    return [((first, last),)] if first <= last else []


def _merged(boxes: Iterable[tuple[Span | str, ...]], place: int) -> list[tuple[Span | str, ...]]:
    """Boxes that differ in one range only, as few as possible."""
    by_rest: dict[tuple[Span | str, ...], list[Span]] = {}
    for box in boxes:
        span = box[place]
        assert not isinstance(span, str)
        by_rest.setdefault((*box[:place], *box[place + 1 :]), []).append(span)
    return [(*rest[:place], span, *rest[place:]) for rest, spans in by_rest.items() for span in _joined(spans)]


def _joined(spans: list[Span]) -> Iterable[Span]:
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _overlap(pair: tuple[tuple[Span | str, ...], tuple[Span | str, ...]]) -> bool:
    """Whether some packet is in both boxes."""
    for one, other in zip(*pair, strict=True):
        apart = (
            one != other if isinstance(one, str) or isinstance(other, str) else one[1] < other[0] or other[1] < one[0]
        )
        if apart:
            return False
    return True


def _text(field: Field, part: Span | str) -> str:
    """A component as an element has it."""
    if isinstance(part, str):
        return part
    first, last = part
    if field.type == "inet_service":
        return str(first) if first == last else f"{first}-{last}"
    address = IPv4Address if field.type == "ipv4_addr" else IPv6Address
    if first == last:
        return str(address(first))
    bits = (first ^ last).bit_length()
    if first & ((1 << bits) - 1) or ~last & ((1 << bits) - 1):
        return f"{address(first)}-{address(last)}"
    return f"{address(first)}/{(32 if address is IPv4Address else 128) - bits}"
