"""Kinds of attribute values in filter rules: each reads text and gives its canonical form, or says what is wrong.

Values are kept as canonical text, because any of them may be a variable whose values are text too; the compiler
turns text into operands after variables are resolved. Source: libvirt's nwfilter format page.
"""

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from vnetd.model.base import _mac

Kind = Callable[[str], str]
"""Canonical text of a value; raises ``ValueError`` with a reason."""

_VARIABLE = re.compile(r"\$([A-Za-z0-9_]+)(?:\[(@?)([0-9]{1,4})\])?")
_NUMBERS_AND_DOTS = re.compile(r"[0-9][0-9A-Fa-fxX]*(\.[0-9][0-9A-Fa-fxX]*){1,3}")
_DECIMAL = re.compile(r"[0-9]{1,3}")
MAX_ITERATOR = 1000
PROTOCOL_NUMBERS = {
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "esp": 50,
    "ah": 51,
    "icmp": 1,
    "igmp": 2,
    "sctp": 132,
    "icmpv6": 58,
}
ETHERTYPES = {"arp": 0x806, "rarp": 0x8035, "ipv4": 0x800, "ipv6": 0x86DD, "vlan": 0x8100}
OPCODES = {
    "Request": 1,
    "Reply": 2,
    "Request_Reverse": 3,
    "Reply_Reverse": 4,
    "DRARP_Request": 5,
    "DRARP_Reply": 6,
    "DRARP_Error": 7,
    "InARP_Request": 8,
    "ARP_NAK": 9,
}


@dataclass(frozen=True, slots=True)
class Variable:
    """A reference: ``index`` picks one value; without it all are gone through, in step within one iterator."""

    name: str
    iterator: int = 0
    index: int | None = None

    def __str__(self) -> str:
        if self.index is not None:
            return f"${self.name}[{self.index}]"
        return f"${self.name}[@{self.iterator}]" if self.iterator else f"${self.name}"


def parse_variable(text: str) -> Variable | None:
    """The reference ``text`` is, ``None`` if it is a plain value. Raises ``ValueError`` for a broken reference."""
    if not text.startswith("$"):
        return None
    found = _VARIABLE.fullmatch(text)
    if not found:
        raise ValueError("a variable is written $NAME, $NAME[index] or $NAME[@iterator]")
    name, at, number = found.groups()
    if not number:
        return Variable(name)
    if not at:
        return Variable(name, index=int(number))
    if int(number) > MAX_ITERATOR:
        raise ValueError(f"iterators go from @0 to @{MAX_ITERATOR}")
    return Variable(name, iterator=int(number))


def number(low: int, high: int) -> Kind:
    """An integer, decimal or hexadecimal; how it was written is kept."""

    def parse(text: str) -> str:
        if re.fullmatch(r"[0-9]{1,10}", text):
            value, canonical = int(text), str(int(text))
        elif re.fullmatch(r"(0[xX])?[0-9A-Fa-f]{1,8}", text):
            value, canonical = int(text, 16), f"0x{int(text, 16):x}"
        else:
            raise ValueError("a number is needed")
        if not low <= value <= high:
            raise ValueError(f"a number from {low} to {high} is needed")
        return canonical

    return parse


def named(names: dict[str, int], low: int, high: int) -> Kind:
    """One of some names, or a number."""
    plain = number(low, high)
    by_case = {name.lower(): name for name in names}

    def parse(text: str) -> str:
        return by_case[text.lower()] if text.lower() in by_case else plain(text)

    return parse


def integer(canonical: str, names: dict[str, int] | None = None) -> int:
    """The number a canonical value of ``number`` or ``named`` stands for."""
    if names and canonical in names:
        return names[canonical]
    return int(canonical, 16) if canonical.startswith("0x") else int(canonical)


def mac(text: str) -> str:
    """A MAC address."""
    return _mac(text)


def mac_mask(text: str) -> str:
    """A MAC mask: ones, then zeros."""
    mask = _mac(text)
    bits = f"{int(mask.replace(':', ''), 16):048b}"
    if "01" in bits:
        raise ValueError("a MAC mask is ones followed by zeros")
    return mask


def ipv4(text: str) -> str:
    """An IPv4 address. As libvirt has it, octets may be octal or hexadecimal and the last one may be several."""
    with suppress(OSError, ValueError):
        if socket.inet_ntoa(socket.inet_aton(text)) == text:  # so are nearly all
            return text
    return str(IPv4Address(socket.inet_aton(text))) if odd_ipv4(text) else str(IPv4Address(text))


def odd_ipv4(text: str) -> bool:
    """Whether the C library reads an IPv4 address here that is not written as four decimal octets."""
    if not _NUMBERS_AND_DOTS.fullmatch(text):
        return False
    try:
        return str(IPv4Address(socket.inet_aton(text))) != text
    except OSError:
        return False


def ipv6(text: str) -> str:
    """An IPv6 address, in the text that the C library and so nftables make of it; Python's depends on its version."""
    if "%" in text:
        raise ValueError("an IPv6 address without zone is needed")
    return socket.inet_ntop(socket.AF_INET6, IPv6Address(text).packed)


def ipv4_mask(text: str) -> str:
    """A prefix length, given as such or as a dotted mask."""
    if _DECIMAL.fullmatch(text) and int(text) <= 32:
        return str(int(text))
    if text.count(".") != 3 or "01" in f"{int(IPv4Address(text)):032b}":
        raise ValueError("a prefix length from 0 to 32 or a dotted netmask is needed")
    return str(IPv4Network(f"0.0.0.0/{text}").prefixlen) if text != "0.0.0.0" else "0"  # noqa: S104 - no socket


def ipv6_mask(text: str) -> str:
    """A prefix length, given as such or as a mask of IPv6 form."""
    if _DECIMAL.fullmatch(text) and int(text) <= 128:
        return str(int(text))
    bits = f"{int(IPv6Address(text)):0128b}" if ":" in text else "01"
    if "01" in bits:
        raise ValueError("a prefix length from 0 to 128 or an IPv6 netmask is needed")
    return str(bits.count("1"))


def boolean(text: str) -> str:
    """``true``, ``1`` and ``yes`` are true, anything else is false."""
    return "true" if text.lower() in {"true", "1", "yes"} else "false"


def comment(text: str) -> str:
    """At most 256 characters of one line."""
    if len(text) > 256 or not text.isprintable():
        raise ValueError("a comment is one line of at most 256 characters")
    return text


def states(text: str) -> str:
    """A comma list of connection states."""
    words = [word.strip().upper() for word in text.split(",")]
    unknown = [word for word in words if word not in {"NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE"}]
    if unknown:
        raise ValueError("states are NEW, ESTABLISHED, RELATED, INVALID and NONE")
    return "NONE" if "NONE" in words else ",".join(dict.fromkeys(words))


def tcp_flags(text: str) -> str:
    """``MASK/FLAGS``, each a comma list."""
    known = {"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ALL", "NONE"}
    halves = [[word.strip().upper() for word in half.split(",")] for half in text.split("/")]
    if len(halves) != 2 or any(word not in known for half in halves for word in half):
        raise ValueError("flags are written MASK/FLAGS with FIN, SYN, RST, PSH, ACK, URG, ALL and NONE")
    return "/".join(",".join(half) for half in halves)


def ipset_name(text: str) -> str:
    """The name of an ipset."""
    if not re.fullmatch(r"[A-Za-z0-9_.:\-+ ]{1,31}", text):
        raise ValueError("the name of an ipset is 1 to 31 letters, digits and characters of '_.:-+ '")
    return text


def ipset_flags(text: str) -> str:
    """One to six of ``src`` and ``dst``."""
    words = [word.strip().lower() for word in text.split(",")]
    if len(words) > 6 or any(word not in {"src", "dst"} for word in words):
        raise ValueError("ipset flags are one to six of src and dst, separated by ','")
    return ",".join(words)
