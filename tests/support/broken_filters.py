"""Filter documents with one mistake each, made up at random."""

from dataclasses import dataclass
from random import Random

from vnetd.model.filter_protocols import PROTOCOLS

ODD = ("☃", "'><", "-1", "$", "$A[", "$A[@1001]", "$A[@x]", "0x", "1_3", "٣", "../..", "%s", "a" * 300, "\\n", "{}")
EVERY = {"comment", "gratuitous", "ipset"}
"""Attributes that take (nearly) any text."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A document and words its refusal must have."""

    text: str
    named: tuple[str, ...]


def broken(seed: int) -> Broken:
    """A document with a mistake in one rule among good ones, each on a line of its own."""
    some = Random(seed)
    lines = [_good(some) for _ in range(some.randint(0, 3))]
    place = some.randint(0, len(lines))
    kinds = (_value, _value, _value, _attribute, _element, _word, _ports, _reference, _priority, _nested)
    line, named = some.choice(kinds)(some)
    lines.insert(place, line)
    head, named_head = ("<filter name='f'>", ())
    if some.random() < 0.1:
        head, named_head = _head(some)
        return Broken("\n".join([head, "</filter>"]), named_head)
    if some.random() < 0.05:
        whole = "\n".join([head, *lines, "</filter>"])
        return Broken(whole[: some.randint(1, len(whole) - 2)], ())
    return Broken("\n".join([head, *lines, "</filter>"]), (f"line {place + 2}", *named))


def _good(some: Random) -> str:
    name = some.choice(sorted(PROTOCOLS))
    return f"<rule action='drop' direction='out'><{name} comment='fine'/></rule>"


def _rule(content: str, attributes: str = "action='drop' direction='in'") -> str:
    return f"<rule {attributes}>{content}</rule>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;")


def _value(some: Random) -> tuple[str, tuple[str, ...]]:
    name = some.choice(sorted(PROTOCOLS))
    attribute = some.choice(sorted(set(PROTOCOLS[name].attributes) - EVERY))
    value = some.choice(ODD)
    ports = " protocol='tcp'" if name in {"ip", "ipv6"} and "port" in attribute else ""
    named = (f"<{name}", attribute, *([value] if len(value) < 20 and "'" not in value and "\\" not in value else ()))
    return _rule(f"<{name}{ports} {attribute}='{_escaped(value)}'/>"), named


def _attribute(some: Random) -> tuple[str, tuple[str, ...]]:
    name = some.choice(sorted(PROTOCOLS))
    wrong = some.choice(("ports", "srcip", "vlan", "SRCMACADDR", "priority", "x"))
    return _rule(f"<{name} {wrong}='1'/>"), (f"<{name}", wrong)


def _element(some: Random) -> tuple[str, tuple[str, ...]]:
    wrong = some.choice(("TCP", "icmp-ipv6", "dccp", "tcp-ipv4", "igmp-ipv6", "x"))
    return _rule(f"<{wrong}/>"), (wrong,)


def _word(some: Random) -> tuple[str, tuple[str, ...]]:
    name, wrong = some.choice((("action", "DROP"), ("action", "log"), ("direction", "both"), ("direction", "OUT")))
    other = {"action": "direction='in'", "direction": "action='drop'"}[name]
    return _rule("", f"{name}='{wrong}' {other}"), ("<rule", wrong)


def _ports(some: Random) -> tuple[str, tuple[str, ...]]:
    name = some.choice(("ip", "ipv6"))
    other = some.choice(("", " protocol='esp'", " protocol='icmp'", " protocol='99'"))
    return _rule(f"<{name} srcportstart='1'{other}/>"), (f"<{name}", "protocol")


def _reference(some: Random) -> tuple[str, tuple[str, ...]]:
    line = some.choice(
        (
            "<filterref/>",
            "<filterref filter='a/b'/>",
            "<filterref filter='x'><parameter name='A'/></filterref>",
            "<filterref filter='x'><parameter name='A' value='a b'/></filterref>",
            "<filterref filter='x'><parameter name='A-B' value='1'/></filterref>",
        )
    )
    return line, ("filterref" if "parameter" not in line else "parameter",)


def _priority(some: Random) -> tuple[str, tuple[str, ...]]:
    wrong = some.choice(("high", "1.5", "0x10", "--1"))
    return _rule("<tcp/>", f"action='drop' direction='in' priority='{wrong}'"), ("<rule", "priority")


def _nested(some: Random) -> tuple[str, tuple[str, ...]]:
    return _rule("<tcp><udp/></tcp>") if some.random() < 0.5 else _rule("<tcp/><udp/>"), ("udp",)


def _head(some: Random) -> tuple[str, tuple[str, ...]]:
    return some.choice(
        (
            ("<filter>", ("name",)),
            ("<filter name='a/b'>", ("a/b",)),
            ("<filter name='f' chain='rootx'>", ("rootx",)),
            ("<filter name='f' chain='ipv4-0123456789'>", ("ipv4-0123456789",)),
            ("<filter name='f' chain='mac' priority='1001'>", ("1001",)),
            ("<filter name='f' colour='red'>", ("colour",)),
            ("<filter name='f'><uuid>x</uuid>", ("uuid",)),
            ("<filter name='f'>text", ("text",)),
        )
    )
