"""Filter vnetd-guest, by packets: what a guest may not pretend is dropped, what it is given works at once."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from support.client import PORT
from support.filtering import arp, ethernet, octets
from support.guest_frames import (
    ALL_NODES,
    GUEST4,
    HONEST,
    MAC,
    PEER4,
    PEER_MAC,
    PRETENDED,
    icmpv6,
    ipv6,
)
from support.netns import Guest
from support.site import Administrator, AttachedGuest
from support.traffic import reaches, serving
from support.waiting import SILENCE, eventually, wait_until

LAB = {
    "name": "lab",
    "mode": "nat",
    "nat": {"ipv6": True},
    "addresses": [
        {
            "address": "192.168.77.1/24",
            "dhcp": {
                "ranges": [{"start": "192.168.77.10", "end": "192.168.77.40"}],
                "hosts": [{"mac": MAC, "address": GUEST4}],
            },
        },
        {"address": "fd77::1/64", "dhcp": {"ranges": [{"start": "fd77::10", "end": "fd77::1f"}]}},
    ],
}


@dataclass(frozen=True)
class Pair:
    """A guest held by vnetd-guest and a peer that is not; frames of one ethertype between them."""

    guest: AttachedGuest
    peer: AttachedGuest

    def passes(self, frame: bytes) -> bool:
        """Whether a frame the guest sends arrives; one that certainly passes is sent behind it and marks the end."""
        mark = ethernet(MAC, PEER_MAC, 0x0806, arp(1, MAC, GUEST4, PEER4) + b"mark")
        with _raw(self.peer) as hearing, _raw(self.guest) as sending:
            for one in (frame, mark):
                sending.send(one)
            hearing.settimeout(10)
            seen = iter(lambda: hearing.recv(4096), b"")
            for heard in seen:
                if heard[: len(frame)] == frame:
                    return True
                if heard[: len(mark)] == mark:
                    return False
        raise AssertionError("nothing more came")


def _raw(guest: Guest) -> socket.socket:
    with guest.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        raw.bind(("eth0", 3))
        return raw


@pytest.fixture
async def pair(admin: Administrator) -> AsyncIterator[Pair]:
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", name="guest", mac=MAC, filter="vnetd-guest")
    peer = await admin.add_guest("lab", name="peer", mac=PEER_MAC)
    yield Pair(guest, peer)


async def test_what_a_guest_may_not_pretend_does_not_leave_its_port(pair: Pair) -> None:
    passed = [what for what, frame in PRETENDED.items() if pair.passes(frame)]
    assert passed == []


async def test_what_a_guest_is_does_leave_its_port(pair: Pair) -> None:
    assert [what for what, frame in HONEST.items() if not pair.passes(frame)] == []


async def test_without_the_filter_all_of_that_leaves_its_port(admin: Administrator, pair: Pair) -> None:
    """Else the test of what is dropped would show nothing."""
    await admin.call(pair.guest.port, PORT, "SetFilter", "sa{sv}", "", {})
    kept = {"a frame in a VLAN"}  # the kernel takes the tag off on its way
    assert [what for what, frame in PRETENDED.items() if what not in kept and not pair.passes(frame)] == []


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed address", "address of a range"])
async def test_a_dhcp_client_works_from_its_first_packet_on(admin: Administrator, fixed: bool) -> None:
    await admin.raise_network(LAB)
    peer = await admin.add_guest("lab", f"{PEER4}/24", mac=PEER_MAC)
    guest = await admin.add_guest("lab", mac=MAC if fixed else "52:54:00:00:00:63", filter="vnetd-guest")
    address = guest.lease()
    assert (address == GUEST4) is fixed
    assert wait_until(lambda: guest.ping(PEER4), "it is in the network")
    assert wait_until(lambda: guest.ping(admin.site.outside.ipv4), "and outside")
    guest.configure("192.168.77.66/24")
    assert not guest.ping(PEER4, source="192.168.77.66", wait=SILENCE)
    with serving(peer, "tcp:80"):
        assert wait_until(lambda: reaches(guest, PEER4, 80), "TCP works")


async def test_a_dhcpv6_client_works_from_its_first_packet_on(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", mac=MAC, filter="vnetd-guest")
    address = guest.lease_ipv6()
    assert address.startswith("fd77::1")
    wait_until(lambda: guest.ip("-6", "route", "show", "default"), "the router is advertised")
    assert wait_until(lambda: guest.ping(admin.site.outside.ipv6), "the outside answers over IPv6")
    assert f"inet6 {address}/128" in guest.run("ip", "-6", "address", "show", "dev", "eth0")


async def test_a_guest_claims_ipv6_addresses_nobody_has(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", mac=MAC, filter="vnetd-guest")
    guest.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1")
    other = await admin.add_guest("lab", mac=PEER_MAC, filter="vnetd-guest")
    other.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=1")
    claim(guest, "fd77::abcd")
    assert wait_until(lambda: guest.ping("fd77::1"), "its claim is heard", deadline=20)
    claimed_in_vain = ["fd77::1", "2001:db8::1"]
    for address in claimed_in_vain:
        claim(other, address, wait=False)
    ask(other, "fd77::abcd")
    assert await learned_nothing(admin, other, "fd77::abcd", *claimed_in_vain)


def claim(guest: AttachedGuest, address: str, *, wait: bool = True) -> None:
    """Have the kernel detect duplicates of an address and use it."""
    guest.run("ip", "address", "add", f"{address}/64", "dev", "eth0")
    if wait:
        shown = "ip", "-6", "address", "show", "dev", "eth0", "to", address
        wait_until(lambda: "tentative" not in guest.run(*shown), "duplicates are looked for", deadline=20)


def ask(guest: AttachedGuest, target: str) -> None:
    """Claim an address whatever its owner says."""
    body = icmpv6(135, bytes(4) + socket.inet_pton(socket.AF_INET6, target))
    with _raw(guest) as raw:
        raw.send(ipv6("::", ALL_NODES, 58, body).replace(octets(MAC), octets(PEER_MAC), 1))


async def learned_nothing(admin: Administrator, guest: AttachedGuest, *addresses: str) -> bool:
    """Whether none of these is the guest's, once a later claim of it was heard."""
    claim(guest, "fd77::beef")
    mine = [(guest.device, address) for address in (*addresses, "fd77::beef")]

    def known() -> list[str]:
        shown = [str(one) for one in admin.site.elements()]
        return [address for device, address in mine if any(repr(device) in s and repr(address) in s for s in shown)]

    await eventually(lambda: "fd77::beef" in known(), "the later claim is heard", deadline=20)
    return known() == ["fd77::beef"]
