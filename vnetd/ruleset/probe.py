"""A packet that was made up, and what nftables expressions read from it. Offsets are those of the headers' RFCs."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from vnetd.model.errors import Invalid
from vnetd.plan.rules import Json

Value = int | str | tuple[Any, ...]
IPV4, IPV6 = 0x0800, 0x86DD
TRANSPORT = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
ECHO = {1: 8, 58: 128}
SOURCE_PORT = 49152
"""The port a client of most systems may have: the first dynamic one (RFC 6335)."""

# Offset and length in bits, by header and field.
FIELDS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "ether": {"daddr": (0, 48), "saddr": (48, 48), "type": (96, 16)},
    "ip": {
        "version": (0, 4), "dscp": (8, 6), "length": (16, 16), "frag-off": (51, 13), "ttl": (64, 8),
        "protocol": (72, 8), "saddr": (96, 32), "daddr": (128, 32),
    },
    "ip6": {
        "version": (0, 4), "dscp": (4, 6), "length": (32, 16), "nexthdr": (48, 8), "hoplimit": (56, 8),
        "saddr": (64, 128), "daddr": (192, 128),
    },
    "tcp": {"sport": (0, 16), "dport": (16, 16), "flags": (104, 8)},
    "udp": {"sport": (0, 16), "dport": (16, 16)},
    "icmp": {"type": (0, 8), "code": (8, 8)},
    "icmpv6": {"type": (0, 8), "code": (8, 8)},
    "th": {"sport": (0, 16), "dport": (16, 16)},
}  # fmt: skip
ABSENT = {"arp", "vlan", "sctp", "dccp", "udplite", "esp", "ah"}
"""Headers a probe never has."""


class Undecidable(Exception):
    """What a rule looks at cannot be told from a made-up packet."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A frame with what the kernel knows beside its bytes: the devices by the hook that is looked at."""

    frame: bytes
    iifname: str = ""
    oifname: str = ""

    @property
    def ethertype(self) -> int:
        """Of the frame."""
        return int.from_bytes(self.frame[12:14])

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if self.ethertype == IPV4 else 6

    @property
    def protocol(self) -> int:
        """The transport protocol's number."""
        return self.frame[23] if self.version == 4 else self.frame[20]

    def read(self, expression: Json) -> Value | None:
        """The value of an expression, ``None`` where the packet has no such field. Raises ``Undecidable``."""
        match expression:
            case {"meta": {"key": key}}:
                return self._meta(key)
            case {"payload": {"protocol": header, "field": field}}:
                return self._field(header, field)
            case {"payload": {"base": base, "offset": offset, "len": length}}:
                return self._bits(self._start(base), offset, length)
            case {"concat": parts}:
                values = [self.read(part) for part in parts]
                return None if None in values else tuple(values)
            case {"&": [inner, int(mask)]}:
                value = self.read(inner)
                return value & mask if isinstance(value, int) else value
            case {"&": [inner, str(mask)]}:
                value = self.read(inner)
                return value & number(mask) if isinstance(value, int) else value
            case {"ct": {"key": "state"}}:
                return "new"
            case {"ct": {"key": "direction"}}:
                return "original"
        raise Undecidable(f"{expression}")

    def _meta(self, key: str) -> Value:
        match key:
            case "iifname" | "iif":
                return self.iifname
            case "oifname" | "oif":
                return self.oifname
            case "protocol":
                return self.ethertype
            case "nfproto":
                return "ipv4" if self.version == 4 else "ipv6"
            case "l4proto":
                return self.protocol
        raise Undecidable(f"meta {key}")

    def _field(self, header: str, field: str) -> int | None:
        place = FIELDS.get(header, {}).get(field)
        if place is None:
            if header in ABSENT:
                return None
            raise Undecidable(f"{header} {field}")
        absent = {"ip": self.version != 4, "ip6": self.version != 6}
        if absent.get(header) or (header in TRANSPORT and TRANSPORT[header] != self.protocol):
            return None
        return self._bits(self._start({"ether": "ll", "ip": "nh", "ip6": "nh"}.get(header, "th")), *place)

    def _start(self, base: str) -> int:
        return {"ll": 0, "nh": 14, "th": 14 + (20 if self.version == 4 else 40)}[base]

    def _bits(self, start: int, offset: int, length: int) -> int | None:
        whole = int.from_bytes(self.frame[start:])
        after = (len(self.frame) - start) * 8 - offset - length
        return whole >> after & (1 << length) - 1 if after >= 0 else None


def number(text: str) -> int:
    """An address, MAC address or number as an integer. Raises ``ValueError``."""
    if text.count(":") == 5 and len(text) == 17:
        return int(text.replace(":", ""), 16)
    if ":" in text:
        return int(IPv6Address(text))
    return int(IPv4Address(text)) if text.count(".") == 3 else int(text, 0)


def frame(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    protocol: str,
    port: int,
    source_mac: str,
    destination_mac: str,
) -> bytes:
    """The first packet of a connection to ``port`` (``icmp``: an echo request). Raises ``Invalid``."""
    if source.version != destination.version:
        raise Invalid(f"{source} and {destination} are not of one IP version")
    kind = TRANSPORT["icmpv6" if protocol == "icmp" and source.version == 6 else protocol]
    if kind == TRANSPORT["tcp"]:
        content = struct.pack("!HHIIBBHHH", SOURCE_PORT, port, 1, 0, 0x50, 0x02, 65535, 0, 0)
    elif kind == TRANSPORT["udp"]:
        content = struct.pack("!HHHH", SOURCE_PORT, port, 8, 0)
    else:
        content = struct.pack("!BBHHH", ECHO[kind], 0, 0, 1, 1)
    head = _octets(destination_mac) + _octets(source_mac)
    if source.version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0, 64, kind, 0)
        return head + struct.pack("!H", IPV4) + header + source.packed + destination.packed + content
    header = struct.pack("!IHBB", 6 << 28, len(content), kind, 64)
    return head + struct.pack("!H", IPV6) + header + source.packed + destination.packed + content


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
