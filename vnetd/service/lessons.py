"""What is learned from a sighting: pure decisions about a guest's addresses (libvirt's nwfilter, CTRL_IP_LEARNING)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from vnetd.model.errors import Invalid
from vnetd.model.learned import LearnedAddress, Source
from vnetd.packets.sightings import Address, Claimed, Defended, Given, Released, Sighting, Used

MOST = {Source.DHCP: 16, Source.CLAIM: 64, Source.USE: 4}
"""Addresses of one guest by source; the first learned gives way to one more, but none that is in use (``USE``)."""
Learned = tuple[LearnedAddress, ...]


class Mode(StrEnum):
    """How a guest's addresses become known."""

    NONE = "none"
    ANY = "any"
    DHCP = "dhcp"


@dataclass(frozen=True, slots=True)
class Site:
    """What is known of a guest's surroundings beforehand.

    ``hosts`` are addresses the network's document gives to it, ``taken`` those of others, and only in ``prefixes``
    it may claim addresses (none: everywhere); a link-local one always.
    """

    hosts: tuple[Address, ...] = ()
    taken: frozenset[Address] = frozenset()
    prefixes: tuple[IPv6Network, ...] = ()


NOWHERE = Site()


@dataclass(frozen=True)
class Pupil:
    """Whose addresses are learned: ``families`` are 4 and 6 as far as its filter lacks them."""

    mac: str
    mode: Mode
    families: frozenset[int]
    servers: frozenset[Address]
    site: Site = NOWHERE

    @cached_property
    def fixed(self) -> tuple[Address, ...]:
        """Addresses it has without being seen: of the network's document, and IPv6 ones made of its MAC address."""
        made = [with_mac(prefix, self.mac) for prefix in (LINK_LOCAL, *self.site.prefixes) if prefix.prefixlen == 64]
        return tuple(dict.fromkeys([*self.site.hosts, *(one for one in made if one not in self.site.taken)]))

    def addresses(self, learned: Learned, version: int) -> tuple[Address, ...]:
        """All its addresses of one IP version."""
        known = (*self.fixed, *(one.address for one in learned))
        return tuple(dict.fromkeys(one for one in known if one.version == version))


LINK_LOCAL = IPv6Network("fe80::/64")


def with_mac(prefix: IPv6Network, mac: str) -> IPv6Address:
    """The address a guest without privacy extensions gives itself (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(int(prefix.network_address) | int.from_bytes(identifier))


def mode_of(parameters: Mapping[str, Sequence[str]], default: Mode) -> Mode:
    """The mode a binding asks for. Raises ``Invalid`` naming those there are."""
    given = parameters.get("CTRL_IP_LEARNING", (default,))
    try:
        (word,) = given
        return Mode(word)
    except ValueError:
        raise Invalid(f"CTRL_IP_LEARNING is {', '.join(given)!r}: none, any and dhcp are possible") from None


def servers_of(parameters: Mapping[str, Sequence[str]]) -> frozenset[Address]:
    """The DHCP servers that are listened to; none given: all. Raises ``Invalid``."""
    try:
        return frozenset(ip_address(text) for text in parameters.get("DHCPSERVER", ()))
    except ValueError as error:
        raise Invalid(f"DHCPSERVER: {error}") from None


def after(learned: Learned, seen: Sighting, pupil: Pupil, now: float, *, traffic: bool) -> Learned:
    """What is known after a sighting; the very same value if it teaches nothing. ``now``: seconds of the epoch.

    Whether an address is somebody else's is for the caller to have found out. ``traffic``: use teaches, too.
    """
    match seen:
        case Given() if _concerns(seen, learned, pupil) and _from_server(seen, pupil) and seen.seconds != 0:
            expires = None if seen.seconds is None else int(now) + seen.seconds
            return _with(learned, LearnedAddress(address=seen.address, source=Source.DHCP, expires=expires))
        case Released() if _concerns(seen, learned, pupil):
            return _without(learned, seen.address, Source.DHCP)
        case Claimed() if 6 in pupil.families and claimable(seen.address, pupil.site):
            return _unless_known(learned, seen.address, Source.CLAIM)
        case Used() if traffic and 4 in pupil.families and pupil.mode is Mode.ANY:
            return _unless_known(learned, seen.address, Source.USE)
        case Defended():
            return _without(learned, seen.address, Source.CLAIM)
    return learned


def current(learned: Learned, now: float) -> Learned:
    """What has not expired; the very same value if all is."""
    kept = tuple(one for one in learned if one.expires is None or one.expires > now)
    return kept if len(kept) < len(learned) else learned


def claimable(address: IPv6Address, site: Site) -> bool:
    """Whether a guest there may take an IPv6 address nobody has."""
    if address in site.taken or address.is_multicast or address.is_loopback:
        return False
    return address.is_link_local or not site.prefixes or any(address in prefix for prefix in site.prefixes)


def _concerns(seen: Given | Released, learned: Learned, pupil: Pupil) -> bool:
    """Answers are flooded to all ports while a bridge does not know where their receiver is."""
    if seen.address.version not in pupil.families:
        return False
    if isinstance(seen.client, str):
        return seen.client == pupil.mac
    return seen.client in pupil.addresses(learned, 6)


def _from_server(seen: Given, pupil: Pupil) -> bool:
    servers = {one for one in pupil.servers if one.version == seen.address.version}
    return not servers or seen.server in servers


def _with(learned: Learned, one: LearnedAddress) -> Learned:
    if one in learned:
        return learned
    others = tuple(other for other in learned if other.address != one.address)
    return (*_room(others, one.source), one)


def _unless_known(learned: Learned, address: IPv4Address | IPv6Address, source: Source) -> Learned:
    if any(one.address == address for one in learned):
        return learned
    if source is Source.USE and _count(learned, source) >= MOST[source]:
        return learned
    return (*_room(learned, source), LearnedAddress(address=address, source=source))


def _room(learned: Learned, source: Source) -> Learned:
    """Without as many of the oldest of that source as make room for one more."""
    excess = _count(learned, source) - MOST[source] + 1
    oldest = [one for one in learned if one.source is source][: max(excess, 0)]
    return tuple(one for one in learned if one not in oldest)


def _count(learned: Collection[LearnedAddress], source: Source) -> int:
    return sum(one.source is source for one in learned)


def _without(learned: Learned, address: Address, source: Source) -> Learned:
    kept = tuple(one for one in learned if (one.address, one.source) != (address, source))
    return kept if len(kept) < len(learned) else learned
