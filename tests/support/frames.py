"""Ethernet frames as values, and as they are on the wire."""

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

IPV4, IPV6, ARP, RARP, VLAN, LLC = 0x800, 0x86DD, 0x806, 0x8035, 0x8100, 0
TCP, UDP, ICMP, ICMPV6, SCTP, UDPLITE, ESP, AH, IGMP = 6, 17, 1, 58, 132, 136, 50, 51, 2
WITH_PORTS = {TCP, UDP, SCTP, UDPLITE}
BRIDGE_GROUP = "01:80:c2:00:00:00"
ANSWERS = {(ICMP, 8): 0, (ICMP, 13): 14, (ICMPV6, 128): 129}
"""ICMP types by the question they answer."""
BPDU = {
    "type": "B",
    "flags": "B",
    "root-priority": "H",
    "root-address": "6s",
    "root-cost": "I",
    "sender-priority": "H",
    "sender-address": "6s",
    "port": "H",
    "age": "H",
    "max-age": "H",
    "hello-time": "H",
    "forward-delay": "H",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. ``kind`` is the ethertype of its content (``LLC``: a BPDU), ``vlan`` the number of its tag.

    ``fields`` of IP: source, destination, protocol, and dscp, sport, dport, flags, option, type and code where there
    are such. If they matter: sequence (of TCP: own and acknowledged number), identifier (of ICMP), about (of an ICMP
    error: the frame with the packet that met it). Of ARP and RARP: hwtype, protocoltype, opcode, mac and ip of source
    and destination; of a BPDU: as in ``BPDU``. ``tag`` tells frames with the same fields apart.
    """

    source: str
    destination: str
    kind: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    vlan: int | None = None
    tag: int = 0

    @property
    def ethertype(self) -> int:
        """The type on the wire."""
        return self.kind if self.vlan is None else VLAN

    def get(self, name: str) -> Any:
        """A field, ``None`` if there is no such in this frame."""
        return self.fields.get(name)

    def answer(self) -> "Frame":
        """What the other end would send back."""
        found = dict(self.fields)
        for one, other in (("source", "destination"), ("sport", "dport"), ("source mac", "destination mac")):
            if one in found and other in found:
                found[one], found[other] = found[other], found[one]
        kind = ANSWERS.get((self.get("protocol"), self.get("type")))
        if kind is not None:
            found["type"] = kind
        if found.get("flags") == 0x02:
            found["flags"] = 0x12
        return replace(self, source=self.destination, destination=self.source, fields=found)

    def encode(self) -> bytes:
        """The frame as it is on the wire; the tag is in its last four octets."""
        content = {IPV4: _ipv4, IPV6: _ipv6, ARP: _arp, RARP: _arp, LLC: _bpdu}.get(self.kind, _opaque)(self)
        head = _mac(self.destination) + _mac(self.source)
        if self.vlan is not None:
            head += struct.pack("!HH", VLAN, self.vlan)
        kind = self.kind if self.kind != LLC else len(content)
        return head + struct.pack("!H", kind) + content


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _tag(frame: Frame) -> bytes:
    return struct.pack("!I", frame.tag)


def _opaque(frame: Frame) -> bytes:
    return bytes(46) + _tag(frame)


def _ipv4(frame: Frame) -> bytes:
    ends = b"".join(socket.inet_aton(frame.fields[end]) for end in ("source", "destination"))
    content = _transport(frame, ends)
    dscp = (frame.get("dscp") or 0) << 2
    head = struct.pack("!BBHHHBB", 0x45, dscp, 20 + len(content), 1, 0, 64, frame.fields["protocol"])
    return head + checksum(head + b"\0\0" + ends) + ends + content


def _ipv6(frame: Frame) -> bytes:
    ends = b"".join(socket.inet_pton(socket.AF_INET6, frame.fields[end]) for end in ("source", "destination"))
    content = _transport(frame, ends)
    first = 6 << 28 | (frame.get("dscp") or 0) << 22
    return struct.pack("!IHBB", first, len(content), frame.fields["protocol"], 64) + ends + content


def _transport(frame: Frame, ends: bytes) -> bytes:
    protocol, data = frame.fields["protocol"], bytes(4) + _tag(frame)
    ports = struct.pack("!HH", frame.get("sport") or 0, frame.get("dport") or 0)
    pseudo = ends + struct.pack("!II", 0, protocol)
    match protocol:
        case 6:
            option = frame.get("option")
            options = b"" if option is None else bytes([option, 4, 0, 0])
            flags, offset = frame.fields["flags"], (5 + len(options) // 4) << 4
            sequence = frame.get("sequence") or ((2000, 1001) if flags & 0x10 else (1000, 0))
            head = ports + struct.pack("!IIBBH", *sequence, offset, flags, 8192)
            return _summed(head, struct.pack("!H", 0) + options + data, pseudo)
        case 17:
            return _summed(ports + struct.pack("!H", 8 + len(data)), data, pseudo)
        case 136:
            return _summed(ports + struct.pack("!H", 0), data, pseudo)
        case 1 | 58:
            head = struct.pack("!BB", frame.fields["type"], frame.fields["code"])
            about = frame.get("about")
            rest = bytes(4) + about.encode()[14:] if about else struct.pack("!HH", frame.get("identifier") or 7, 7)
            return _summed(head, rest + data, pseudo if protocol == 58 else b"")
    return ports + bytes(16) + data


def _summed(head: bytes, rest: bytes, pseudo: bytes) -> bytes:
    """``head``, the checksum of all, ``rest``."""
    length = len(head) + 2 + len(rest)
    if pseudo:
        pseudo = pseudo[:-8] + struct.pack("!I", length) + pseudo[-4:]
    found = checksum(pseudo + head + b"\0\0" + rest)
    return head + (found if found != b"\0\0" else b"\xff\xff") + rest


def checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _arp(frame: Frame) -> bytes:
    get = frame.fields
    head = struct.pack("!HHBBH", get["hwtype"], get["protocoltype"], 6, 4, get["opcode"])
    ends = (_mac(get[f"{end} mac"]) + socket.inet_aton(get[end]) for end in ("source", "destination"))
    return head + b"".join(ends) + bytes(14) + _tag(frame)


def _bpdu(frame: Frame) -> bytes:
    values = [_mac(frame.fields[name]) if code == "6s" else frame.fields[name] for name, code in BPDU.items()]
    return b"\x42\x42\x03\x00\x00\x00" + struct.pack("!" + "".join(BPDU.values()), *values) + bytes(4) + _tag(frame)


def ip(source: str, destination: str, protocol: int, **fields: Any) -> dict[str, Any]:
    """Fields of an IP packet, complete for its protocol."""
    found: dict[str, Any] = {"source": source, "destination": destination, "protocol": protocol, "dscp": 0}
    if protocol in WITH_PORTS:
        found |= {"sport": 1024, "dport": 1024}
    if protocol == TCP:
        found |= {"flags": 0x02}
    if protocol in {ICMP, ICMPV6}:
        found |= {"type": 8 if protocol == ICMP else 128, "code": 0}
    return found | fields


def version(address: str) -> int:
    """Version of IP."""
    return ip_address(address).version
