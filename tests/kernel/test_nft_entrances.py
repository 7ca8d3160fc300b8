"""Base chains at devices written without libnftables: the kernel holds what libnftables would have made it hold."""

import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from vnetd.linux.netlink import NETLINK_NETFILTER, Attributes, ReadSocket, attributes
from vnetd.linux.nft import LinuxNft
from vnetd.linux.nft_batch import MOST, BatchWriter
from vnetd.linux.nft_json import TABLE
from vnetd.linux.nft_messages import FAMILY, GENERIC, SUBSYSTEM, Unsuited, text
from vnetd.model.errors import HostError
from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Hook, Json, Set
from vnetd.ruleset.expressions import ACCEPT, match, meta, payload, vmap
from vnetd.ruleset.unbridged import entrance, part_of

DEVICE = "lo"
FROM, TO = (part_of(name, DEVICE) for name in ("from_guest", "to_guest"))
SETS = entrance(DEVICE).sets
CHAINS = entrance(DEVICE).chains
LEADING = frozenset({Element("netdev", FROM, (DEVICE,), "drop")})
ENTRANCE = Fragment(CHAINS, (), LEADING)
KINDS = {(one.family, one.name): one for one in SETS}
BY_LIBRARY = Chain("netdev", "unsuited", ())
"""A chain without hook, which libnftables alone makes: what comes with it is its work, too."""
DIFFERENT = {"chain": {2}, "rule": {3, 6}}
"""Handles, and the handle of the rule before."""


@pytest.fixture
async def nft() -> AsyncIterator[LinuxNft]:
    linux = LinuxNft(own=False)
    await linux.open()
    await linux.commit(EMPTY, Fragment((BY_LIBRARY,), SETS))
    yield linux
    await linux.close()


def held() -> dict[str, list[Attributes]]:
    """Chains and rules as the kernel tells them, without what it calls them."""
    reader = ReadSocket(NETLINK_NETFILTER)
    request = GENERIC.pack(FAMILY["netdev"], 0, 0) + text(1, TABLE)
    found = {}
    for what, kind in (("chain", 4), ("rule", 7)):
        listed = reader.dump(
            SUBSYSTEM << 8 | kind, request, lambda data, start, end: attributes(data, start + GENERIC.size, end)
        )
        found[what] = [{k: v for k, v in one.items() if k not in DIFFERENT[what]} for one in listed]
    reader.close()
    return found


async def by_library(nft: LinuxNft, added: Fragment) -> str:
    """Have libnftables write, and return how it is refused."""
    other = replace(BY_LIBRARY, name="other")
    try:
        await nft.commit(EMPTY, replace(added, chains=(other, *added.chains)))
    except HostError as error:
        return error.reason
    await nft.commit(Fragment((other,)), EMPTY)
    return ""


def by_writer(writer: BatchWriter, added: Fragment) -> str:
    """Write without libnftables, and return how it is refused."""
    try:
        writer.commit(EMPTY, added, KINDS)
    except OSError as error:
        return str(error.strerror)
    return ""


async def test_the_kernel_holds_the_same_whoever_wrote_it(nft: LinuxNft, writer: BatchWriter) -> None:
    before = held()
    ways = (vmap(meta("oifname"), FROM),), (vmap(meta("iifname"), TO),)
    several = Chain("netdev", "several", ways, Hook("filter", "ingress", 0, device=DEVICE))
    added = replace(ENTRANCE, chains=(*CHAINS, several))
    assert not await by_library(nft, added)
    written, listed = held(), await nft.table("netdev")
    assert len(written["rule"]) == len(CHAINS) + len(ways)
    assert len(written["chain"]) == len(before["chain"]) + len(CHAINS) + 1
    await nft.commit(added, EMPTY)
    assert held() == before
    assert not by_writer(writer, added)
    assert held() == written
    assert await nft.table("netdev") == listed
    assert await nft.set("netdev", FROM) == LEADING


async def test_chains_that_are_there_are_met_the_same_way(nft: LinuxNft, writer: BatchWriter) -> None:
    outcomes = []
    for again in (True, False):
        await by_library(nft, ENTRANCE)
        refusal = by_writer(writer, ENTRANCE) if again else await by_library(nft, ENTRANCE)
        outcomes.append((held(), bool(refusal)))
        await nft.commit(ENTRANCE, EMPTY)
    assert outcomes[0] == outcomes[1]


async def test_a_device_that_is_not_there_is_met_the_same_way(nft: LinuxNft, writer: BatchWriter) -> None:
    away = (replace(one, hook=replace(one.hook, device="nowhere0")) for one in CHAINS if one.hook)
    added = Fragment(tuple(away))
    before = held()
    refusal = by_writer(writer, added)
    after = held()
    if refusal:  # Linux 6.16 waits for the device
        assert refusal == "No such file or directory"
        assert after == before
    else:
        await nft.commit(added, EMPTY)
    assert (refusal in await by_library(nft, added), held()) == (True, after)


@pytest.mark.parametrize("wrong", ["map", "element", "table"])
async def test_a_refused_transaction_leaves_nothing(nft: LinuxNft, writer: BatchWriter, wrong: str) -> None:
    added = ENTRANCE
    match wrong:
        case "map":  # the first of the messages that is refused, and not the last
            await nft.commit(Fragment(sets=SETS[:1]), EMPTY)
            added = replace(ENTRANCE, elements=frozenset())
        case "element":
            dangling = Element("netdev", TO, (DEVICE,), "goto nowhere")
            added = replace(ENTRANCE, elements=frozenset({*LEADING, dangling}))
        case "table":
            await nft.clear()
    before = held()
    with pytest.raises(OSError, match="No such file or directory") as refusal:
        writer.commit(EMPTY, added, KINDS)
    assert refusal.value.errno == errno.ENOENT
    assert held() == before


def chain(*rules: tuple[Json, ...], **how: Any) -> Chain:
    return replace(CHAINS[0], **({"rules": rules} if rules else {}), **how)


LOOK = vmap(meta("oifname"), FROM)
HOOK = Hook("filter", "egress", 0, device=DEVICE)
UNSUITED = {
    "no hook": chain(hook=None),
    "no device": chain(hook=replace(HOOK, device="")),
    "a prefix of devices": chain(hook=replace(HOOK, device="lo*")),
    "another hook": chain(hook=replace(HOOK, hook="prerouting")),
    "another type": chain(hook=replace(HOOK, type="nat")),
    "another policy": chain(hook=replace(HOOK, policy="drop")),
    "another family": chain(family="inet"),
    "counters": chain(counted=True),
    "a verdict": chain((ACCEPT,)),
    "a verdict before": chain((ACCEPT, LOOK)),
    "a test alone": chain(CHAINS[4].rules[0][:1]),
    "another test": chain((match(payload("icmpv6", "type"), "nd-neighbor-solicit"), LOOK)),
    "something behind": chain((LOOK, ACCEPT)),
    "nothing": chain(()),
    "another key": chain((vmap(meta("protocol"), FROM),)),
    "an unknown map": chain((vmap(meta("oifname"), "from_nobody"),)),
    "too many rules": chain(*[(LOOK,)] * MOST),
}


@pytest.mark.parametrize("unsuited", UNSUITED.values(), ids=UNSUITED)
async def test_what_only_libnftables_can_say_is_left_to_it(nft: LinuxNft, writer: BatchWriter, unsuited: Chain) -> None:
    before = held()
    with pytest.raises(Unsuited):
        writer.commit(EMPTY, Fragment((*CHAINS[1:], unsuited)), KINDS)
    assert held() == before


@pytest.mark.parametrize(
    "kind",
    [
        Set("netdev", FROM, ("ifname",)),
        Set("netdev", FROM, ("ifname", "ipv4_addr"), data="verdict"),
        Set("netdev", FROM, ("ifname",), data="verdict", flags=("interval",)),
    ],
)
def test_maps_of_other_kinds_are_left_to_libnftables(writer: BatchWriter, kind: Set) -> None:
    with pytest.raises(Unsuited):
        writer.commit(EMPTY, Fragment(CHAINS), {**KINDS, ("netdev", FROM): kind})


def test_sets_and_chains_that_come_new_or_go_are_left_to_libnftables(writer: BatchWriter) -> None:
    for remove, add in ((EMPTY, entrance(DEVICE)), (Fragment(CHAINS), EMPTY), (Fragment(CHAINS), Fragment(CHAINS))):
        with pytest.raises(Unsuited):
            writer.commit(remove, add, KINDS)


async def test_the_host_takes_the_short_way_and_finds_no_drift(nft: LinuxNft, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    taken = []

    def commit(self: BatchWriter, remove: Fragment, add: Fragment, kinds: Any) -> None:
        whole(self, remove, add, kinds)
        taken.append(add.chains)

    whole = BatchWriter.commit
    monkeypatch.setattr(BatchWriter, "commit", commit)
    for owner, fragment in {"base": Fragment((BY_LIBRARY,), SETS), "port": replace(ENTRANCE, sets=SETS)}.items():
        proposal = ledger.propose({owner: fragment})
        if owner == "port":
            await nft.commit(proposal.remove, proposal.add)
        ledger.accept(proposal)
    assert taken == [CHAINS]
    assert not ledger.drift_table("netdev", await nft.table("netdev"))
    for family, name in ledger.unlearned():
        ledger.learn(await nft.chain(family, name))
    assert not ledger.unlearned()
    assert not ledger.drift_table("netdev", await nft.table("netdev"))
    for one in CHAINS:
        assert ledger.drift_rules("netdev", one.name, await nft.handles("netdev", one.name)) is not None
