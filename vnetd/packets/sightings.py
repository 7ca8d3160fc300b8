"""What a packet tells about a guest's addresses: given, released, claimed, used or defended. Pure.

Packets are forged, cut off and malformed as their senders like: what is not read to the end says nothing.
Sources: RFC 826 (ARP), RFC 5227 (probes), RFC 2131 and 2132 (DHCP), RFC 4861 and 4862 (ND), RFC 8415 (DHCPv6).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vnetd.packets import dhcp, dhcpv6

Address = IPv4Address | IPv6Address
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
UDP, ICMPV6 = 17, 58
SOLICITATION, ADVERTISEMENT = 135, 136
UNSPECIFIED = IPv6Address("::")
ETHERNET, REQUEST, REPLY = 1, 1, 2


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as a hook saw it. ``payload`` begins with the network header.

    ``device`` is the guest's; ``ingress`` is where it came in, "" for packets of the host itself; ``source`` is the
    sender's MAC address, "" where it is not known yet. ``snooped``: shown to tell people, and decides nothing.
    """

    device: str
    towards_guest: bool
    ingress: str
    source: str
    ethertype: int
    payload: bytes
    snooped: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A DHCP server gave an address for ``seconds`` (``None``: for ever). ``client`` is whom it is for.

    That is a MAC address for IPv4 and the address the answer was sent to for IPv6.
    """

    address: Address
    seconds: int | None
    server: Address
    client: str | IPv6Address


@dataclass(frozen=True, slots=True)
class Released:
    """The guest gave an address of DHCP back, or refused it."""

    address: Address
    client: str | IPv6Address


@dataclass(frozen=True, slots=True)
class Claimed:
    """The guest asks whether anybody has this IPv6 address, for it wants it (duplicate address detection)."""

    address: IPv6Address


@dataclass(frozen=True, slots=True)
class Used:
    """The guest uses an IPv4 address."""

    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Defended:
    """Somebody says to all that an IPv6 address is theirs."""

    address: IPv6Address


Sighting = Given | Released | Claimed | Used | Defended


def sightings(packet: Packet) -> tuple[Sighting, ...]:
    """Everything a packet tells; nothing if it is cut off or no packet of those that tell."""
    try:
        return tuple(_read(packet))
    except (struct.error, IndexError, ValueError):
        return ()


def _read(packet: Packet) -> Iterator[Sighting]:
    match packet.ethertype:
        case 0x0806 if not packet.towards_guest:
            yield from _arp(packet.payload)
        case 0x0800:
            yield from _ipv4(packet)
        case 0x86DD:
            yield from _ipv6(packet)


def _arp(data: bytes) -> Iterator[Sighting]:
    """A probe has no sender yet and asks for what its sender wants to be (RFC 5227, 2.1.1)."""
    hardware, protocol, lengths, operation = struct.unpack_from("!HHHH", data)
    if (hardware, protocol, lengths) != (ETHERNET, IPV4, 0x0604) or operation not in {REQUEST, REPLY}:
        return
    sender, target = IPv4Address(data[14:18]), IPv4Address(data[24:28])
    address = target if operation == REQUEST and int(sender) == 0 else sender
    if usable(address):
        yield Used(address)


def _ipv4(packet: Packet) -> Iterator[Sighting]:
    data = packet.payload
    start, total, fragment, protocol = (data[0] & 0xF) * 4, *struct.unpack_from("!H2xHxB", data, 2)
    if data[0] >> 4 != 4 or start < 20:
        return
    source = IPv4Address(data[12:16])
    if not packet.towards_guest and usable(source):
        yield Used(source)
    if protocol != UDP or fragment & 0x3FFF:
        return
    ports = struct.unpack_from("!HH", data, start)
    if ports == ((67, 68) if packet.towards_guest else (68, 67)):
        yield from _dhcp(data[start + 8 : total], source, packet.towards_guest)


def _dhcp(data: bytes, source: IPv4Address, towards_guest: bool) -> Iterator[Sighting]:
    message = dhcp.parse(data)
    if towards_guest and message.kind == dhcp.ACK and message.is_reply and usable(message.given):
        yield Given(message.given, message.seconds, source, message.client)
    elif not towards_guest and not message.is_reply and message.kind in {dhcp.RELEASE, dhcp.DECLINE}:
        address = message.own if message.kind == dhcp.RELEASE else message.requested
        if address is not None and usable(address):
            yield Released(address, message.client)


def _ipv6(packet: Packet) -> Iterator[Sighting]:
    data = packet.payload
    length, following = struct.unpack_from("!HB", data, 4)
    if data[0] >> 4 != 6:
        return
    source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    content = data[40 : 40 + length]
    if following == ICMPV6:
        yield from _neighbour(content, source, destination, packet.towards_guest)
    elif following == UDP:
        ports = struct.unpack_from("!HH", content)
        if ports == ((547, 546) if packet.towards_guest else (546, 547)):
            yield from _dhcpv6(content[8:], source, destination, packet.towards_guest)


def _neighbour(data: bytes, source: IPv6Address, destination: IPv6Address, towards_guest: bool) -> Iterator[Sighting]:
    target = IPv6Address(data[8:24])
    if target.is_multicast or target == UNSPECIFIED:
        return
    if not towards_guest and data[0] == SOLICITATION and source == UNSPECIFIED:
        yield Claimed(target)
    elif towards_guest and data[0] == ADVERTISEMENT and destination.is_multicast:
        yield Defended(target)


def _dhcpv6(data: bytes, source: IPv6Address, destination: IPv6Address, towards_guest: bool) -> Iterator[Sighting]:
    message = dhcpv6.parse(data)
    if towards_guest and message.kind == dhcpv6.REPLY:
        for address, seconds in message.addresses:
            if seconds == 0:
                yield Released(address, destination)
            else:
                yield Given(address, seconds, source, destination)
    elif not towards_guest and message.kind in {dhcpv6.RELEASE, dhcpv6.DECLINE}:
        for address, _ in message.addresses:
            yield Released(address, source)


def usable(address: IPv4Address) -> bool:
    """Whether an address can be a guest's own."""
    return not (address.is_multicast or address.is_loopback or address.is_reserved or int(address) >> 24 == 0)
