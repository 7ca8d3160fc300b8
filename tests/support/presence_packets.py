"""Packets of guests that tell which addresses they use, as rules show them to tell people."""

import socket
import struct
from ipaddress import ip_address

from vnetd.packets.sightings import ARP, IPV6, Packet

REQUEST, REPLY = 1, 2
SOLICITATION, ADVERTISEMENT = 135, 136


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def arp(device: str, mac: str, sender: str, *, target: str = "192.0.2.1", says: str = "", operation: int = 1) -> Packet:
    """Sent from ``mac``, which in the message calls itself ``says``."""
    head = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation)
    body = _mac(says or mac) + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)
    return Packet(device, False, device, mac, ARP, head + body, snooped=True)


def neighbour(
    device: str,
    mac: str,
    kind: int,
    source: str,
    target: str,
    *,
    option: tuple[int, str] | None = None,
    hops: int = 255,
) -> Packet:
    """A solicitation or advertisement; ``option`` names a MAC address."""
    body = struct.pack("!BBHI", kind, 0, 0, 0) + ip_address(target).packed
    if option:
        body += bytes([option[0], 1]) + _mac(option[1])
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, hops)
    ends = ip_address(source).packed + ip_address("ff02::1").packed
    return Packet(device, False, device, mac, IPV6, head + ends + body, snooped=True)
