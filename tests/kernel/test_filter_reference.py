"""Filters made up at random do to frames on real taps what a reference evaluator reads out of them."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.abilities import on_stock_kernel
from support.filter_generator import Case, Generator, world
from support.filter_reference import Judge
from support.frames import ICMP, ICMPV6
from support.lanes import PATIENCE, Lane, bound, lanes
from support.netns import Namespace

from vnetd.linux.nft import LinuxNft
from vnetd.model.errors import Invalid, Unsupported
from vnetd.plan.ledger import Ledger

LANES, FRAMES, BATCHES = (12, 30, 3) if on_stock_kernel() else (50, 40, 4)
"""Fewer where Python is emulated."""
PORT_UNREACHABLE = ((b"\x08\x00", ICMP, b"\x03\x03"), (b"\x86\xdd", ICMPV6, b"\x01\x04"))
"""Ethertype, protocol, type and code (RFC 792, RFC 4443); none is made up."""


@pytest.fixture
def bridges(inside_host: Namespace) -> Iterator[Sequence[Lane]]:
    with lanes(LANES) as made:
        yield made


async def in_force(
    nft: LinuxNft, bridges: Sequence[Lane], first: int, batch: int, bridged: bool
) -> list[tuple[Lane, Case, Judge]]:
    """As many made-up filters as there are guests, all put in force at once, each with its judge."""
    ledger, judged, parts = Ledger(), [], {}
    for place, lane in enumerate(bridges):
        here = world(batch, place, bridged and nft.features.tracking)
        generator = Generator(first + place, here)
        while lane.device not in parts:
            case = generator.case(FRAMES)
            try:
                part = bound(lane, bridged, case.filters, "outer", here.macs[0], case.parameters, nft.features)
            except (Invalid, Unsupported):  # a range that ends before it begins, gratuitous before return
                continue
            parts[lane.device] = part
            values = {"MAC": [here.macs[0]], **case.parameters}
            judged.append((lane, case, Judge(case.filters, "outer", values, here.tracked)))
    proposal = ledger.propose(dict(parts))
    await nft.commit(proposal.remove, proposal.add)
    return judged


def disagreement(lane: Lane, case: Case, judge: Judge, fates: Counter[bool]) -> str:
    """The first frame that fares otherwise than the judge says, in words, "" if there is none; counts ``fates``."""
    for place, (out, frame) in enumerate(case.frames):
        expected, wire = judge.passes(frame, out), frame.encode()
        fates[expected] += 1
        lane.send(wire, out)
        if expected and arrived(lane, out) != wire:
            return told(case, place, "does not pass, or one before it did, but should")
        if not expected and (arrived(lane, out, 0) is not None):
            return told(case, place, "passes, but should not")
    if any(arrived(lane, out, 0.01) for out in (True, False)):
        return told(case, len(case.frames) - 1, "or one before it passes, but should not")
    return ""


def arrived(lane: Lane, out: bool, patience: float = PATIENCE) -> bytes | None:
    """The next frame that came out of a lane, but for the bridge's own answers to what it rejects."""
    while found := lane.next(out, patience):
        four, six = (found[12:14], found[23], found[34:36]), (found[12:14], found[20], found[54:56])
        if (four, six)[found[12] == 0x86] not in PORT_UNREACHABLE:
            return found
    return None


def told(case: Case, place: int, what: str) -> str:
    sent = "\n".join(f"  {'from' if out else 'to'} guest: {frame}" for out, frame in case.frames[: place + 1])
    return f"the last of these frames {what}:\n{sent}\n{case.parameters}\n" + "\n".join(case.documents)


batches = count(1)


batched = settings(
    max_examples=BATCHES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.stock_kernel("nft-bridge-conntrack", here=True)  # there replies are told by tracking, not by sets
@batched
@given(first=st.integers(0, 2**32))
def test_made_up_filters_do_what_they_say(bridges: Sequence[Lane], first: int) -> None:
    assert_agreed(bridges, first, bridged=True)


@batched
@given(first=st.integers(0, 2**32))
def test_they_do_the_same_where_no_bridge_is(bridges: Sequence[Lane], first: int) -> None:
    assert_agreed(bridges, first, bridged=False)


def assert_agreed(bridges: Sequence[Lane], first: int, *, bridged: bool) -> None:
    """Each filter of a batch does what the judge says."""
    fates: Counter[bool] = Counter()

    async def run() -> list[str]:
        nft = LinuxNft()
        await nft.open()
        try:
            return [disagreement(*one, fates) for one in await in_force(nft, bridges, first, next(batches), bridged)]
        finally:
            await nft.clear()
            await nft.close()

    found = [one for one in asyncio.run(run()) if one]
    assert min(fates[True], fates[False]) > LANES * FRAMES / 5, "some frames pass and some do not"
    assert not found, f"{len(found)} of {LANES} filters; the first: {found[0]}"
