"""Rules that are committed by whoever makes what they are for: they are vnetd's whatever becomes of that."""

import pytest
from support.commits import act
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, running
from support.memory_nft import MemoryNft
from support.memory_unbridged import host, plug, raised

from vnetd.host.commit import Commit
from vnetd.model.errors import HostError
from vnetd.plan.rules import Chain, Element, Fragment, Set
from vnetd.reconcile.rules import RulesKeeper
from vnetd.ruleset.expressions import ACCEPT

GUESTS = Set("bridge", "from_guest", ("ifname",), data="verdict")
WEB = Chain("bridge", "web", ((ACCEPT,),))


def bound(device: str) -> Fragment:
    """A filter on a device."""
    return Fragment((WEB,), (GUESTS,), frozenset({Element("bridge", "from_guest", (device,), "goto web")}))


async def test_what_work_committed_is_in_the_ledger_and_goes_again() -> None:
    nft = MemoryNft()
    keeper = RulesKeeper(nft)

    async def make(commit: Commit) -> str:
        await act(commit)
        return "made"

    assert await keeper.put_by({"port:1": bound("vnet0")}, make) == "made"
    assert keeper.fragment("port:1") == bound("vnet0")
    assert await nft.set("bridge", "from_guest") == bound("vnet0").elements
    await keeper.put({"port:1": None})
    assert not await nft.set("bridge", "from_guest")
    await keeper.close()


@pytest.mark.parametrize("committed", [False, True])
async def test_work_that_fails_leaves_in_the_ledger_what_is_in_the_kernel(committed: bool) -> None:
    nft, tries = MemoryNft(), 0
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": bound("vnet0")})

    async def fail(commit: Commit) -> None:
        nonlocal tries
        tries += 1
        if committed:
            await act(commit)
        raise HostError("create tap", "vnet1", "no more taps")

    with pytest.raises(HostError, match="no more taps"):
        await keeper.put_by({"port:2": bound("vnet1")}, fail)
    assert tries == 1, "nobody had changed any rule"
    assert keeper.fragment("port:2") == (bound("vnet1") if committed else None)
    assert await nft.set("bridge", "from_guest") == keeper.contents().elements
    await keeper.close()


async def test_work_whose_rules_are_refused_is_done_again_once_what_they_need_is_repaired() -> None:
    nft, tries = MemoryNft(), list[Commit]()
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": bound("vnet0")})
    (there,) = bound("vnet0").elements
    nft.delete_element(there)
    del nft.tables["bridge"].chains["web"]

    async def make(commit: Commit) -> None:
        tries.append(commit)
        await act(commit)

    await keeper.put_by({"port:2": bound("vnet1")}, make)
    assert [(one.refused, one.done) for one in tries] == [(True, False), (False, True)]
    assert await nft.set("bridge", "from_guest") == bound("vnet0").elements | bound("vnet1").elements
    await keeper.close()


async def test_rules_that_are_refused_for_what_they_are_are_not_tried_again() -> None:
    nft, tries = MemoryNft(), 0
    keeper = RulesKeeper(nft)

    async def make(commit: Commit) -> None:
        nonlocal tries
        tries += 1
        nft.refuse = "too many"
        await act(commit)

    with pytest.raises(HostError, match="too many"):
        await keeper.put_by({"port:1": bound("vnet0")}, make)
    assert tries == 1 and keeper.fragment("port:1") is None
    await keeper.close()


@hastily
async def test_a_macvtap_whose_rules_were_refused_is_made_anew_when_they_are_repaired() -> None:
    made = host()
    async with running(made) as daemon:
        await raised(daemon, "bridge")
        first = await plug(daemon, "macvtap-fd", filter="no-mac-spoofing")
        table = made.rules.tables["netdev"]
        shared = {name for name, chain in table.chains.items() if not chain.hook}
        for members in table.elements.values():
            members.clear()
        for name in shared:
            del table.chains[name]
        second = await plug(daemon, "macvtap-fd", filter="no-mac-spoofing")
        link = made.link(second.port.device)
        assert link and link.up and shared and shared <= made.rules.tables["netdev"].chains.keys()
        tries = [call for call in made.calls if call.verb == "macvtaps.open"]
        assert len(tries) == 3
        assert [one.uuid for one in daemon.services.ports.list()] == [first.port.uuid, second.port.uuid]
        await daemon.services.ports.detach(ROOT, second.port.uuid)
        assert made.link(second.port.device) is None
