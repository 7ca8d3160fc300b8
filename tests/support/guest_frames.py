"""Frames a guest held by filter vnetd-guest may send, and such as it may not."""

import socket
import struct

from support.filtering import arp, ethernet, octets

MAC, PEER_MAC = "52:54:00:00:00:61", "52:54:00:00:00:62"
BROADCAST, ALL_NODES_MAC, ALL_NODES = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", "ff02::1"
GUEST4, PEER4, PEER6 = "192.168.77.50", "192.168.77.51", "fd77::51"
LINK_LOCAL = "fe80::5054:ff:fe00:61"


def udp4(source: str, destination: str, sport: int, dport: int, *, mac: str = MAC) -> bytes:
    """A UDP datagram over IPv4, to everybody."""
    body = struct.pack("!HHHH", sport, dport, 12, 0) + b"data"
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    checksum = ~(total + (total >> 16)) & 0xFFFF  # the host's bridge looks at it
    return ethernet(mac, BROADCAST, 0x800, head[:10] + struct.pack("!H", checksum) + head[12:] + body)


def ipv6(source: str, destination: str, following: int, body: bytes) -> bytes:
    """An IPv6 packet, to all nodes of the link."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return ethernet(
        MAC, ALL_NODES_MAC, 0x86DD, struct.pack("!IHBB", 6 << 28, len(body), following, 255) + addresses + body
    )


def icmpv6(kind: int, rest: bytes = bytes(4)) -> bytes:
    """An ICMPv6 message; nothing between guest and peer looks at its checksum."""
    return struct.pack("!BBH", kind, 0, 0) + rest


def advertisement(target: str) -> bytes:
    """A neighbour advertisement that overrides what is known of ``target``."""
    return icmpv6(
        136, struct.pack("!I", 0x20000000) + socket.inet_pton(socket.AF_INET6, target) + b"\2\1" + octets(MAC)
    )


def udp6(source: str, sport: int, dport: int) -> bytes:
    """A UDP datagram over IPv6, to all nodes of the link."""
    return ipv6(source, ALL_NODES, 17, struct.pack("!HHHH", sport, dport, 12, 0) + b"data")


OWN_ARP = arp(1, MAC, GUEST4, PEER4)
PRETENDED: dict[str, bytes] = {
    "another MAC address": ethernet(PEER_MAC, BROADCAST, 0x806, OWN_ARP),
    "another IPv4 address": udp4(PEER4, "192.168.77.255", 1000, 2000),
    "an IPv4 address of nobody": udp4("192.168.77.99", "192.168.77.255", 1000, 2000),
    "the gateway's IPv4 address": udp4("192.168.77.1", "192.168.77.255", 1000, 2000),
    "no IPv4 address, without being a DHCP client": udp4("0.0.0.0", "255.255.255.255", 1000, 67),
    "an ARP sender of another IPv4 address": ethernet(MAC, BROADCAST, 0x806, arp(2, MAC, PEER4, GUEST4)),
    "an ARP announcement of the gateway": ethernet(MAC, BROADCAST, 0x806, arp(1, MAC, "192.168.77.1", "192.168.77.1")),
    "an ARP sender of another MAC address": ethernet(MAC, BROADCAST, 0x806, arp(1, PEER_MAC, GUEST4, PEER4)),
    "a DHCP server": udp4(GUEST4, "255.255.255.255", 67, 68),
    "a DHCP server on another port": udp4(GUEST4, "255.255.255.255", 1067, 68),
    "a DHCP relay": udp4(GUEST4, "192.168.77.1", 67, 67),
    "another IPv6 address": udp6(PEER6, 1000, 2000),
    "another link-local address": udp6("fe80::1", 1000, 2000),
    "a DHCPv6 server": udp6(LINK_LOCAL, 547, 546),
    "a DHCPv6 server on another port": udp6(LINK_LOCAL, 1547, 546),
    "a router": ipv6(LINK_LOCAL, ALL_NODES, 58, icmpv6(134, bytes(12))),
    "a router, behind an extension header": ipv6(
        LINK_LOCAL, ALL_NODES, 60, bytes([58, 0, 1, 4, 0, 0, 0, 0]) + icmpv6(134, bytes(12))
    ),
    "a router that knows a better way": ipv6(LINK_LOCAL, ALL_NODES, 58, icmpv6(137, bytes(36))),
    "a neighbour": ipv6(LINK_LOCAL, ALL_NODES, 58, advertisement(PEER6)),
    "the gateway as a neighbour": ipv6(LINK_LOCAL, ALL_NODES, 58, advertisement("fd77::1")),
    "a frame of another protocol": ethernet(MAC, BROADCAST, 0x88B5, bytes(46)),
    "a frame in a VLAN": ethernet(MAC, BROADCAST, 0x8100, struct.pack("!HH", 5, 0x806) + OWN_ARP),
}
HONEST: dict[str, bytes] = {
    "ARP": ethernet(MAC, BROADCAST, 0x806, OWN_ARP),
    "an ARP probe": ethernet(MAC, BROADCAST, 0x806, arp(1, MAC, "0.0.0.0", GUEST4)),
    "IPv4": udp4(GUEST4, "192.168.77.255", 1000, 2000),
    "a DHCP request": udp4("0.0.0.0", "255.255.255.255", 68, 67),
    "link-local IPv6": udp6(LINK_LOCAL, 1000, 2000),
    "IPv6 with an address made of its MAC address": udp6("fd77::5054:ff:fe00:61", 1000, 2000),
    "a DHCPv6 request": udp6(LINK_LOCAL, 546, 547),
    "where it has moved to": ethernet(MAC, BROADCAST, 0x8035, arp(3, MAC, "0.0.0.0", "0.0.0.0", MAC)),
    "a router solicitation": ipv6("::", ALL_NODES, 58, icmpv6(133)),
    "advertising itself": ipv6(LINK_LOCAL, ALL_NODES, 58, advertisement(LINK_LOCAL)),
}
