"""What happens to a frame, decided from filters as they are written and from nothing of the compiler.

A second reading of libvirt's nwfilter page (instantiation and traversal) beside ``vnetd.ruleset``: slow and plain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import product

from support.frames import ARP, BPDU, BRIDGE_GROUP, ICMP, ICMPV6, IPV4, IPV6, LLC, RARP, VLAN, WITH_PORTS, Frame

from vnetd.model.filter import Attribute, Filter, Reference, Rule
from vnetd.model.filter_values import ETHERTYPES, OPCODES, PROTOCOL_NUMBERS, parse_variable

Values = Mapping[str, Sequence[str]]
CHAIN_TYPES = {"ipv4": IPV4, "ipv6": IPV6, "arp": ARP, "rarp": RARP, "vlan": VLAN}
LINK = {"mac", "vlan", "stp", "arp", "rarp", "ip", "ipv6"}
NUMBERS = {**PROTOCOL_NUMBERS, "icmpv6": 58}
QUESTIONS = {(ICMP, 0): 8, (ICMP, 14): 13, (ICMP, 16): 15, (ICMP, 18): 17, (ICMPV6, 129): 128}
"""ICMP types that answer, and what they answer."""
SYN_ACK = 0x12
UNTRACKED = {*range(130, 137), 143}
"""ICMPv6 types of neighbour and listener discovery, which Linux leaves out of tracking."""
FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63, "NONE": 0}


@dataclass(frozen=True)
class Written:
    """A rule where it is written: in a chain, with the values that references give."""

    rule: Rule
    chain: str
    chain_priority: int
    scope: Values


@dataclass
class Judge:
    """A guest's port with a filter. ``out`` in methods: the frame is from the guest. ``tracked``: TCP is known."""

    filters: Mapping[str, Filter]
    name: str
    parameters: Values
    tracked: bool = False
    began: dict[bool, set[object]] = field(default_factory=lambda: {True: set(), False: set()})
    answered: set[object] = field(default_factory=set)

    def passes(self, frame: Frame, out: bool) -> bool:
        """Whether the frame gets through; what does is remembered."""
        rules = sorted(self._written(self.name, {}), key=lambda one: (one.chain != "root", one.rule.priority))
        if not self._link(rules, frame, out):
            return False
        if frame.kind in {IPV4, IPV6}:
            if not self._network(rules, frame, out):
                return False
            self._remember(frame, out)
        return True

    def _written(self, name: str, scope: Values) -> Iterator[Written]:
        one = self.filters[name]
        for entry in one.entries:
            if isinstance(entry, Reference):
                yield from self._written(entry.filter, {**entry.parameters, **scope})
            else:
                yield Written(entry, one.chain, one.priority, scope)

    # The link layer

    def _link(self, rules: list[Written], frame: Frame, out: bool) -> bool:
        mine = [
            one for one in rules if _layer(one.rule) == 2 and one.rule.direction in {"inout", "out" if out else "in"}
        ]
        chains: dict[str, int] = {}
        for one in mine:
            if one.chain != "root":
                chains.setdefault(one.chain, one.chain_priority)
        waiting = sorted(chains.items(), key=lambda item: item[1])
        for one in [one for one in mine if one.chain == "root"]:
            while waiting and waiting[0][1] <= one.rule.priority:
                verdict = self._chain(mine, waiting.pop(0)[0], frame, out)
                if verdict is not None:
                    return verdict
            if self._says(one, frame, out) and one.rule.action != "continue":
                return one.rule.action in {"accept", "return"}
        for chain, _ in waiting:
            verdict = self._chain(mine, chain, frame, out)
            if verdict is not None:
                return verdict
        return True

    def _chain(self, rules: list[Written], chain: str, frame: Frame, out: bool) -> bool | None:
        """The verdict of a chain of its own, ``None`` if it has none."""
        kind = next((one for one in ("mac", "vlan", "stp", "ipv4", "ipv6", "arp", "rarp") if chain.startswith(one)), "")
        if kind in CHAIN_TYPES and frame.ethertype != CHAIN_TYPES[kind]:
            return None
        if kind == "stp" and frame.destination != BRIDGE_GROUP:
            return None
        for one in rules:
            if one.chain == chain and self._says(one, frame, out) and one.rule.action != "continue":
                return None if one.rule.action == "return" else one.rule.action == "accept"
        return None

    def _says(self, one: Written, frame: Frame, out: bool) -> bool:
        swap = one.rule.direction == "inout" and out
        return any(matches(one.rule, values, frame, swap) for values in self._expanded(one))

    # The network layer

    def _network(self, rules: list[Written], frame: Frame, out: bool) -> bool:
        version = 4 if frame.kind == IPV4 else 6
        for one in rules:
            mine = _layer(one.rule) == 3 and _version(one.rule) == version and one.rule.action != "continue"
            if mine and self._holds(one, frame, out):
                return one.rule.action in {"accept", "return"}
        return True

    def _holds(self, one: Written, frame: Frame, out: bool) -> bool:
        rule = one.rule
        assert rule.match is not None
        given = rule.match.values
        as_written = rule.direction == ("out" if out else "in")
        swap = not as_written and not (rule.direction == "inout" and not out)
        names = set(given) - {"comment", "state"}
        if "type" in given and not as_written:
            return False
        if rule.statematch and "state" in given and rule.direction != "inout" and not as_written:
            return False
        if swap and names == {"srcmacaddr"}:
            return False
        if not any(matches(rule, values, frame, swap) for values in self._expanded(one)):
            return False
        return self._in_state(rule, frame, out, as_written)

    def _in_state(self, rule: Rule, frame: Frame, out: bool, as_written: bool) -> bool:
        assert rule.match is not None
        if not rule.statematch:
            return True
        state, given = self.state(frame, out), rule.match.values.get("state")
        if given:
            return given.value == "NONE" or _named(state, frame) in _asked(given)
        if rule.action != "accept" or rule.direction == "inout":
            return True
        if not as_written:
            return state == "reply"
        if "type" in rule.match.values:
            return state != "stray"
        return state in {"new", "answered", "none"}

    def state(self, frame: Frame, out: bool) -> str:
        """``reply`` to what went the other way, ``answered``, ``new``; ``stray``: an answer to nothing; ``none``."""
        own, question = _flow(frame)
        if question in self.began[not out]:
            return "reply"
        if (frame.get("protocol"), frame.get("type")) in QUESTIONS:
            return "stray"
        if self.tracked and frame.get("flags") == SYN_ACK:
            return "stray"
        if own is None:
            return "none"
        return "answered" if (out, own) in self.answered else "new"

    def _remember(self, frame: Frame, out: bool) -> None:
        own, question = _flow(frame)
        if question in self.began[not out]:
            self.answered.add((not out, question))
        elif own is not None:
            self.began[out].add(own)

    # Variables

    def _expanded(self, one: Written) -> Iterator[dict[str, tuple[str, bool]]]:
        """The rule's attributes with each combination of its variables' values."""
        attributes = one.rule.match.attributes if one.rule.match else ()
        by_iterator: dict[object, list[tuple[Attribute, list[str]]]] = {}
        for attribute in attributes:
            variable = parse_variable(attribute.value)
            if variable:
                values = list(self.parameters.get(variable.name) or one.scope[variable.name])
                if variable.index is not None:
                    values = [values[variable.index]]
                key = variable.iterator if variable.index is None else attribute.name
                by_iterator.setdefault(key, []).append((attribute, values))
        plain = {a.name: (a.value, a.negated) for a in attributes if not a.value.startswith("$")}
        rows = [list(zip(*(values for _, values in group), strict=True)) for group in by_iterator.values()]
        for chosen in product(*rows):
            found = dict(plain)
            for group, row in zip(by_iterator.values(), chosen, strict=True):
                found |= {a.name: (value, a.negated) for (a, _), value in zip(group, row, strict=True)}
            yield found


def _asked(given: Attribute) -> set[str]:
    words = set(given.value.split(","))
    return {"NEW", "ESTABLISHED", "RELATED", "INVALID"} - words if given.negated else words


def _named(state: str, frame: Frame) -> str:
    """The language's word for a state, "" if there is none. Made-up ICMP errors are about nothing."""
    if state == "none" and frame.get("protocol") == ICMPV6 and frame.get("type") in UNTRACKED:
        return ""
    return {"new": "NEW", "answered": "ESTABLISHED", "reply": "ESTABLISHED"}.get(state, "INVALID")


def _layer(rule: Rule) -> int:
    return 2 if rule.match is None or rule.match.protocol in LINK else 3


def _version(rule: Rule) -> int:
    name = rule.match.protocol if rule.match else ""
    return 6 if name.endswith("-ipv6") or name == "icmpv6" else 4


def _flow(frame: Frame) -> tuple[object, object]:
    """What tells a packet's connection, and that of the packet it would answer; ``None``: it has none."""
    protocol, ends = frame.get("protocol"), (frame.get("source"), frame.get("destination"))
    if protocol in WITH_PORTS:
        ports = (frame.get("sport"), frame.get("dport"))
        return (protocol, ends, ports), (protocol, ends[::-1], ports[::-1])
    if protocol == (ICMP if frame.kind == IPV4 else ICMPV6):
        kind = frame.get("type")
        if (protocol, kind) in QUESTIONS:
            return None, (protocol, ends[::-1], QUESTIONS[protocol, kind])
        asks = (protocol, kind) in {(one, asked) for (one, _), asked in QUESTIONS.items()}
        return ((protocol, ends, kind) if asks else None), ()
    return (protocol, ends), (protocol, ends[::-1])


# One rule and one frame


def matches(rule: Rule, values: Mapping[str, tuple[str, bool]], frame: Frame, swap: bool) -> bool:
    """Whether the frame is as the rule's element says; ``swap``: with source and destination exchanged."""
    if rule.match is None:
        return True
    name = rule.match.protocol
    layer3 = _layer(rule) == 3
    if swap:
        values = {_swapped(one): value for one, value in values.items() if not (layer3 and one == "srcmacaddr")}
    if not _is_of(name, frame, values):
        return False
    tests = [*_addresses(values, frame), *_numbers(name, values, frame)]
    return all(_signed(test, negated) for test, negated in tests)


def _signed(test: bool | None, negated: bool) -> bool:
    """A comparison with a field that is not there never holds, negated or not."""
    return test is not None and test is not negated


def _swapped(name: str) -> str:
    if "src" in name:
        return name.replace("src", "dst")
    return name.replace("dst", "src")


def _is_of(name: str, frame: Frame, values: Mapping[str, tuple[str, bool]]) -> bool:
    types = {"vlan": VLAN, "arp": ARP, "rarp": RARP, "ip": IPV4, "ipv6": IPV6}
    if name == "mac":
        return True
    if name == "stp":
        return frame.kind == LLC and frame.vlan is None and frame.destination == BRIDGE_GROUP
    if name in types:
        ports = [one for one in values if "port" in one and one != "protocol"]
        return frame.ethertype == types[name] and (not ports or frame.get("sport") is not None)
    base = name.removesuffix("-ipv6")
    return base == "all" or frame.get("protocol") == NUMBERS[base]


def _addresses(values: Mapping[str, tuple[str, bool]], frame: Frame) -> Iterator[tuple[bool | None, bool]]:
    """Hardware and IP addresses, masked or in a range."""
    for side, end in (("src", "source"), ("dst", "destination")):
        for attribute, have in ((f"{side}mac", getattr(frame, end)), (f"arp{side}mac", frame.get(f"{end} mac"))):
            if f"{attribute}addr" in values:
                want, negated = values[f"{attribute}addr"]
                mask = values.get(f"{attribute}mask", ("ff:ff:ff:ff:ff:ff", False))[0]
                yield have and _octets(have) & _octets(mask) == _octets(want) & _octets(mask), negated
        for attribute in (f"{side}ip", f"arp{side}ip"):
            have = frame.get(end)
            if f"{attribute}addr" in values:
                want, negated = values[f"{attribute}addr"]
                mask = values.get(f"{attribute}mask", ("32" if "." in want else "128", False))[0]
                yield have and ip_address(have) in ip_network(f"{want}/{mask}", strict=False), negated
        if f"{side}ipfrom" in values:
            first, negated = values[f"{side}ipfrom"]
            last = values.get(f"{side}ipto", (first, False))[0]
            yield int(ip_address(first)) <= int(ip_address(frame.get(end))) <= int(ip_address(last)), negated


def _numbers(name: str, values: Mapping[str, tuple[str, bool]], frame: Frame) -> Iterator[tuple[bool | None, bool]]:
    yield from _ranges(name, values, frame)
    simple = {
        "protocolid": frame.ethertype,
        "vlanid": frame.vlan,
        "encap-protocol": frame.kind,
        "hwtype": frame.get("hwtype"),
        "protocoltype": frame.get("protocoltype"),
        "opcode": frame.get("opcode"),
        "dscp": frame.get("dscp"),
        "protocol": frame.get("protocol"),
    }
    for attribute, have in simple.items():
        if attribute in values:
            want, negated = values[attribute]
            yield have is not None and have == _number(want), negated
    if "gratuitous" in values and values["gratuitous"][0] == "true":
        yield frame.get("source") == frame.get("destination"), values["gratuitous"][1]
    if "option" in values:
        yield frame.get("option") == _number(values["option"][0]), values["option"][1]
    if "flags" in values and name.startswith("tcp"):
        mask, want = (_flags(half) for half in values["flags"][0].split("/"))
        yield frame.get("flags") & mask == want, values["flags"][1]


def _ranges(name: str, values: Mapping[str, tuple[str, bool]], frame: Frame) -> Iterator[tuple[bool | None, bool]]:
    for first, last, field_ in (
        ("srcportstart", "srcportend", "sport"),
        ("dstportstart", "dstportend", "dport"),
        *((one, f"{one}-hi", one) for one in BPDU if name == "stp" and not one.endswith("address")),
    ):
        if first in values:
            want, negated = values[first]
            high = _number(values[last][0]) if last in values else _number(want)
            yield _number(want) <= frame.get(field_) <= high, negated
    if name == "stp":
        for end in ("root", "sender"):
            if f"{end}-address" in values:
                want, negated = values[f"{end}-address"]
                mask = _octets(values.get(f"{end}-address-mask", ("ff:ff:ff:ff:ff:ff", False))[0])
                yield _octets(frame.get(f"{end}-address")) & mask == _octets(want) & mask, negated
    given = [one for one in ("type", "typeend", "code", "codeend") if one in values and name != "stp"]
    if given:
        if frame.get("type") is None or frame.get("protocol") != (ICMP if frame.kind == IPV4 else ICMPV6):
            yield None, False
            return
        inside = all(_inside(values, field_, frame.get(field_), name) for field_ in ("type", "code"))
        yield inside, values[given[0]][1]


def _inside(values: Mapping[str, tuple[str, bool]], field_: str, have: int, name: str) -> bool:
    first = values.get(field_, (None, False))[0]
    last = values.get(f"{field_}end", (None, False))[0]
    if first is None and last is None:
        return True
    low = _number(first) if first else 0
    return low <= have <= (_number(last) if last else low)


def _octets(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def _number(text: str) -> int:
    names = {**NUMBERS, **ETHERTYPES, **OPCODES}
    return names[text] if text in names else int(text, 16 if text.startswith("0x") else 10)


def _flags(words: str) -> int:
    return sum(FLAGS[word] for word in dict.fromkeys(words.split(",")) if word != "ALL") | 63 * ("ALL" in words)
