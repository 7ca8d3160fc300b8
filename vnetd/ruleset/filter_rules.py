"""One filter rule as nftables rules, for the link layer and for the network layer (libvirt's nwfilter, 7.5)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vnetd.model.capability import refusal
from vnetd.model.errors import Unsupported
from vnetd.model.filter import Action, Attribute, Direction, Match
from vnetd.model.filter_values import integer
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.rules import Json, Set
from vnetd.ruleset.expressions import ACCEPT, DROP, REJECT, RETURN, concat, jump, match, meta, span
from vnetd.ruleset.filter_bound import Bound
from vnetd.ruleset.filter_flows import REQUESTS, Side, noting
from vnetd.ruleset.filter_lookups import Lookup
from vnetd.ruleset.filter_state import STATES, way
from vnetd.ruleset.filter_tests import Tests, address, operands, tests
from vnetd.ruleset.filter_uses import Statements, Uses, digest

CONNECTIONS = 65_536
"""Sources of connections that one limit can count."""


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
    _refuse_odd_stp(bound)
    swap = rule.direction is Direction.INOUT and not towards_guest
    for found in _tests(bound, towards_guest, chain_type, swap, (), uses):
        if verdict == RETURN and (found.either or found.neither):
            raise Unsupported(
                f"filter {bound.placed.origin}: return is not possible in a rule of chain {bound.placed.chain} "
                "that looks at gratuitous"
            )
        yield from _with_verdict(found, [(verdict,)], towards_guest, uses)


def _refuse_odd_stp(bound: Bound) -> None:
    rule = bound.placed.rule
    swapped_source = rule.direction is Direction.INOUT and rule.match and "srcmacaddr" in rule.match.values
    if swapped_source and rule.match and rule.match.protocol == "stp":
        raise Unsupported(f"filter {bound.placed.origin}: an inout rule for <stp> cannot have srcmacaddr")


def _link_verdict(action: Action, in_root: bool, accepted: Json) -> Json | None:
    if action in {Action.DROP, Action.REJECT}:
        return DROP
    if action is Action.CONTINUE:
        return None
    return RETURN if action is Action.RETURN and not in_root else accepted


def stateful(bound: Bound) -> bool:
    """Whether a rule of the network layer depends on the state of connections."""
    rule = bound.placed.rule
    assert rule.match is not None
    states, one_way = _states(rule.match), rule.direction is not Direction.INOUT
    implied = rule.action is Action.ACCEPT and one_way and "state" not in rule.match.values
    limited = "connlimit-above" in rule.match.values
    return rule.statematch and rule.action is not Action.CONTINUE and (bool(states) or (implied and not limited))


def names_states(bound: Bound) -> bool:
    """Whether a rule asks for states by name."""
    rule = bound.placed.rule
    return bool(rule.match and rule.statematch and _states(rule.match))


@dataclass(frozen=True, slots=True)
class NetworkSide:
    """Where rules of the network layer go. ``accepted`` is what acceptance leads to."""

    side: Side
    features: BridgeFeatures
    accepted: Json


def network_entry(side: Side, features: BridgeFeatures, rules: list[Bound], uses: Uses) -> NetworkSide:
    """Acceptance remembers connections if any rule of the filter depends on them."""
    if not any(map(stateful, rules)):
        return NetworkSide(side, features, ACCEPT)
    note = noting(side, uses, note_answers=any(map(names_states, rules)))
    return NetworkSide(side, features, goto(uses.chain("note", side.towards_guest, note)))


def network_layer(bound: Bound, where: NetworkSide, uses: Uses) -> Iterator[Statements]:
    """A rule that libvirt gives to ip(6)tables. Unless told otherwise an accepting one lets replies pass too."""
    rule, towards_guest = bound.placed.rule, where.side.towards_guest
    assert rule.match is not None
    _refuse_unrealised(bound, where.features)
    verdict = _network_verdict(bound, where, uses)
    swap = towards_guest is (rule.direction is Direction.OUT)
    if verdict is None or not _holds(bound, towards_guest, swap, uses):
        return
    ending = _ending(bound, where, swap, verdict, uses)
    hides = ("srcmacaddr",) if swap else ()
    for found in _tests(bound, towards_guest, None, swap, hides, uses):
        yield from _with_verdict(found, ending, towards_guest, uses)


def _network_verdict(bound: Bound, where: NetworkSide, uses: Uses) -> Json | None:
    action = bound.placed.rule.action
    if action is Action.CONTINUE:
        return None
    if action is Action.REJECT:
        if where.features.reject and not where.side.towards_guest:
            return REJECT
        side = "towards a guest reject" if where.features.reject else "reject"
        uses.warn(f"filter {bound.placed.origin}: {side} is drop: the bridge cannot answer there")
    return DROP if action in {Action.DROP, Action.REJECT} else where.accepted


def _holds(bound: Bound, towards_guest: bool, swap: bool, uses: Uses) -> bool:
    """Whether a rule says anything about packets of that direction."""
    rule = bound.placed.rule
    assert rule.match is not None
    values = rule.match.values
    if "type" in values and rule.direction is Direction.INOUT:
        uses.warn(f"filter {bound.placed.origin}: an inout rule with an ICMP type has no effect")
        return False
    as_written = rule.direction is Direction.INOUT or (rule.direction is Direction.IN) is towards_guest
    named = rule.statematch and "state" in values
    if not as_written and ("type" in values or named):  # the answer is another type, and states are said one way
        return False
    conditions = set(values) - {"comment", "state"}
    return not (swap and ("connlimit-above" in values or conditions == {"srcmacaddr"}))


def _ending(bound: Bound, where: NetworkSide, swap: bool, verdict: Json, uses: Uses) -> list[Statements]:
    """What follows the matches: a verdict, or rules that ask for the connection before they give it."""
    rule, side = bound.placed.rule, where.side
    assert rule.match is not None
    number, states = rule.match.spec.number, _states(rule.match)
    if "connlimit-above" in rule.match.values:
        return [(_over_limit(bound, side, uses), verdict)]
    if not rule.statematch:
        return [(verdict,)]
    state = way(where.features)
    if states is not None:
        try:
            return state.states(side, number, states, verdict, uses) if states else []
        except Unsupported as error:
            raise Unsupported(f"filter {bound.placed.origin}: {error}") from None
    if "state" in rule.match.values or rule.action is not Action.ACCEPT or rule.direction is Direction.INOUT:
        return [(verdict,)]
    if swap:
        return state.answers(side, number, verdict, uses)
    kind = rule.match.values.get("type")
    if kind is None:
        return state.originals(side, number, verdict, uses)
    answering = state.answers(side, number, verdict, uses)
    if kind.negated or kind.value.startswith("$"):
        return [*answering, *state.originals(side, number, verdict, uses)]
    # An answer is accepted, where a rule accepts its type, after the question went the other way.
    return answering if integer(kind.value) in REQUESTS[side.version].values() else [(verdict,)]


def _states(match_: Match) -> frozenset[str] | None:
    """The states of which one is asked for, ``None`` if that is no condition."""
    given = match_.values.get("state")
    if given is None or given.value == "NONE":
        return None
    words = frozenset(given.value.split(","))
    return STATES - words if given.negated else words


def _refuse_unrealised(bound: Bound, features: BridgeFeatures) -> None:
    match_ = bound.placed.rule.match
    values = match_.values if match_ else {}
    where = f"filter {bound.placed.origin}: attribute"
    for name in ("ipset", "ipsetflags"):
        if name in values:
            raise Unsupported(f"{where} {name} of <{match_ and match_.protocol}>: nftables cannot use kernel ip sets")
    if "connlimit-above" in values and not features.tracking:
        raise refusal(f"{where} connlimit-above", "nft-bridge-conntrack", features.untracked)
    for name in ("state", "connlimit-above", "option", "flags"):
        if name in values and values[name].value.startswith("$"):
            raise Unsupported(f"{where} {name} cannot be a variable")


def _over_limit(bound: Bound, side: Side, uses: Uses) -> Json:
    """Whether the packet's source has more than so many connections of those the rule is about."""
    match_ = bound.placed.rule.match
    assert match_ is not None
    given = match_.values["connlimit-above"]
    name = f"limit_{digest((bound.placed, side))}"
    where = Set("bridge", name, ("ifname", f"ipv{side.version}_addr"), flags=("dynamic",), size=CONNECTIONS)
    key = concat(side.interface, address(side.version, "saddr").expression)
    count: Json = {"ct count": {"val": integer(given.value), **({} if given.negated else {"inv": True})}}
    return {"set": {"op": "add", "elem": key, "set": uses.set(where), "stmt": [count]}}


def goto(chain: str) -> Json:
    """Go on in ``chain`` and do not come back."""
    return {"goto": {"target": chain}}


def _with_verdict(found: Tests, ending: list[Statements], towards_guest: bool, uses: Uses) -> Iterator[Statements]:
    """Rules for all alternatives; what cannot be said in one rule is a chain entered by it."""
    if not ending:
        return
    if found.neither:
        ending = [*((*one, RETURN) for one in found.neither), *ending]
    if found.either:
        ending = [(*one, *rest) for one in found.either for rest in ending]
    if len(ending) > 1 or len(ending[0]) > 1:  # one rule might name a protocol twice, which is not listed as written
        ending = [(jump(uses.chain("if", towards_guest, ending)),)]
    for matches in found.alternatives:
        yield (*matches, *ending[0])


def _tests(
    bound: Bound, towards_guest: bool, chain_type: int | None, swap: bool, hides: tuple[str, ...], uses: Uses
) -> Iterator[Tests]:
    """What a rule asks for: once, unless variables had to be spelled out."""
    match_ = bound.placed.rule.match
    if match_ is None:
        yield Tests([[]])
        return
    for constants in bound.alternatives():
        looked_up = [one for one in bound.lookups if one.attributes[0] not in hides]
        named = {name: match_.values[name] for one in looked_up for name in one.attributes}
        spelled = {name: one for name, one in {**bound.fixed, **constants}.items() if name not in named}
        attributes = _visible(spelled, swap, hides)
        every = {**attributes, **_visible(named, swap, ())}
        found = tests(match_.spec, attributes, chain_type, any("port" in name for name in named))
        lookups = [_lookup(one, every, bound, towards_guest, swap, uses) for one in looked_up]
        alternatives = [_apart(_joined(one, lookups)) for one in found.alternatives]
        yield Tests(alternatives, found.either, found.neither)


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
    where = body["left"].get("payload", {})
    alone = where.get("field") == "dscp" or where.get("protocol") == "vlan"
    return bool(body["op"] == "!=" and where and not alone and not isinstance(body["right"], dict))


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
    names = (field.name for field in one.fields)
    fields = [where[swapped(name) if swap else name].expression for name in names]
    key = concat(interface(towards_guest), *fields)
    return match(key, uses.set(one.set), "!=" if one.negated else "==")


def _visible(attributes: Mapping[str, Attribute], swap: bool, hides: tuple[str, ...]) -> dict[str, Attribute]:
    return {swapped(name) if swap else name: one for name, one in attributes.items() if name not in hides}


def swapped(name: str) -> str:
    """The attribute of the other end."""
    for one, other in (("src", "dst"), ("dst", "src")):
        for stem in ("", "arp"):
            if name.startswith(stem + one):
                return stem + other + name[len(stem + one) :]
    return name
