"""Filters on the kernel, seen by packets: a bridge, two guests and the host, filters bound to guest one."""

import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.filtering import (
    HOST4,
    HOST6,
    Bench,
    Tap,
    arp,
    bridge,
    ethernet,
    plug,
    wait_for_forwarding,
)
from support.netns import Lab, Namespace
from support.waiting import SILENCE

from vnetd.linux.nft import LinuxNft
from vnetd.model.filter import Filter
from vnetd.xmlcodec.filter import filter_from_xml
from vnetd.xmlcodec.filter_builtin import builtin_filters

DOCUMENTS = Path(__file__).parent.parent / "golden" / "filter" / "documents"
BROADCAST = "ff:ff:ff:ff:ff:ff"
STRANGER = "52:54:00:00:99:99"
IPV4, ARP, IPV6, RARP = 0x800, 0x806, 0x86DD, 0x8035


def user_filters() -> dict[str, Filter]:
    """Every filter document of the tests beside the built-in filters."""
    parsed = [filter_from_xml(path.read_text()).value for path in sorted(DOCUMENTS.glob("filter-*.xml"))]
    return {**builtin_filters(), **{one.name: one for one in parsed}}


@pytest.fixture
async def bench(lab: Lab, inside_host: Namespace) -> AsyncIterator[Bench]:
    bridge(inside_host)
    one, two = plug(lab, inside_host, 11), plug(lab, inside_host, 12)
    wait_for_forwarding(inside_host, one, two)
    nft = LinuxNft()
    await nft.open()
    made = Bench(inside_host, one, two, nft, user_filters())
    yield made
    made.close()
    await nft.close()


def define(bench: Bench, text: str) -> str:
    """Add a filter and return its name."""
    new = filter_from_xml(text).value
    bench.filters = {**bench.filters, new.name: new}
    return new.name


async def test_blockicmp_stops_ping_both_ways_and_leaves_tcp_alone(bench: Bench) -> None:
    bench.serve(bench.one.namespace, "tcp:22")
    await bench.bind(bench.one, "blockicmp")
    assert not bench.two.pings(bench.one.address4, wait=SILENCE)
    assert not bench.one.pings(bench.two.address4, wait=SILENCE)
    assert bench.host.ping(bench.one.address4, wait=SILENCE) == 0
    assert bench.two.reaches(bench.one.address4, 22)
    assert bench.two.pings(bench.one.address6)
    await bench.unbind(bench.one)
    assert bench.two.pings(bench.one.address4)
    assert bench.host.ping(bench.one.address4) == 1


async def test_a_filter_on_one_guest_does_not_touch_another(bench: Bench) -> None:
    await bench.bind(bench.one, "blockicmp")
    assert bench.two.pings(HOST4)
    await bench.bind(bench.two, "blockicmp")
    assert not bench.two.pings(HOST4, wait=SILENCE)
    await bench.unbind(bench.one)
    assert not bench.two.pings(HOST4, wait=SILENCE)
    assert bench.one.pings(HOST4)


async def test_blockip_lets_a_guest_send_from_its_own_address_only(bench: Bench) -> None:
    await bench.bind(bench.one, "blockip", IP=[bench.one.address4])
    assert bench.one.pings(HOST4)
    await bench.bind(bench.one, "blockip", IP=["10.7.0.99"])
    assert not bench.one.pings(HOST4, wait=SILENCE)
    assert bench.one.pings(HOST6)


async def test_blockip_with_several_addresses_drops_all_and_says_so(bench: Bench) -> None:
    compiled = await bench.bind(bench.one, "blockip", IP=[bench.one.address4, "10.7.0.99"])
    assert not bench.one.pings(HOST4, wait=SILENCE)
    assert any("surely a mistake" in warning for warning in compiled.warnings)


async def test_two_negated_attributes_mean_neither_this_nor_that(bench: Bench) -> None:
    bench.serve(bench.one.namespace, "tcp:22")
    addresses = f"srcipaddr='{bench.two.address4}' dstipaddr='10.7.0.250'"
    rule = f"<rule action='drop' direction='in'><tcp match='no' {addresses}/></rule>"
    await bench.bind(bench.one, define(bench, f"<filter name='neither'>{rule}</filter>"))
    assert bench.two.reaches(bench.one.address4, 22)
    assert not bench.host_reaches(bench.one.address4, 22, wait=SILENCE)


async def test_testfilter1_lets_in_ssh_and_http_and_out_ping_and_dns_and_nothing_else(bench: Bench) -> None:
    bench.serve(bench.one.namespace, "tcp:22", "tcp:80", "tcp:81", "udp:53", "udp:5000")
    bench.serve(bench.two.namespace, "tcp:22", "udp:53", "udp:5000")
    bench.serve(bench.host, "udp:53")
    await bench.bind(bench.one, "testfilter1", IP=[bench.one.address4])
    assert bench.two.reaches(bench.one.address4, 22)
    assert bench.host_reaches(bench.one.address4, 80)
    assert not bench.two.reaches(bench.one.address4, 81, wait=SILENCE)
    assert not bench.one.reaches(bench.two.address4, 22, wait=SILENCE)
    assert bench.one.pings(bench.two.address4)
    assert bench.one.pings(HOST4)
    assert not bench.two.pings(bench.one.address4, wait=SILENCE)
    assert bench.one.answers(bench.two.address4, 53)
    assert bench.one.answers(HOST4, 53)
    assert not bench.one.answers(bench.two.address4, 5000, wait=SILENCE)
    assert not bench.two.answers(bench.one.address4, 53, wait=SILENCE)
    assert not bench.one.pings(HOST6, wait=SILENCE)


async def test_a_new_connection_from_the_port_of_a_service_is_no_reply(bench: Bench) -> None:
    bench.serve(bench.two.namespace, "tcp:4000")
    await bench.bind(bench.one, "testfilter1", IP=[bench.one.address4])
    assert not bench.one.reaches(bench.two.address4, 4000, sport=22, wait=SILENCE)
    bench.serve(bench.one.namespace, "tcp:22")
    assert bench.two.reaches(bench.one.address4, 22)


async def test_an_unasked_echo_reply_does_not_get_in(bench: Bench) -> None:
    await bench.bind(bench.one, "testfilter1", IP=[bench.one.address4])
    reply = echo_reply(bench.two.address4, bench.one.address4)
    frame = ethernet(bench.two.mac, bench.one.mac, IPV4, reply)
    with Tap(bench.one, IPV4) as tap:
        bench.two.send_frame(frame)
        assert not tap.sees(frame, wait=SILENCE)
        assert bench.one.pings(bench.two.address4)
        bench.two.send_frame(frame)
        assert tap.sees(frame)


async def test_a_guest_cannot_pass_off_its_own_packets_as_replies_to_what_it_made_up(bench: Bench) -> None:
    """Neither may an accepted packet with a forged source open the way for another that claims to answer it."""
    name = define(
        bench,
        "<filter name='forger'>"
        "<rule action='accept' direction='out'><udp dstportstart='53'/></rule>"
        "<rule action='accept' direction='in'><udp dstportstart='53'/></rule>"
        "<rule action='drop' direction='inout'><all/></rule></filter>",
    )
    await bench.bind(bench.one, name)
    forged = udp(bench.two.address4, 4000, bench.one.address4, 53)
    wanted = ethernet(bench.one.mac, bench.two.mac, IPV4, udp(bench.one.address4, 53, bench.two.address4, 4000))
    with Tap(bench.two, IPV4) as tap:
        bench.one.send_frame(ethernet(bench.one.mac, bench.two.mac, IPV4, forged))
        bench.one.send_frame(wanted)
        assert not tap.sees(wanted, wait=SILENCE)


async def test_no_mac_spoofing_drops_frames_from_other_addresses(bench: Bench) -> None:
    own = ethernet(bench.one.mac, BROADCAST, 0x88B5, b"own" + bytes(60))
    spoofed = ethernet(STRANGER, BROADCAST, 0x88B5, b"spoofed" + bytes(60))
    with Tap(bench.two, 0x88B5) as tap:
        bench.one.send_frame(spoofed)
        assert tap.sees(spoofed)
        await bench.bind(bench.one, "no-mac-spoofing")
        bench.one.send_frame(spoofed)
        bench.one.send_frame(own)
        assert tap.sees(own)
        bench.one.send_frame(spoofed)
        assert not tap.sees(spoofed, wait=SILENCE)


async def test_clean_traffic_lets_arp_through_only_with_the_guests_own_addresses(bench: Bench) -> None:
    await bench.bind(bench.one, "clean-traffic", IP=[bench.one.address4])
    honest = ethernet(bench.one.mac, BROADCAST, ARP, arp(1, bench.one.mac, bench.one.address4, "10.7.0.77"))
    false_ip = ethernet(bench.one.mac, BROADCAST, ARP, arp(1, bench.one.mac, "10.7.0.1", "10.7.0.77"))
    false_mac = ethernet(bench.one.mac, BROADCAST, ARP, arp(1, STRANGER, bench.one.address4, "10.7.0.77"))
    with Tap(bench.two, ARP) as tap:
        for frame in (false_ip, false_mac):
            bench.one.send_frame(frame)
            assert not tap.sees(frame, wait=SILENCE)
        bench.one.send_frame(honest)
        assert tap.sees(honest)
    assert bench.one.pings(bench.two.address4)
    assert not bench.one.pings(bench.two.address6, wait=SILENCE)


async def test_clean_traffic_drops_ip_hidden_in_a_vlan(bench: Bench) -> None:
    await bench.bind(bench.one, "clean-traffic", IP=[bench.one.address4])
    packet = udp(bench.one.address4, 4000, bench.two.address4, 53)
    tagged = ethernet(bench.one.mac, bench.two.mac, 0x8100, bytes.fromhex("00050800") + packet)
    plain = ethernet(bench.one.mac, bench.two.mac, IPV4, packet)
    with Tap(bench.two, 0x0003) as tap:  # every frame
        bench.one.send_frame(tagged)
        bench.one.send_frame(plain)
        assert tap.sees(plain)
        bench.one.send_frame(tagged)
        assert not tap.sees(ethernet(bench.one.mac, bench.two.mac, IPV4, packet), wait=SILENCE)


async def test_clean_traffic_lets_a_migrated_guest_announce_itself(bench: Bench) -> None:
    await bench.bind(bench.one, "clean-traffic", IP=[bench.one.address4])
    await bench.bind(bench.two, "clean-traffic", IP=[bench.two.address4])
    mac = bench.one.mac
    announced = ethernet(mac, BROADCAST, RARP, arp(3, mac, "0.0.0.0", "0.0.0.0", mac))
    other = ethernet(mac, BROADCAST, RARP, arp(3, mac, "0.0.0.0", "0.0.0.0", STRANGER))
    await bench.unbind(bench.two)
    with Tap(bench.two, RARP) as tap:
        bench.one.send_frame(other)
        assert not tap.sees(other, wait=SILENCE)
        bench.one.send_frame(announced)
        assert tap.sees(announced)


async def test_several_addresses_of_a_guest_are_all_its_own(bench: Bench) -> None:
    bench.one.namespace.run("ip", "address", "add", "10.7.0.13/24", "dev", "eth0")
    await bench.bind(bench.one, "clean-traffic", IP=[bench.one.address4, "10.7.0.13"])
    for source in (bench.one.address4, "10.7.0.13"):
        assert bench.one.namespace.ping(HOST4, source=source)
    await bench.bind(bench.one, "clean-traffic", IP=[bench.one.address4])
    assert not bench.one.namespace.ping(HOST4, source="10.7.0.13", wait=SILENCE)


async def test_two_guests_share_all_chains_but_those_that_name_their_addresses(bench: Bench) -> None:
    compiled = [
        await bench.bind(bench.one, "clean-traffic", IP=[bench.one.address4]),
        await bench.bind(bench.two, "clean-traffic", IP=[bench.two.address4]),
    ]
    assert bench.one.pings(bench.two.address4)
    names = [{chain.name for chain in one.fragment.chains} for one in compiled]
    assert len(names[0] & names[1]) > 8
    assert all("rarp" in name for name in names[0] ^ names[1])


async def test_ipv6_rules_reach_ipv6_only(bench: Bench) -> None:
    bench.serve(bench.one.namespace, "tcp:22", "tcp:80")
    name = define(
        bench,
        "<filter name='six'>"
        "<rule action='accept' direction='inout'><icmpv6/></rule>"
        "<rule action='accept' direction='in'><tcp-ipv6 dstportstart='22'/></rule>"
        "<rule action='drop' direction='inout'><all-ipv6/></rule></filter>",
    )
    await bench.bind(bench.one, name)
    assert bench.two.pings(bench.one.address6)
    assert bench.two.reaches(bench.one.address6, 22)
    assert not bench.two.reaches(bench.one.address6, 80, wait=SILENCE)
    assert bench.two.reaches(bench.one.address4, 80)


async def test_no_ipv6_spoofing_lets_a_guest_send_from_its_own_address_only(bench: Bench) -> None:
    await bench.bind(bench.one, "no-ipv6-spoofing", IPV6=[bench.one.address6])
    neighbour = bench.one.namespace
    neighbour.run("ip", "neighbour", "replace", HOST6, "lladdr", host_mac(bench.host), "dev", "eth0")
    assert bench.one.pings(HOST6)
    await bench.bind(bench.one, "no-ipv6-spoofing", IPV6=["fd07::99"])
    assert not bench.one.pings(HOST6, wait=SILENCE)


async def test_everything_accepted_out_brings_replies_and_nothing_unasked(bench: Bench) -> None:
    bench.serve(bench.one.namespace, "tcp:22", "udp:53")
    bench.serve(bench.two.namespace, "tcp:22", "udp:53")
    name = define(
        bench,
        "<filter name='outward'>"
        "<rule action='accept' direction='out'><all/></rule>"
        "<rule action='accept' direction='out'><all-ipv6/></rule>"
        "<rule action='accept' direction='inout' priority='100'><icmpv6/></rule>"
        "<rule action='drop' direction='inout'><all/></rule>"
        "<rule action='drop' direction='inout'><all-ipv6/></rule></filter>",
    )
    await bench.bind(bench.one, name)
    for two, one in ((bench.two.address4, bench.one.address4), (bench.two.address6, bench.one.address6)):
        assert bench.one.reaches(two, 22)
        assert bench.one.answers(two, 53)
        assert not bench.two.reaches(one, 22, wait=SILENCE)
        assert not bench.two.answers(one, 53, wait=SILENCE)
    assert not bench.two.pings(bench.one.address4, wait=SILENCE)
    assert bench.one.pings(bench.two.address4)


async def test_a_rule_without_state_matching_needs_a_rule_for_the_way_back(bench: Bench) -> None:
    bench.serve(bench.two.namespace, "udp:53")
    rule = "<rule action='accept' direction='out'{0}><udp dstportstart='53'/></rule>"
    drop = "<rule action='drop' direction='in'><udp srcportend='1' srcportstart='0'/></rule>"
    name = define(bench, f"<filter name='stateless'>{rule.format(' statematch=' + repr('0'))}{drop}</filter>")
    compiled = await bench.bind(bench.one, name)
    assert not any(one.dynamic for one in compiled.fragment.sets)
    assert bench.one.answers(bench.two.address4, 53)


async def test_no_packet_slips_through_while_a_filter_changes(bench: Bench) -> None:
    drops = "<rule action='drop' direction='in'><icmp/></rule>"
    second = f"<filter name='second'>{drops}<rule action='drop' direction='in'><icmpv6/></rule></filter>"
    define(bench, second)
    await bench.bind(bench.one, "blockicmp")
    flood = bench.two.namespace.start("ping", "-n", "-i", "0.002", "-c", "400", "-W", str(SILENCE), bench.one.address4)
    changes = 0
    while flood.poll() is None:
        await bench.bind(bench.one, ("second", "blockicmp")[changes % 2])
        changes += 1
    assert flood.returncode == 1  # not one answer
    assert changes > 20
    await bench.bind(bench.one, "second")
    assert not bench.two.pings(bench.one.address6, wait=SILENCE)


def host_mac(host: Namespace) -> str:
    link = host.link("br0")
    assert link is not None
    return str(link["address"])


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def ip_packet(source: str, destination: str, protocol: int, content: bytes) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(content), 1, 0, 64, protocol)
    return head + checksum(head + b"\0\0" + addresses) + addresses + content


def echo_reply(source: str, destination: str) -> bytes:
    body = bytes.fromhex("1234000161626364")
    return ip_packet(source, destination, 1, b"\0\0" + checksum(b"\0\0\0\0" + body) + body)


def udp(source: str, sport: int, destination: str, dport: int) -> bytes:
    return ip_packet(source, destination, 17, struct.pack("!HHHH", sport, dport, 12, 0) + b"data")
