"""Every element of filter rules and every attribute, by a frame that it means and one that it does not."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from support import frames as f
from support.abilities import on_stock_kernel
from support.frames import Frame, ip
from support.lanes import Lane, bound, lanes
from support.netns import Namespace

from vnetd.linux.nft import LinuxNft
from vnetd.plan.ledger import Ledger
from vnetd.xmlcodec.filter import filter_from_xml

LANES = 12 if on_stock_kernel() else 40
M, N, X = (f"52:54:00:00:01:0{n}" for n in (1, 2, 3))
A, B, C = "10.1.0.1", "10.1.0.2", "10.2.0.1"
A6, B6, C6 = "fd01::1", "fd01::2", "fd02::1"
Row = tuple[str, Frame, Frame]
Work = tuple[Row, str]
"""A row and the direction it is tried in."""


def four(protocol: int = f.UDP, source: str = A, destination: str = B, **fields: Any) -> Frame:
    return Frame(M, N, f.IPV4, ip(source, destination, protocol, **fields))


def six(protocol: int = f.UDP, source: str = A6, destination: str = B6, **fields: Any) -> Frame:
    return Frame(M, N, f.IPV6, ip(source, destination, protocol, **fields))


def arp(kind: int = f.ARP, **fields: Any) -> Frame:
    first = {"hwtype": 1, "protocoltype": 0x800, "opcode": 1 if kind == f.ARP else 3}
    ends = {"source mac": M, "source": A, "destination mac": N, "destination": B}
    return Frame(M, N, kind, first | ends | {name.replace("_", " "): value for name, value in fields.items()})


def bpdu(**fields: Any) -> Frame:
    found = dict.fromkeys(f.BPDU, 7) | {"type": 0, "root-address": M, "sender-address": M}
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    return Frame(M, f.BRIDGE_GROUP, f.LLC, found | given)


PLAIN = Frame(M, N, 0x88B5)
OTHERS = {"mac": None, "vlan": PLAIN, "stp": PLAIN, "arp": arp(f.RARP), "rarp": arp(), "ip": six(), "ipv6": four()}


def link_rows(name: str, frame: Frame) -> Iterator[Row]:
    """An element of the link layer by itself, and the addresses of the Ethernet header."""
    other = OTHERS[name]
    if other:
        yield f"<{name}/>", frame, other
    yield f"<{name} srcmacaddr='{M}'/>", frame, replace(frame, source=X)
    yield (
        f"<{name} srcmacaddr='{X}' srcmacmask='ff:ff:ff:ff:ff:00'/>",
        frame,
        replace(frame, source="52:54:00:00:02:01"),
    )
    yield f"<{name} match='no' srcmacaddr='{X}'/>", frame, replace(frame, source=X)
    if name != "stp":
        yield f"<{name} dstmacaddr='{N}'/>", frame, replace(frame, destination=X)
        far = replace(frame, destination="52:54:00:00:02:01")
        yield f"<{name} dstmacaddr='{X}' dstmacmask='ff:ff:ff:ff:ff:00'/>", frame, far
        yield f"<{name} match='no' dstmacaddr='{X}'/>", frame, replace(frame, destination=X)


def vlan_rows() -> Iterator[Row]:
    tagged = replace(four(), vlan=5)
    yield from link_rows("vlan", tagged)
    yield "<vlan vlanid='5'/>", tagged, replace(tagged, vlan=6)
    yield "<vlan match='no' vlanid='6'/>", tagged, replace(tagged, vlan=6)
    yield "<vlan encap-protocol='ipv4'/>", tagged, replace(arp(), vlan=5)
    yield "<vlan vlanid='0x5' encap-protocol='0x88b5'/>", replace(PLAIN, vlan=5), tagged
    yield "<mac protocolid='vlan'/>", tagged, four()
    yield "<mac protocolid='ipv4'/>", four(), tagged
    yield "<mac match='no' protocolid='0x88b5'/>", four(), PLAIN


def stp_rows() -> Iterator[Row]:
    yield from link_rows("stp", bpdu())
    for name in ("type", "flags", "root-priority", "root-cost", "sender-priority", "port", "age", "max-age"):
        yield f"<stp {name}='9'/>", bpdu(**{name: 9}), bpdu(**{name: 8})
        yield f"<stp match='no' {name}='9'/>", bpdu(**{name: 8}), bpdu(**{name: 9})
    for name in ("root-priority", "root-cost", "sender-priority", "port", "age", "max-age", "hello-time"):
        yield f"<stp {name}='9' {name}-hi='11'/>", bpdu(**{name: 11}), bpdu(**{name: 12})
    yield "<stp forward-delay='9' forward-delay-hi='11'/>", bpdu(forward_delay=10), bpdu(forward_delay=8)
    yield "<stp hello-time='9' forward-delay='8'/>", bpdu(hello_time=9, forward_delay=8), bpdu(hello_time=9)
    for end in ("root", "sender"):
        yield f"<stp {end}-address='{X}'/>", bpdu(**{f"{end}-address": X}), bpdu()
        mask = "ff:ff:ff:ff:ff:00"
        far = bpdu(**{f"{end}-address": "52:54:00:00:02:01"})
        yield f"<stp {end}-address='{X}' {end}-address-mask='{mask}'/>", bpdu(), far


def arp_rows(name: str, kind: int) -> Iterator[Row]:
    one = arp(kind)
    yield from link_rows(name, one)
    yield f"<{name} hwtype='1'/>", one, arp(kind, hwtype=6)
    yield f"<{name} protocoltype='0x800'/>", one, arp(kind, protocoltype=0x806)
    yield f"<{name} opcode='{'Request' if kind == f.ARP else 'Request_Reverse'}'/>", one, arp(kind, opcode=2)
    yield f"<{name} match='no' opcode='2'/>", one, arp(kind, opcode=2)
    yield f"<{name} gratuitous='true'/>", arp(kind, destination=A), one
    yield f"<{name} match='no' gratuitous='true'/>", one, arp(kind, destination=A)
    for side, end, own, address in (("src", "source", M, A), ("dst", "destination", N, B)):
        yield f"<{name} arp{side}macaddr='{own}'/>", one, arp(kind, **{f"{end}_mac": X})
        yield f"<{name} match='no' arp{side}macaddr='{X}'/>", one, arp(kind, **{f"{end}_mac": X})
        yield f"<{name} arp{side}ipaddr='{address}'/>", one, arp(kind, **{end: C})
        yield f"<{name} arp{side}ipaddr='10.1.9.9' arp{side}ipmask='16'/>", one, arp(kind, **{end: C})


def address_rows(name: str, make: Any, version: int, more: str = "") -> Iterator[Row]:
    """Source and destination addresses with masks."""
    own, far, wide = ((A, B), C, "16") if version == 4 else ((A6, B6), C6, "64")
    for side, end, address in (("src", "source", own[0]), ("dst", "destination", own[1])):
        yield f"<{name} {side}ipaddr='{address}'{more}/>", make(), make(**{end: far})
        yield f"<{name} {side}ipaddr='{own[1]}' {side}ipmask='{wide}'{more}/>", make(), make(**{end: far})
        yield f"<{name} match='no' {side}ipaddr='{far}' {side}ipmask='{wide}'{more}/>", make(), make(**{end: far})


def port_rows(name: str, make: Any, more: str = "") -> Iterator[Row]:
    """Ports and ranges of them."""
    for side, field in (("src", "sport"), ("dst", "dport")):
        yield f"<{name} {more} {side}portstart='80'/>", make(**{field: 80}), make(**{field: 81})
        text = f"<{name} {more} {side}portstart='80' {side}portend='0x5a'/>"
        yield text, make(**{field: 90}), make(**{field: 91})


def ip_rows() -> Iterator[Row]:
    for name, make, version in (("ip", four, 4), ("ipv6", six, 6)):
        yield from link_rows(name, make())
        yield from address_rows(name, make, version)
        yield f"<{name} protocol='udp'/>", make(), make(f.TCP)
        yield f"<{name} match='no' protocol='tcp'/>", make(), make(f.TCP)
        yield from port_rows(name, make, "protocol='udp'")
        yield f"<{name} protocol='udp'/><{name} match='no' dstportstart='81'/>", make(dport=80), make(dport=81)
    yield "<ip dscp='10'/>", four(dscp=10), four()
    yield "<ip match='no' dscp='10'/>", four(), four(dscp=10)
    six_icmp = "<ipv6 protocol='icmpv6' {}/>"
    for text, met, other in (
        ("type='128'", {}, {"type": 129}),
        ("type='128' typeend='130'", {"type": 130}, {"type": 131}),
        ("type='1' typeend='4' code='1' codeend='2'", {"type": 3, "code": 2}, {"type": 3, "code": 3}),
        ("codeend='2'", {"code": 2}, {"code": 3}),
    ):
        yield six_icmp.format(text), six(f.ICMPV6, **met), six(f.ICMPV6, **other)
    pair = "<ipv6 protocol='icmpv6'/><ipv6 match='no' type='1' code='1'/>"
    yield pair, six(f.ICMPV6, type=1, code=2), six(f.ICMPV6, type=1, code=1)
    yield pair, six(f.ICMPV6, type=2, code=1), six(f.ICMPV6, type=1, code=1)


NETWORK = {"tcp": f.TCP, "udp": f.UDP, "sctp": f.SCTP, "udplite": f.UDPLITE, "esp": f.ESP, "ah": f.AH}


def network_rows() -> Iterator[Row]:
    """Elements of the network layer: all have the same attributes, some ports, flags, options, types."""
    for name, number in (*NETWORK.items(), ("igmp", f.IGMP), ("icmp", f.ICMP), ("icmpv6", f.ICMPV6), ("all", f.UDP)):
        for version in (4, 6):
            if (name, version) in {("igmp", 6), ("icmp", 6), ("icmpv6", 4)}:
                continue
            make, base = (four, f.ESP) if version == 4 else (six, f.ESP)
            tag = name if version == 4 or name == "icmpv6" else f"{name}-ipv6"

            def of(make: Any = make, number: int = number, **fields: Any) -> Frame:
                return make(number, **fields)

            yield f"<{tag}/>", of(), (six if version == 4 else four)(number)
            if name != "all":
                yield f"<{tag}/>", of(), make(base if number != base else f.AH)
            yield from address_rows(tag, of, version)
            yield from range_rows(tag, of, version)
            yield f"<{tag} srcmacaddr='{M}'/>", of(), replace(of(), source=X)
            yield f"<{tag} dscp='10'/>", of(dscp=10), of()
            if name in {"tcp", "udp", "sctp"}:
                yield from port_rows(tag, of)
                yield f"<{tag} match='no' srcportstart='80'/>", of(sport=81), of(sport=80)
            if name == "tcp":
                yield from tcp_rows(tag, of)
            if name in {"icmp", "icmpv6"}:
                yield from icmp_rows(tag, of)
                yield f"<{tag} type='3'/>", replace(of(type=3), vlan=5), replace(of(type=4), vlan=5)


def range_rows(tag: str, of: Any, version: int) -> Iterator[Row]:
    first, last, far = (A, "10.1.0.9", "10.1.0.10") if version == 4 else (A6, "fd01::9", "fd01::a")
    for side, end in (("src", "source"), ("dst", "destination")):
        yield f"<{tag} {side}ipfrom='{first}' {side}ipto='{last}'/>", of(**{end: last}), of(**{end: far})


def tcp_rows(tag: str, of: Any) -> Iterator[Row]:
    yield f"<{tag} flags='SYN,ACK/SYN'/>", of(flags=0x02), of(flags=0x12)
    yield f"<{tag} flags='ALL/NONE'/>", of(flags=0), of(flags=0x10)
    yield f"<{tag} flags='ALL/FIN,PSH,URG'/>", of(flags=0x29), of(flags=0x39)
    yield f"<{tag} match='no' flags='SYN/NONE'/>", of(flags=0x02), of(flags=0x10)
    for option in (2, 30, 77):
        yield f"<{tag} option='{option}'/>", of(option=option), of(option=78)
        yield f"<{tag} match='no' option='{option}'/>", of(), of(option=option)


def icmp_rows(tag: str, of: Any) -> Iterator[Row]:
    yield f"<{tag} type='3'/>", of(type=3), of(type=4)
    yield f"<{tag} type='3' code='1'/>", of(type=3, code=1), of(type=3, code=2)
    yield f"<{tag} match='no' type='3'/>", of(type=4), of(type=3)
    yield f"<{tag} match='no' type='3' code='1'/>", of(type=3, code=2), of(type=3, code=1)
    yield f"<{tag} match='no' type='3' code='1'/>", of(type=4, code=1), of(type=3, code=1)


ROWS = {
    "mac": list(link_rows("mac", PLAIN)),
    "vlan": list(vlan_rows()),
    "stp": list(stp_rows()),
    "arp": list(arp_rows("arp", f.ARP)),
    "rarp": list(arp_rows("rarp", f.RARP)),
    "ip": list(ip_rows()),
    "network": list(network_rows()),
}


@pytest.fixture
def bridges(inside_host: Namespace) -> Iterator[Sequence[Lane]]:
    with lanes(LANES) as made:
        yield made


async def bind(nft: LinuxNft, ledger: Ledger, dropped: Mapping[Lane, Work], bridged: bool) -> None:
    """Have each lane's guest filtered by one dropping rule."""
    parts = {}
    for lane, ((match, _, _), direction) in dropped.items():
        rule = f"<rule action='drop' direction='{direction}'>{match}</rule>"
        filters = {"f": filter_from_xml(f"<filter name='f'>{rule}</filter>").value}
        parts[lane.device] = bound(lane, bridged, filters, "f", M, {}, nft.features)
    proposal = ledger.propose(parts)
    await nft.commit(proposal.remove, proposal.add)
    ledger.accept(proposal)


def disagreement(lane: Lane, work: Work, tag: int) -> str:
    """What is wrong with a rule's fate of the frame it means and of the other one, "" if nothing is."""
    (match, met, other), direction = work
    met, other, out = replace(met, tag=tag), replace(other, tag=tag + 1), direction == "out"
    lane.send(met.encode(), out)
    lane.send(other.encode(), out)
    came = lane.next(out, 2)
    if came == other.encode():
        return ""
    what = "drops what it does not mean" if came is None else "does not drop what it means"
    return f"{match} {direction} {what}: {met}, {other}"


PLACES = [
    pytest.param(True, id="in a bridge", marks=pytest.mark.stock_kernel("nft-bridge-conntrack", here=True)),
    pytest.param(False, id="in none"),
]


@pytest.mark.parametrize("bridged", PLACES)
def test_an_element_with_its_attributes_means_some_frames_and_not_others(
    bridges: Sequence[Lane], bridged: bool
) -> None:
    work = [(row, direction) for rows in ROWS.values() for row in rows for direction in ("out", "in")]
    wrong: list[str] = []

    async def run() -> None:
        nft, ledger = LinuxNft(), Ledger()
        await nft.open()
        for first in range(0, len(work), LANES):
            batch = dict(zip(bridges, work[first : first + LANES], strict=False))
            await bind(nft, ledger, batch, bridged)
            wrong.extend(disagreement(lane, one, 2 * first + 1) for lane, one in batch.items())
        await nft.clear()
        await nft.close()

    asyncio.run(run())
    assert len(work) > 500
    assert not any(wrong), "\n".join([one for one in wrong if one][:20])
