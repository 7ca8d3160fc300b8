"""What packets tell about addresses, and that forged or broken ones tell nothing and break nothing."""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnetd.packets.sightings import Claimed, Defended, Given, Packet, Released, Sighting, Used, sightings

MAC = "52:54:00:00:00:61"
ADDRESS, SERVER = "192.168.77.50", "192.168.77.1"
DHCP_OPTIONS = {53: b"\5", 51: struct.pack("!I", 3600), 54: socket.inet_aton(SERVER)}


def packet(ethertype: int, payload: bytes, *, towards_guest: bool) -> Packet:
    return Packet("vnet0", towards_guest, "", MAC, ethertype, payload)


def ipv4(source: str, destination: str, sport: int, dport: int, content: bytes, fragment: int = 0) -> bytes:
    body = struct.pack("!HHHH", sport, dport, 8 + len(content), 0) + content
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, fragment, 64, 17, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(destination) + body


def dhcp(reply: bool, options: dict[int, bytes], *, own: str = "0.0.0.0", given: str = "0.0.0.0") -> bytes:
    head = struct.pack("!BBBBIHH", 2 if reply else 1, 1, 6, 0, 7, 0, 0)
    addresses = socket.inet_aton(own) + socket.inet_aton(given) + bytes(8)
    named = b"".join(bytes([code, len(value)]) + value for code, value in options.items())
    client = bytes.fromhex(MAC.replace(":", "")) + bytes(10 + 192)
    return head + addresses + client + bytes.fromhex("63825363") + b"\0" + named + b"\xff"


def ipv6(source: str, destination: str, following: int, body: bytes) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(body), following, 255)
    return head + ip_address(source).packed + ip_address(destination).packed + body


def dhcpv6(kind: int, address: str, valid: int, sport: int, dport: int) -> bytes:
    leased = struct.pack("!HH", 5, 24) + ip_address(address).packed + struct.pack("!II", valid, valid)
    association = struct.pack("!HHIII", 3, 12 + len(leased), 1, 0, 0) + leased
    message = struct.pack("!I", kind << 24 | 0x123456) + struct.pack("!HH", 1, 2) + b"id" + association
    return struct.pack("!HHHH", sport, dport, 8 + len(message), 0) + message


def neighbour(kind: int, target: str) -> bytes:
    return struct.pack("!BBHI", kind, 0, 0, 0) + ip_address(target).packed


def arp(operation: int, sender: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation)
    return head + bytes(6) + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)


ACK = ipv4(SERVER, "255.255.255.255", 67, 68, dhcp(True, DHCP_OPTIONS, given=ADDRESS))
REPLY = ipv6("fe80::1", "fe80::5", 17, dhcpv6(7, "fd77::10", 900, 547, 546))
LEASE = Given(IPv4Address(ADDRESS), 3600, IPv4Address(SERVER), MAC)
USED = Used(IPv4Address(ADDRESS))
TELLING: dict[str, tuple[Packet, tuple[Sighting, ...]]] = {
    "an acknowledgement": (packet(0x800, ACK, towards_guest=True), (LEASE,)),
    "one for ever": (
        packet(
            0x800,
            ipv4(SERVER, ADDRESS, 67, 68, dhcp(True, {**DHCP_OPTIONS, 51: b"\xff" * 4}, given=ADDRESS)),
            towards_guest=True,
        ),
        (Given(IPv4Address(ADDRESS), None, IPv4Address(SERVER), MAC),),
    ),
    "a release": (
        packet(0x800, ipv4(ADDRESS, SERVER, 68, 67, dhcp(False, {53: b"\7"}, own=ADDRESS)), towards_guest=False),
        (USED, Released(IPv4Address(ADDRESS), MAC)),
    ),
    "an address that is refused": (
        packet(
            0x800,
            ipv4("0.0.0.0", "255.255.255.255", 68, 67, dhcp(False, {53: b"\4", 50: socket.inet_aton(ADDRESS)})),
            towards_guest=False,
        ),
        (Released(IPv4Address(ADDRESS), MAC),),
    ),
    "traffic": (packet(0x800, ipv4(ADDRESS, SERVER, 9, 9, b""), towards_guest=False), (USED,)),
    "an ARP request": (packet(0x806, arp(1, ADDRESS, SERVER), towards_guest=False), (USED,)),
    "an ARP reply": (packet(0x806, arp(2, ADDRESS, SERVER), towards_guest=False), (USED,)),
    "an ARP probe": (packet(0x806, arp(1, "0.0.0.0", ADDRESS), towards_guest=False), (USED,)),
    "a claim": (
        packet(0x86DD, ipv6("::", "ff02::1:ff00:10", 58, neighbour(135, "fd77::10")), towards_guest=False),
        (Claimed(IPv6Address("fd77::10")),),
    ),
    "a defence": (
        packet(0x86DD, ipv6("fd77::10", "ff02::1", 58, neighbour(136, "fd77::10")), towards_guest=True),
        (Defended(IPv6Address("fd77::10")),),
    ),
    "a DHCPv6 reply": (
        packet(0x86DD, REPLY, towards_guest=True),
        (Given(IPv6Address("fd77::10"), 900, IPv6Address("fe80::1"), IPv6Address("fe80::5")),),
    ),
    "a DHCPv6 reply that takes an address away": (
        packet(0x86DD, ipv6("fe80::1", "fe80::5", 17, dhcpv6(7, "fd77::10", 0, 547, 546)), towards_guest=True),
        (Released(IPv6Address("fd77::10"), IPv6Address("fe80::5")),),
    ),
    "a DHCPv6 release": (
        packet(0x86DD, ipv6("fe80::5", "ff02::1:2", 17, dhcpv6(8, "fd77::10", 0, 546, 547)), towards_guest=False),
        (Released(IPv6Address("fd77::10"), IPv6Address("fe80::5")),),
    ),
}
SILENT: dict[str, Packet] = {
    "an acknowledgement of the guest's own": packet(
        0x800,
        ipv4("0.0.0.0", "255.255.255.255", 67, 68, dhcp(True, DHCP_OPTIONS, given=ADDRESS)),
        towards_guest=False,
    ),
    "a release towards the guest": packet(
        0x800, ipv4(ADDRESS, SERVER, 68, 67, dhcp(False, {53: b"\7"}, own=ADDRESS)), towards_guest=True
    ),
    "an offer": packet(
        0x800, ipv4(SERVER, ADDRESS, 67, 68, dhcp(True, {**DHCP_OPTIONS, 53: b"\2"}, given=ADDRESS)), towards_guest=True
    ),
    "a fragment": packet(
        0x800, ipv4(SERVER, ADDRESS, 67, 68, dhcp(True, DHCP_OPTIONS, given=ADDRESS), 0x2000), towards_guest=True
    ),
    "a multicast lease": packet(
        0x800, ipv4(SERVER, ADDRESS, 67, 68, dhcp(True, DHCP_OPTIONS, given="224.0.0.1")), towards_guest=True
    ),
    "multicast as a source": packet(0x800, ipv4("224.0.0.1", SERVER, 9, 9, b""), towards_guest=False),
    "a claim of a group": packet(0x86DD, ipv6("::", "ff02::1", 58, neighbour(135, "ff02::5")), towards_guest=False),
    "a question for a neighbour": packet(
        0x86DD, ipv6("fe80::5", "ff02::1", 58, neighbour(135, "fd77::10")), towards_guest=False
    ),
    "another ethertype": packet(0x88B5, ACK, towards_guest=True),
}


@pytest.mark.parametrize("name", TELLING)
def test_a_packet_tells(name: str) -> None:
    seen, told = TELLING[name]
    assert sightings(seen) == told


@pytest.mark.parametrize("name", SILENT)
def test_a_packet_tells_nothing(name: str) -> None:
    assert sightings(SILENT[name]) == ()


@pytest.mark.parametrize("whole", [ACK[:-1], REPLY], ids=["DHCP", "DHCPv6"])
def test_a_packet_that_is_cut_off_gives_no_lease_but_the_one_in_it(whole: bytes) -> None:
    kind = 0x800 if whole[0] >> 4 == 4 else 0x86DD
    complete = sightings(packet(kind, whole, towards_guest=True))
    for length in range(len(whole)):
        told = sightings(packet(kind, whole[:length], towards_guest=True))
        assert all(isinstance(one, Given) and one.address in {c.address for c in complete} for one in told)


@given(
    st.binary(max_size=400),
    st.sampled_from([0x800, 0x806, 0x86DD]),
    st.booleans(),
    st.sampled_from([b"", ACK, ACK[:240], REPLY, arp(1, ADDRESS, SERVER)]),
)
def test_no_packet_breaks_the_reader(data: bytes, ethertype: int, towards_guest: bool, start: bytes) -> None:
    sightings(packet(ethertype, start + data, towards_guest=towards_guest))
