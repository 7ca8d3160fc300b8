"""States, limits of connections and rejection, by packets: what the kernel's connection tracking knows of them."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import frames as f
from support.frames import Frame, ip
from support.lanes import Lane, lanes
from support.waiting import wait_until

from vnetd.linux.nft import LinuxNft
from vnetd.plan.ledger import Ledger
from vnetd.ruleset.filter import compile_binding
from vnetd.xmlcodec.filter import filter_from_xml

GUEST, PEER, OTHER = (f"52:54:00:00:01:0{n}" for n in (1, 2, 3))
ENDS = {4: ("10.1.0.1", "10.1.0.2", "10.1.0.3"), 6: ("fd01::1", "fd01::2", "fd01::3")}
SYN, ACK, RST, SYN_ACK = 0x02, 0x10, 0x04, 0x12
REST = "<rule action='drop' direction='inout' priority='1000'><all/></rule>"
REST6 = "<rule action='drop' direction='inout' priority='1000'><all-ipv6/></rule>"
tracked = pytest.mark.stock_kernel("nft-bridge-conntrack")
either = pytest.mark.stock_kernel("nft-bridge-conntrack", here=True)


class Port:
    """A guest's port, and what its guest (``out``) and peers send through it."""

    def __init__(self, nft: LinuxNft, lane: Lane) -> None:
        self._nft, self._lane, self._ledger = nft, lane, Ledger()

    async def bind(self, *rules: str) -> None:
        """Put rules in force, which are then listed as they were written."""
        text = f"<filter name='f'>{''.join(rules)}</filter>"
        found = {"f": filter_from_xml(text).value}
        part = compile_binding(found, "f", self._lane.device, GUEST, {}, self._nft.features).fragment
        proposal = self._ledger.propose({self._lane.device: part})
        await self._nft.commit(proposal.remove, proposal.add)
        self._ledger.accept(proposal)
        listed = await self._nft.table("bridge")
        assert listed is not None
        assert [one.what for one in self._ledger.drift_table("bridge", listed).what] == []

    def out(self, frame: Frame) -> bool:
        """Whether what the guest sends arrives."""
        return self._lane.passes(frame.encode(), True)

    def comes(self, frame: Frame) -> bool:
        """Whether what is sent to the guest arrives."""
        return self._lane.passes(frame.encode(), False)

    def told(self) -> bytes | None:
        """What the bridge itself sent to the guest."""
        return self._lane.next(False, 1)


@pytest.fixture
def lane() -> Iterator[Lane]:
    with lanes(1) as (made,):
        yield made


@pytest.fixture
async def port(lane: Lane) -> AsyncIterator[Port]:
    nft = LinuxNft()
    await nft.open()
    yield Port(nft, lane)
    await nft.clear()
    await nft.close()


def rule(action: str, direction: str, match: str, priority: int = 500, more: str = "") -> str:
    return f"<rule action='{action}' direction='{direction}' priority='{priority}' {more}>{match}</rule>"


def out(protocol: int, version: int = 4, **fields: Any) -> Frame:
    """A packet from the guest to its peer."""
    own, peer, _ = ENDS[version]
    return Frame(GUEST, PEER, f.IPV4 if version == 4 else f.IPV6, ip(own, peer, protocol, **fields))


def comes(protocol: int, version: int = 4, source: str = "", **fields: Any) -> Frame:
    """A packet to the guest."""
    own, peer, _ = ENDS[version]
    kind = f.IPV4 if version == 4 else f.IPV6
    return Frame(PEER, GUEST, kind, ip(source or peer, own, protocol, **fields))


def error(about: Frame) -> Frame:
    """The peer's message that a packet could not be delivered."""
    four = about.kind == f.IPV4
    kind = {"type": 3 if four else 1, "code": 3 if four else 4, "about": about}
    return comes(f.ICMP if four else f.ICMPV6, 4 if four else 6, **kind)


@tracked
@pytest.mark.parametrize("version", [4, 6])
async def test_an_error_about_an_accepted_flow_is_related_and_not_new(port: Port, version: int) -> None:
    six = "" if version == 4 else "-ipv6"
    icmp, rest = ("icmp", REST) if version == 4 else ("icmpv6", REST6)
    asks = rule("accept", "out", f"<udp{six}/>")
    question, never = (out(f.UDP, version, sport=4000, dport=dport) for dport in (53, 54))
    ping = comes(f.ICMP if version == 4 else f.ICMPV6, version)
    await port.bind(asks, rule("accept", "in", f"<{icmp} state='RELATED'/>"), rest)
    assert port.out(question)
    assert port.comes(error(question))
    assert not port.comes(error(never))
    assert not port.comes(ping)
    await port.bind(asks, rule("accept", "in", f"<{icmp} state='NEW'/>"), rest)
    assert port.out(question)
    assert not port.comes(error(question))
    assert port.comes(ping)


@tracked
async def test_what_is_established_or_related_gets_in_and_nothing_else(port: Port) -> None:
    await port.bind(
        rule("accept", "out", "<all state='NEW,ESTABLISHED'/>"),
        rule("accept", "in", "<all state='ESTABLISHED,RELATED'/>"),
        REST,
    )
    question, ping = out(f.UDP, sport=4000, dport=53), out(f.ICMP, identifier=5)
    assert not port.comes(question.answer())
    assert not port.comes(ping.answer())
    assert port.out(question) and port.out(ping)
    assert port.comes(question.answer()) and port.comes(error(question)) and port.comes(ping.answer())
    assert not port.comes(comes(f.UDP, sport=53, dport=4001))
    assert not port.comes(comes(f.ICMP, type=0, identifier=6))


def greets(sport: int = 4000, **fields: Any) -> tuple[Frame, Frame, Frame]:
    """How a peer and the guest begin a connection to the guest's port 22."""
    there = comes(f.TCP, sport=sport, dport=22, flags=SYN, sequence=(1000, 0), **fields)
    back = replace(there.answer(), fields={**there.answer().fields, "flags": SYN_ACK, "sequence": (2000, 1001)})
    return there, back, replace(there, fields={**there.fields, "flags": ACK, "sequence": (1001, 2001)})


@tracked
@pytest.mark.parametrize("negated", [False, True], ids=["dropped", "not accepted"])
async def test_a_segment_out_of_any_connection_is_invalid(port: Port, negated: bool) -> None:
    drops = [rule("drop", "inout", "<tcp state='INVALID'/>")]
    accepts = [rule("accept", "inout", "<tcp match='no' state='INVALID'/>"), REST]
    await port.bind(*(accepts if negated else drops))
    assert not port.comes(comes(f.TCP, sport=4000, dport=22, flags=RST))
    assert not port.out(out(f.TCP, sport=22, dport=4000, flags=SYN_ACK))
    syn, syn_ack, ack = greets()
    assert port.comes(syn) and port.out(syn_ack) and port.comes(ack)
    inside, outside = (replace(ack, fields={**ack.fields, "sequence": (at, 2001)}) for at in (1001, 9_001_001))
    assert port.comes(inside)
    assert not port.comes(outside)


@tracked
async def test_an_answer_with_the_wrong_numbers_is_none(port: Port) -> None:
    await port.bind(rule("accept", "in", "<tcp dstportstart='22'/>"), REST)
    syn, syn_ack, ack = greets()
    assert port.comes(syn) and port.out(syn_ack) and port.comes(ack)
    right, wrong = (
        replace(syn_ack, fields={**syn_ack.fields, "flags": ACK, "sequence": (at, 1001)}) for at in (2001, 9_002_001)
    )
    assert port.out(right)
    assert not port.out(wrong)


@either
async def test_a_server_takes_connections_and_makes_none(port: Port) -> None:
    await port.bind(
        rule("accept", "in", "<tcp dstportstart='22' state='NEW,ESTABLISHED'/>"),
        rule("accept", "out", "<tcp srcportstart='22' state='ESTABLISHED'/>"),
        REST,
    )
    syn, syn_ack, ack = greets()
    assert not port.out(syn_ack)
    assert port.comes(syn) and port.out(syn_ack) and port.comes(ack)
    assert not port.out(out(f.TCP, sport=22, dport=4001))


@either
async def test_what_was_not_answered_yet_is_new(port: Port) -> None:
    unanswered = "<ip protocol='udp' srcportstart='53'/>"
    await port.bind(rule("drop", "in", unanswered), rule("drop", "out", "<udp state='ESTABLISHED'/>"))
    unheard, heard = out(f.UDP, dport=53), out(f.UDP, dport=54)
    assert port.out(unheard) and not port.comes(unheard.answer())
    assert port.out(unheard), "its answer did not pass"
    assert port.out(heard) and port.comes(heard.answer())
    assert not port.out(heard)


@either
async def test_a_guest_answers_only_what_came_through_its_port(port: Port) -> None:
    """Not what it made up itself, although the kernel then knows such a connection."""
    await port.bind(
        rule("accept", "in", "<udp dstportstart='53' state='NEW,ESTABLISHED'/>"),
        rule("accept", "out", "<udp srcportstart='53' state='ESTABLISHED'/>"),
        rule("accept", "out", "<udp dstportstart='53' state='NEW'/>"),
        REST,
    )
    question = comes(f.UDP, sport=4000, dport=53)
    assert port.out(question), "it passes for a question of the guest's"
    assert not port.out(question.answer())
    assert port.comes(replace(question, fields={**question.fields, "sport": 4001}))
    assert port.out(replace(question.answer(), fields={**question.answer().fields, "dport": 4001}))


@either
async def test_without_state_matching_states_are_no_condition(port: Port) -> None:
    ignored = "<tcp dstportstart='22' state='INVALID'/>"
    await port.bind(rule("accept", "in", ignored, more="statematch='false'"), REST)
    for unasked in (SYN, SYN_ACK, RST):
        assert port.comes(comes(f.TCP, sport=4000 + unasked, dport=22, flags=unasked))
        assert port.out(out(f.TCP, sport=22, dport=5000 + unasked, flags=unasked))
    assert not port.comes(comes(f.TCP, sport=22, dport=4000))


LIMITED = {
    "dropped above": [rule("drop", "in", "<tcp dstportstart='22' connlimit-above='2'/>")],
    "accepted below": [
        rule("accept", "in", "<tcp dstportstart='22'/><tcp match='no' connlimit-above='2'/>"),
        rule("drop", "in", "<tcp dstportstart='22' state='NEW,ESTABLISHED'/>"),
    ],
}


@tracked
@pytest.mark.parametrize("how", LIMITED)
async def test_the_third_connection_of_a_source_waits_until_one_has_ended(port: Port, how: str) -> None:
    await port.bind(*LIMITED[how])
    for sport in (1, 2):
        syn, syn_ack, ack = greets(sport)
        assert port.comes(syn) and port.out(syn_ack) and port.comes(ack)
    third, *_ = greets(3)
    assert not port.comes(third)
    assert port.comes(replace(third, source=OTHER, fields={**third.fields, "source": ENDS[4][2]})), "another source"
    _, syn_ack, _ = greets(1)
    assert port.out(replace(syn_ack, fields={**syn_ack.fields, "flags": RST | ACK, "sequence": (2001, 1001)}))
    assert wait_until(lambda: port.comes(third), "there are two again")
    assert not port.comes(greets(4)[0])


@tracked
async def test_a_connection_that_has_aged_counts_no_more(port: Port) -> None:
    Path("/proc/sys/net/netfilter/nf_conntrack_udp_timeout").write_text("1")
    await port.bind(rule("drop", "in", "<udp connlimit-above='1'/>"))
    assert port.comes(comes(f.UDP, sport=1))
    assert not port.comes(comes(f.UDP, sport=2))
    assert wait_until(lambda: port.comes(comes(f.UDP, sport=2)), "the first is forgotten")
    assert not port.comes(comes(f.UDP, sport=1))


@pytest.mark.stock_kernel("nft-bridge-reject")
@pytest.mark.parametrize("version", [4, 6])
async def test_what_is_rejected_is_answered_where_the_kernel_can(port: Port, version: int) -> None:
    await port.bind(rule("reject", "out", f"<udp{'' if version == 4 else '-ipv6'} dstportstart='53'/>"))
    question = out(f.UDP, version, dport=53)
    assert not port.out(question)
    answer = port.told()
    assert answer is not None
    at = 34 if version == 4 else 54
    assert answer[at : at + 2] == (b"\x03\x03" if version == 4 else b"\x01\x04"), "port unreachable"
    assert answer[at + 8 :].startswith(question.encode()[14:34]), "and for what"
    assert not port.comes(comes(f.UDP, version, sport=53))
    assert port.out(out(f.UDP, version, dport=54))
