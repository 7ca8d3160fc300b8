"""One filter rule as nftables rules, for the link layer and for the network layer (libvirt's nwfilter, 7.5)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vnetd.model.errors import Unsupported
from vnetd.model.filter import Action, Attribute, Direction
from vnetd.model.filter_values import integer
from vnetd.plan.rules import Json, Set
from vnetd.ruleset.expressions import ACCEPT, DROP, RETURN, concat, match, meta, span
from vnetd.ruleset.filter_bound import Bound, Lookup
from vnetd.ruleset.filter_flows import OTHER, REPLY_TYPES, flow_set, flows, known, remember
from vnetd.ruleset.filter_tests import operands, tests

Statements = tuple[Json, ...]
NOT_YET = ("connlimit-above", "state", "ipset", "ipsetflags", "option", "flags")


@dataclass(slots=True)
class Uses:
    """What the rules built so far rely on, and what is to be said about them."""

    sets: dict[str, Set] = field(default_factory=dict)
    requests: set[tuple[int, int, Direction]] = field(default_factory=set)
    warnings: dict[str, None] = field(default_factory=dict)

    def set(self, one: Set) -> None:
        """A rule names that set."""
        self.sets[one.name] = one

    def warn(self, text: str) -> None:
        """Say something, once."""
        self.warnings[text] = None


def interface(towards_guest: bool) -> Json:
    """The guest's device, as the hook of that direction knows it."""
    return meta("oifname" if towards_guest else "iifname")


def link_layer(
    bound: Bound, towards_guest: bool, chain_type: int | None, in_root: bool, accepted: Json, uses: Uses
) -> Iterator[Statements]:
    """A link-layer rule. ``accepted`` is what acceptance leads to, which in the root chain is return as well."""
    rule = bound.placed.rule
    verdict = _link_verdict(rule.action, in_root, accepted)
    if rule.action is Action.REJECT:
        uses.warn(f"filter {bound.placed.origin}: reject of link-layer rules is drop")
    if verdict is None:
        return
    swap = rule.direction is Direction.INOUT and not towards_guest
    for matches in _matches(bound, towards_guest, chain_type, swap, (), uses):
        yield (*matches, verdict)


def _link_verdict(action: Action, in_root: bool, accepted: Json) -> Json | None:
    if action in {Action.DROP, Action.REJECT}:
        return DROP
    if action is Action.CONTINUE:
        return None
    return RETURN if action is Action.RETURN and not in_root else accepted


def network_layer(bound: Bound, towards_guest: bool, uses: Uses) -> Iterator[Statements]:
    """A rule that libvirt gives to ip(6)tables. Unless told otherwise an accepting one lets replies pass too."""
    rule = bound.placed.rule
    assert rule.match is not None
    _refuse_unrealised(bound)
    verdict = {Action.DROP: DROP, Action.REJECT: DROP, Action.CONTINUE: None}.get(rule.action, ACCEPT)
    if rule.action is Action.REJECT:
        uses.warn(f"filter {bound.placed.origin}: reject is drop in the bridge family")
    swap = towards_guest is (rule.direction is Direction.OUT)
    if "type" in rule.match.values:
        if rule.direction is Direction.INOUT:
            uses.warn(f"filter {bound.placed.origin}: an inout rule with an ICMP type has no effect")
            return
        if swap:  # the answer is another type: it has a rule of its own
            return
    if swap and set(rule.match.values) - {"comment"} == {"srcmacaddr"}:
        return
    if verdict is None:
        return
    hides = ("srcmacaddr",) if swap else ()
    for condition in _state(bound, towards_guest, swap, uses):
        for matches in _matches(bound, towards_guest, None, swap, hides, uses, condition.names_ports):
            yield (*matches, *condition.statements, verdict)


def _refuse_unrealised(bound: Bound) -> None:
    match_ = bound.placed.rule.match
    for name in NOT_YET if match_ else ():
        if match_ and name in match_.values:
            raise Unsupported(
                f"filter {bound.placed.origin}: attribute {name} of <{match_.protocol}> is not supported yet"
            )


@dataclass(frozen=True, slots=True)
class Condition:
    """What a rule asks of, or notes about, the connection; naming ports it implies the protocol."""

    statements: Sequence[Json] = ()
    names_ports: bool = False


def _state(bound: Bound, towards_guest: bool, swap: bool, uses: Uses) -> Sequence[Condition]:
    """Alternatives of what an accepting rule asks of, or notes about, the connection."""
    rule, device = bound.placed.rule, interface(towards_guest)
    assert rule.match is not None
    spec = rule.match.spec
    if rule.action is not Action.ACCEPT or not rule.statematch or rule.direction is Direction.INOUT:
        return (Condition(),)
    kind = rule.match.values.get("type")
    if kind is not None:
        return (_answer(bound, kind, device, uses),)
    for flow in flows(spec):
        uses.set(flow_set(flow, spec.version, rule.direction))
    return [
        Condition(
            known(flow, spec.version, rule.direction, device)
            if swap
            else [remember(flow, spec.version, rule.direction, device)],
            names_ports=bool(flow.header),
        )
        for flow in flows(spec)
    ]


def _answer(bound: Bound, kind: Attribute, device: Json, uses: Uses) -> Condition:
    """A type that answers another is accepted only after that one went the other way; others need no state."""
    rule = bound.placed.rule
    assert rule.match is not None
    version = rule.match.spec.version
    if kind.negated or kind.value.startswith("$"):
        return Condition()
    request = REPLY_TYPES[version].get(integer(kind.value))
    if request is None:
        return Condition()
    other = Direction.OUT if rule.direction is Direction.IN else Direction.IN
    uses.set(flow_set(OTHER, version, other))
    uses.requests.add((version, request, other))
    return Condition(known(OTHER, version, other, device, refresh=False))


def _matches(
    bound: Bound,
    towards_guest: bool,
    chain_type: int | None,
    swap: bool,
    hides: tuple[str, ...],
    uses: Uses,
    header_tested: bool = False,
) -> Iterator[list[Json]]:
    """All alternatives of a rule's matches: one, unless variables had to be spelled out."""
    match_ = bound.placed.rule.match
    if match_ is None:
        yield []
        return
    for constants in bound.alternatives():
        attributes = _visible({**bound.fixed, **constants}, swap, hides)
        looked_up = [one for one in bound.lookups if one.attributes[0] not in hides]
        named = {name: match_.values[name] for one in looked_up for name in one.attributes}
        every = {**attributes, **_visible(named, swap, ())}
        ports = header_tested or any("port" in name for name in named)
        found = tests(match_.spec, attributes, chain_type, ports)
        lookups = [_lookup(one, every, bound, towards_guest, swap, uses) for one in looked_up]
        yield _apart(_joined(found, lookups))


def _apart(matches: list[Json]) -> list[Json]:
    """Write several negated comparisons as ranges of one value, which libnftables leaves alone.

    It makes one comparison of neighbouring fields (seen with 1.0.6), also of unequal ones: "neither this nor that"
    would become "not both of them".
    """
    negated = [one for one in matches if _is_unequal(one)]
    if len(negated) < 2:
        return matches
    return [_as_range(one) if _is_unequal(one) else one for one in matches]


def _is_unequal(statement: Json) -> bool:
    body = statement["match"]
    field = body["left"].get("payload", {}).get("field")
    return body["op"] == "!=" and "payload" in body["left"] and field != "dscp" and not isinstance(body["right"], dict)


def _as_range(statement: Json) -> Json:
    body = statement["match"]
    return match(body["left"], span(body["right"], body["right"]), "!=")


def _joined(matches: list[Json], lookups: list[Json]) -> list[Json]:
    """Lookups before the Ethernet header's matches, after all others."""
    at = next((i for i, one in enumerate(matches) if _is_ethernet(one)), len(matches))
    return [*matches[:at], *lookups, *matches[at:]]


def _is_ethernet(statement: Json) -> bool:
    left = statement["match"]["left"]
    left = left["&"][0] if "&" in left else left
    return bool(left.get("payload", {}).get("protocol") == "ether")


def _lookup(
    one: Lookup, attributes: Mapping[str, Attribute], bound: Bound, towards_guest: bool, swap: bool, uses: Uses
) -> Json:
    assert bound.placed.rule.match is not None
    where = operands(bound.placed.rule.match.spec, attributes)
    fields = [where[swapped(name) if swap else name].expression for name in one.attributes]
    uses.set(one.set)
    return match(concat(interface(towards_guest), *fields), f"@{one.set.name}", "!=" if one.negated else "==")


def _visible(attributes: Mapping[str, Attribute], swap: bool, hides: tuple[str, ...]) -> dict[str, Attribute]:
    return {swapped(name) if swap else name: one for name, one in attributes.items() if name not in hides}


def swapped(name: str) -> str:
    """The attribute of the other end."""
    for one, other in (("src", "dst"), ("dst", "src")):
        for stem in ("", "arp"):
            if name.startswith(stem + one):
                return stem + other + name[len(stem + one) :]
    return name
