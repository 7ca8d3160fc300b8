"""Elements written without libnftables: the kernel holds the same, and a refusal leaves nothing behind."""

import errno
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from vnetd.linux.nft import LinuxNft
from vnetd.linux.nft_batch import MOST, BatchWriter
from vnetd.linux.nft_messages import Unsuited
from vnetd.model.errors import HostError
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Set

PORTS = Set("bridge", "ports", ("ifname",))
CHAINS = Set("bridge", "chains", ("ifname",), data="verdict")
HOLDERS = Set("bridge", "holders", ("ifname", "ipv4_addr", "ether_addr"))
NEIGHBOURS = Set("bridge", "neighbours", ("ipv6_addr", "ifname"))
CARDS = Set("bridge", "cards", ("ether_addr",))
SUBNETS = Set("bridge", "subnets", ("ifname", "ipv4_addr"), flags=("interval",))
SERVICES = Set("bridge", "services", ("ifname", "inet_service"))
SETS = (PORTS, CHAINS, HOLDERS, NEIGHBOURS, CARDS, SUBNETS, SERVICES)
BASE = Fragment((Chain("bridge", "inner", ()),), SETS)
KINDS = {(one.family, one.name): one for one in SETS}


def elements(*listed: tuple[Set, tuple[str, ...], str]) -> Fragment:
    return Fragment(elements=frozenset(Element("bridge", one.name, key, data) for one, key, data in listed))


GUEST = elements(
    (PORTS, ("vnet0",), ""),
    (PORTS, ("a-15-byte-name0",), ""),
    (CHAINS, ("vnet0",), "goto inner"),
    (CHAINS, ("vnet1",), "jump inner"),
    *((CHAINS, (f"{verdict}0",), verdict) for verdict in ("accept", "drop", "return", "continue")),
    (HOLDERS, ("vnet0", "192.168.77.9", "52:54:00:00:00:07"), ""),
    (NEIGHBOURS, ("fe80::5054:ff:fe00:7", "vnet0"), ""),
    (CARDS, ("52:54:00:00:00:07",), ""),
)


@pytest.fixture
async def nft() -> AsyncIterator[LinuxNft]:
    linux = LinuxNft(own=False)
    await linux.open()
    await linux.commit(EMPTY, BASE)
    yield linux
    await linux.close()


async def held(nft: LinuxNft) -> frozenset[Element]:
    listed = await nft.table("bridge")
    assert listed is not None
    return frozenset().union(*listed.sets.values())


async def test_elements_are_those_that_libnftables_would_have_made(nft: LinuxNft, writer: BatchWriter) -> None:
    writer.commit(EMPTY, GUEST, KINDS)
    assert await held(nft) == GUEST.elements
    # The library finds each of them by its own bytes, or would refuse to delete it.
    with_chain = Fragment((Chain("bridge", "unsuited", ()),))
    await nft.commit(GUEST, with_chain)
    assert not await held(nft)
    await nft.commit(with_chain, GUEST)
    writer.commit(GUEST, EMPTY, KINDS)
    assert not await held(nft)


async def test_what_goes_makes_room_for_what_comes_in_the_same_transaction(nft: LinuxNft, writer: BatchWriter) -> None:
    before, after = elements((CHAINS, ("vnet0",), "goto inner")), elements((CHAINS, ("vnet0",), "drop"))
    writer.commit(EMPTY, before, KINDS)
    writer.commit(before, after, KINDS)
    assert await held(nft) == after.elements


async def test_a_refused_transaction_changes_nothing_and_the_next_is_taken(nft: LinuxNft, writer: BatchWriter) -> None:
    missing = elements((PORTS, ("vnet8",), ""), (CARDS, ("52:54:00:00:00:08",), ""))
    for _ in range(2):
        with pytest.raises(OSError, match="No such file or directory") as refusal:
            writer.commit(missing, GUEST, KINDS)
        assert refusal.value.errno == errno.ENOENT
        assert not await held(nft)
    with pytest.raises(HostError, match=r"commit rules element .*vnet8.*: No such file or directory"):
        await nft.commit(missing, GUEST)
    await nft.commit(EMPTY, GUEST)
    assert await held(nft) == GUEST.elements
    dangling = elements((CHAINS, ("vnet7",), "goto nowhere"))
    with pytest.raises(OSError, match="No such file or directory"):
        writer.commit(EMPTY, dangling, KINDS)
    writer.commit(GUEST, EMPTY, KINDS)
    assert not await held(nft)


@pytest.mark.parametrize(
    "unsuited",
    [
        replace(GUEST, chains=(Chain("bridge", "other", ()),)),
        replace(GUEST, sets=(Set("bridge", "other", ("ifname",)),)),
        elements((SUBNETS, ("vnet0", "192.168.77.0/24"), "")),
        elements((SERVICES, ("vnet0", "67"), "")),
        elements((HOLDERS, ("vnet0", "192.168.77.0/24", "52:54:00:00:00:07"), "")),
        elements((HOLDERS, ("vnet0", "192.168.77.9", "52:54:00:00:00"), "")),
        elements((PORTS, ("vnet*",), "")),
        elements((PORTS, ("sixteen-letters-",), "")),
        elements((Set("bridge", "unknown", ("ifname",)), ("vnet0",), "")),
        elements(*((PORTS, (f"vnet{number}",), "") for number in range(MOST + 1))),
    ],
)
async def test_what_only_libnftables_can_say_is_left_to_it(
    nft: LinuxNft, writer: BatchWriter, unsuited: Fragment
) -> None:
    for remove, add in ((EMPTY, unsuited), (unsuited, EMPTY)):
        with pytest.raises(Unsuited):
            writer.commit(remove, add, KINDS)
    assert not await held(nft)


async def test_the_host_takes_the_short_way_whenever_it_can(nft: LinuxNft, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def commit(self: BatchWriter, remove: Fragment, add: Fragment, kinds: object) -> None:
        whole(self, remove, add, kinds)  # type: ignore[arg-type]
        taken.append(add)

    whole = BatchWriter.commit
    monkeypatch.setattr(BatchWriter, "commit", commit)
    subnet = elements((SUBNETS, ("vnet0", "192.168.77.0/24"), ""))
    await nft.commit(EMPTY, GUEST)
    await nft.commit(EMPTY, subnet)
    assert taken == [GUEST]
    assert await held(nft) == GUEST.elements | subnet.elements
