"""What packets tell of the addresses their sender uses; forged or broken ones tell nothing and break nothing."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dhcp_packets import dhcp
from support.presence_packets import ADVERTISEMENT, REPLY, REQUEST, SOLICITATION, arp, neighbour

from vnetd.packets.presence import Presence, presences
from vnetd.packets.sightings import ARP, IPV4, IPV6, Packet

MAC, OTHER = "52:54:00:00:00:61", "52:54:00:00:00:62"
FOUR, SIX = "192.168.77.50", "fd77::50"


def here(address: str) -> tuple[Presence, ...]:
    return (Presence(ip_address(address)),)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (arp("p", MAC, FOUR, operation=REQUEST), here(FOUR)),
        (arp("p", MAC, FOUR, operation=REPLY), here(FOUR)),
        (arp("p", MAC, "0.0.0.0", target=FOUR), ()),
        (arp("p", MAC, "224.0.0.1"), ()),
        (arp("p", MAC, FOUR, operation=3), ()),
        (arp("p", MAC, FOUR, says=OTHER), ()),
        (neighbour("p", MAC, SOLICITATION, SIX, "fd77::1"), here(SIX)),
        (neighbour("p", MAC, SOLICITATION, SIX, "fd77::1", option=(1, MAC)), here(SIX)),
        (neighbour("p", MAC, SOLICITATION, SIX, "fd77::1", option=(1, OTHER)), ()),
        (neighbour("p", MAC, SOLICITATION, "::", SIX), ()),
        (neighbour("p", MAC, ADVERTISEMENT, "fe80::1", SIX), here(SIX)),
        (neighbour("p", MAC, ADVERTISEMENT, SIX, SIX, option=(2, MAC)), here(SIX)),
        (neighbour("p", MAC, ADVERTISEMENT, SIX, SIX, option=(2, OTHER)), ()),
        (neighbour("p", MAC, ADVERTISEMENT, SIX, "ff02::5"), ()),
        (neighbour("p", MAC, ADVERTISEMENT, SIX, SIX, hops=64), ()),
        (neighbour("p", MAC, 134, SIX, SIX), ()),
        (dhcp("p", 7, FOUR, mac=MAC), (Presence(ip_address(FOUR)), Presence(ip_address(FOUR), gone=True))),
        (dhcp("p", 3, FOUR, mac=MAC), here(FOUR)),
        (dhcp("p", 5, FOUR, mac=MAC), ()),
    ],
)
def test_a_guest_is_where_it_speaks_from(packet: Packet, expected: tuple[Presence, ...]) -> None:
    assert presences(packet) == expected


def test_who_gives_back_what_another_client_has_takes_nothing_from_them() -> None:
    assert presences(replace(dhcp("p", 7, FOUR, mac=OTHER), source=MAC)) == here(FOUR)


def test_what_is_cut_off_tells_nothing() -> None:
    for packet in (arp("p", MAC, FOUR), neighbour("p", MAC, SOLICITATION, SIX, "fd77::1")):
        for length in range(len(packet.payload)):
            assert presences(replace(packet, payload=packet.payload[:length])) == ()


@given(st.sampled_from([ARP, IPV4, IPV6]), st.binary(max_size=120))
def test_noise_breaks_nothing(ethertype: int, payload: bytes) -> None:
    presences(Packet("p", False, "p", MAC, ethertype, payload, snooped=True))
