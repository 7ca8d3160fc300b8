"""Under which addresses a packet says that its sender is there, or no more. Pure.

A guest that asks whether an address is free (RFC 5227 and 4862) does not have it yet: that says nothing here. What is
cut off, malformed, or names another MAC address than it was sent from says nothing either.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vnetd.packets.sightings import (
    ADVERTISEMENT,
    ETHERNET,
    ICMPV6,
    IPV4,
    REPLY,
    REQUEST,
    SOLICITATION,
    Address,
    Packet,
    Released,
    Used,
    sightings,
    usable,
)

SOURCE_LINK, TARGET_LINK = 1, 2
"""Options that name the MAC address of who asks, and of who is asked for (RFC 4861, 4.6.1)."""
LOCAL = 255
"""Hop limit of all that was not routed (RFC 4861, 7.1)."""


@dataclass(frozen=True, slots=True)
class Presence:
    """A guest is there under ``address``, or no more (``gone``)."""

    address: Address
    gone: bool = False


def presences(packet: Packet) -> tuple[Presence, ...]:
    """All that a packet from a guest tells, in its order."""
    if packet.towards_guest or not packet.source:
        return ()
    try:
        return tuple(_read(packet))
    except (struct.error, IndexError, ValueError):
        return ()


def _read(packet: Packet) -> Iterator[Presence]:
    match packet.ethertype:
        case 0x0806:
            yield from _arp(packet)
        case 0x0800:
            yield from _dhcp(packet)
        case 0x86DD:
            yield from _dhcp(packet)
            yield from _neighbour(packet)


def _arp(packet: Packet) -> Iterator[Presence]:
    data = packet.payload
    hardware, protocol, lengths, operation = struct.unpack_from("!HHHH", data)
    if (hardware, protocol, lengths) != (ETHERNET, IPV4, 0x0604) or operation not in {REQUEST, REPLY}:
        return
    if len(data) >= 28 and data[8:14].hex(":") == packet.source and usable(sender := IPv4Address(data[14:18])):
        yield Presence(sender)


def _dhcp(packet: Packet) -> Iterator[Presence]:
    """Who renews a lease sends from its address; who gives it back names it."""
    for seen in sightings(packet):
        if isinstance(seen, Used):
            yield Presence(seen.address)
        elif isinstance(seen, Released) and (seen.address.version == 6 or seen.client == packet.source):
            yield Presence(seen.address, gone=True)


def _neighbour(packet: Packet) -> Iterator[Presence]:
    data = packet.payload
    if data[0] >> 4 != 6 or data[6] != ICMPV6 or data[7] != LOCAL:
        return
    kind, source, target = data[40], IPv6Address(data[8:24]), IPv6Address(data[48:64])
    mac = bytes.fromhex(packet.source.replace(":", ""))
    if kind == SOLICITATION and _own(source) and _link(data[64:], SOURCE_LINK) in {None, mac}:
        yield Presence(source)
    elif kind == ADVERTISEMENT and _own(target) and _link(data[64:], TARGET_LINK) in {None, mac}:
        yield Presence(target)


def _own(address: IPv6Address) -> bool:
    """Whether an address can be a guest's own."""
    return not (address.is_unspecified or address.is_multicast or address.is_loopback)


def _link(options: bytes, wanted: int) -> bytes | None:
    """The MAC address an option of this kind names; none of length 0 ends what is read (RFC 4861, 4.6)."""
    while len(options) >= 8 and options[1]:
        if options[0] == wanted:
            return options[2:8]
        options = options[options[1] * 8 :]
    return None
