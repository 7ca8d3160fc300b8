"""Follows a made-up packet through compiled rules: which rule decides, without sending anything.

Connections are new to the rules: sets that packets fill are taken to be empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vnetd.plan.rules import Fragment, Json
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.filter_origin import origin_of
from vnetd.ruleset.probe import TRANSPORT, Probe, Undecidable, Value, number

Rule = tuple[Json, ...]
VERDICTS = ("accept", "drop", "reject", "return", "jump", "goto", "queue", "masquerade", "snat", "dnat", "redirect")
WITHOUT_EFFECT = ("set", "log", "limit", "counter", "notrack", "mangle", "quota", "last")
DEPTH = 64
_SYMBOLS: Mapping[str, int] = {
    **{name: value for value, name in names.ETHERTYPE.items()},
    "vlan": 0x8100,
    **{name: value for value, name in names.ICMP_TYPE.items()},
    **TRANSPORT,
    "ipv6-icmp": 58,
    **{"igmp": 2, "esp": 50, "ah": 51, "sctp": 132, "udplite": 136, "dccp": 33, "gre": 47},
    **{"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32},
}
_ICMPV6: Mapping[str, int] = {name: value for value, name in names.ICMPV6_TYPE.items()}
_DSCP: Mapping[str, int] = {name: value for value, name in names.DSCP.items()}


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that matched: the chain it is in, its place there, and itself."""

    chain: str
    place: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of the packet and the rules that had a say, in order; no verdict: no rule decided."""

    verdict: str
    trail: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Rules:
    """Chains by name, and sets by name with their elements: keys of texts and, in maps, what they lead to."""

    chains: Mapping[str, tuple[Rule, ...]]
    sets: Mapping[str, Mapping[tuple[str, ...], str]] = field(default_factory=dict)

    @classmethod
    def of(cls, fragment: Fragment, family: str) -> "Rules":
        """Those of one family."""
        sets: dict[str, dict[tuple[str, ...], str]] = {one.name: {} for one in fragment.sets if one.family == family}
        for element in fragment.elements:
            if element.family == family:
                sets[element.set][element.key] = element.data
        return cls({chain.name: chain.rules for chain in fragment.chains if chain.family == family}, sets)

    def trace(self, chain: str, probe: Probe) -> Outcome:
        """Follow the packet from a base chain on. Raises ``Undecidable`` naming what cannot be told."""
        return self._chain(chain, probe, (), DEPTH)

    def _chain(self, chain: str, probe: Probe, trail: tuple[Step, ...], depth: int) -> Outcome:
        if depth == 0:
            raise Undecidable("chains are nested too deep")
        for place, rule in enumerate(self.chains.get(chain, ())):
            verdict = self._rule(rule, probe)
            if verdict is None:
                continue
            kind, _, target = verdict.partition(" ")
            here = (*trail, Step(chain, place, rule))
            if kind == "return":
                return Outcome("", here if origin_of(rule) else trail)
            if kind not in {"jump", "goto"}:
                return Outcome("accept" if kind in VERDICTS[6:] else kind, here)
            below = self._chain(target, probe, here, depth - 1)
            if below.verdict or kind == "goto":
                return below
            if below.trail != here:  # what returned had its say; what only asked had none
                trail = below.trail
        return Outcome("", trail)

    def _rule(self, rule: Rule, probe: Probe) -> str | None:
        """The verdict of a rule as ``jump CHAIN`` and the like, ``None`` if it does not match or has none."""
        for statement in rule:
            kind, body = next(iter(statement.items()))
            if kind == "match":
                if not self._matches(body, probe):
                    return None
            elif kind == "vmap":
                found = self._look_up(body, probe)
                if found is None:
                    return None
                return found
            elif kind in VERDICTS:
                return f"{kind} {body['target']}" if kind in {"jump", "goto"} else kind
            elif kind not in WITHOUT_EFFECT:
                raise Undecidable(f"{kind}")
        return None

    def _look_up(self, body: Json, probe: Probe) -> str | None:
        value = probe.read(body["key"])
        if not isinstance(body["data"], str):
            raise Undecidable("a map without name")
        for key, verdict in self.sets.get(body["data"][1:], {}).items():
            if value is not None and _is_key(value, key):
                return verdict
        return None

    def _matches(self, body: Json, probe: Probe) -> bool:
        value, right = probe.read(body["left"]), body["right"]
        if value is None:
            return False
        if isinstance(right, str) and right.startswith("@"):
            equal = any(_is_key(value, key) for key in self.sets.get(right[1:], {}))
        else:
            equal = _is(value, right, _table(body["left"]), body["op"] == "in")
        return equal is not (body["op"] == "!=")


def _table(left: Json) -> Mapping[str, int]:
    match left:
        case {"payload": {"protocol": "icmpv6"}}:
            return _ICMPV6
        case {"payload": {"field": "dscp"}}:
            return _DSCP
    return _SYMBOLS


def _is(value: Value, right: Json, table: Mapping[str, int], flags: bool) -> bool:
    match right:
        case {"set": list(members)} | list(members):
            return any(_is(value, one, table, flags) for one in members)
        case {"range": [first, last]} if isinstance(value, int):
            return _number(first, table) <= value <= _number(last, table)
        case {"prefix": {"addr": str(address), "len": length}} if isinstance(value, int):
            bits = 128 if ":" in address else 32
            return value >> bits - int(length) == number(address) >> bits - int(length)
        case {"concat": parts} if isinstance(value, tuple):
            return all(_is(one, part, table, flags) for one, part in zip(value, parts, strict=True))
        case {"elem": {"val": inner}}:
            return _is(value, inner, table, flags)
        case int() | str() if isinstance(value, str):
            return value == right or (str(right).endswith("*") and value.startswith(str(right)[:-1]))
        case int() | str() if isinstance(value, int):
            return _either(value, [_number(right, table)], flags)
        case {"|": list(parts)} if isinstance(value, int):
            return _either(value, [_number(one, table) for one in parts], flags)
    raise Undecidable(f"{right}")


def _either(value: int, bits: Iterable[int], flags: bool) -> bool:
    together = 0
    for one in bits:
        together |= one
    return bool(value & together) if flags else value == together


def _is_key(value: Value, key: tuple[str, ...]) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return len(values) == len(key) and all(_is_part(one, part) for one, part in zip(values, key, strict=True))


def _is_part(value: Value, part: str) -> bool:
    if isinstance(value, str):
        return value == part
    assert isinstance(value, int)
    if "/" in part:
        address, _, length = part.partition("/")
        return _is(value, {"prefix": {"addr": address, "len": int(length)}}, {}, False)
    first, dash, last = part.partition("-")
    if dash:
        return _number(first, _SYMBOLS) <= value <= _number(last, _SYMBOLS)
    return value == _number(part, _SYMBOLS)


def _number(text: Json, table: Mapping[str, int]) -> int:
    if isinstance(text, int):
        return text
    if text in table:
        return table[text]
    try:
        return number(str(text))
    except ValueError:
        raise Undecidable(f"{text}") from None
