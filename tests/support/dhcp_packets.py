"""DHCP messages as rules show them."""

import struct
from ipaddress import IPv4Address

from vnetd.packets.sightings import Packet

MAC, SERVER = "52:54:00:00:00:61", "192.168.77.1"
"""The guest's and the server's."""


def dhcp(device: str, kind: int, address: str, *, ingress: str = "", seconds: int = 3600, mac: str = MAC) -> Packet:
    """An acknowledgement (5) towards the guest, or a release (7) from it."""
    packed, towards_guest = IPv4Address(address).packed, kind == 5
    options = bytes([53, 1, kind, 51, 4]) + struct.pack("!I", seconds) + b"\xff"
    addresses = bytes(4) + packed if towards_guest else packed + bytes(4)
    client = bytes.fromhex(mac.replace(":", "")) + bytes(202)
    message = bytes([2 if towards_guest else 1, 1, 6, 0]) + bytes(8) + addresses + bytes(8) + client
    content = message + bytes.fromhex("63825363") + options
    ports = (67, 68) if towards_guest else (68, 67)
    body = struct.pack("!HHHH", *ports, 8 + len(content), 0) + content
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0)
    ends = [IPv4Address(SERVER).packed, packed] if towards_guest else [packed, IPv4Address(SERVER).packed]
    return Packet(device, towards_guest, ingress, "" if towards_guest else mac, 0x800, head + b"".join(ends) + body)
