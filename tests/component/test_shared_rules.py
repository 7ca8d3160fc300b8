"""Chains outlive the last who needed them for a while, and then go too; a look is at what was named."""

import asyncio

import pytest
from support.memory_nft import MemoryNft
from support.waiting import eventually

from vnetd.model.network import Network
from vnetd.plan import lingering
from vnetd.plan.rules import Chain, Element, Fragment, Set
from vnetd.reconcile import rules
from vnetd.reconcile.rules import RulesKeeper
from vnetd.ruleset.expressions import ACCEPT
from vnetd.ruleset.network import network_fragment

LAB = network_fragment(
    Network.model_validate({"name": "lab", "mode": "nat", "addresses": [{"address": "192.168.77.1/24"}]}), "virbr7"
)
GUESTS = Set("bridge", "from_guest", ("ifname",), data="verdict")


def bound(device: str, *chains: str) -> Fragment:
    """A filter of these chains on a device."""
    elements = frozenset({Element("bridge", "from_guest", (device,), f"goto {chains[0]}")})
    return Fragment(tuple(Chain("bridge", name, ((ACCEPT,),)) for name in chains), (GUESTS,), elements)


@pytest.fixture
async def nft(monkeypatch: pytest.MonkeyPatch) -> MemoryNft:
    monkeypatch.setattr(rules, "LINGER", 0.05)
    return MemoryNft()


@pytest.mark.parametrize("fragment", [LAB, bound("vnet0", "web", "mail")], ids=["network", "port"])
async def test_whoever_comes_back_adds_elements_only(nft: MemoryNft, fragment: Fragment) -> None:
    keeper = RulesKeeper(nft)
    await keeper.put({"somebody": fragment})
    await keeper.put({"somebody": None})
    assert nft.commits[-1] == (Fragment(elements=fragment.elements), Fragment())
    await keeper.put({"another": fragment})
    assert nft.commits[-1] == (Fragment(), Fragment(elements=fragment.elements))
    await keeper.close()


async def test_a_filter_that_changes_back_finds_its_chains(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": bound("vnet0", "web", "mail")})
    await keeper.put({"port:1": bound("vnet0", "mail")})
    await keeper.put({"port:1": bound("vnet0", "web", "mail")})
    removed, added = nft.commits[-1]
    assert not removed.chains and not added.chains and added.elements
    await keeper.close()


async def test_what_is_kept_is_in_use_by_nobody(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": bound("vnet0", "web"), "port:2": bound("vnet1", "web")})
    await keeper.put({"port:1": None})
    assert keeper.sharers("bridge", "web") == 1
    await keeper.put({"port:2": None})
    assert keeper.sharers("bridge", "web") == 0
    await keeper.close()


async def test_it_goes_when_nobody_has_needed_it_for_a_while(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft)
    await keeper.put({"network:lab": LAB, "port:1": bound("vnet0", "web")})
    await keeper.put({"network:lab": None, "port:1": None})
    assert nft.tables.keys() == {"inet", "bridge"}
    await eventually(lambda: not nft.tables, "the tables are gone")
    await keeper.close()


async def test_it_stays_as_long_as_somebody_needs_it(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft)
    await keeper.put({"network:lab": LAB, "port:1": bound("vnet0", "web")})
    await keeper.put({"network:lab": None, "port:1": None})
    await keeper.put({"network:lab": LAB})
    await eventually(lambda: "web" not in nft.tables["bridge"].chains, "what nobody came back for is gone")
    assert "forward" in nft.tables["inet"].chains and keeper.fragment("network:lab") == LAB
    await keeper.close()


async def test_only_so_much_is_kept_and_what_was_left_longest_goes_first(
    nft: MemoryNft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "MOST", 2)
    monkeypatch.setattr(rules, "LINGER", 60)
    keeper = RulesKeeper(nft)
    for name in ("one", "two", "three", "two", "four"):
        await keeper.put({"port:1": bound("vnet0", name)})
    await keeper.put({"port:1": None})
    assert nft.tables["bridge"].chains.keys() == {"two", "four"}
    await keeper.close()


async def test_what_could_not_go_goes_later(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": bound("vnet0", "web")})
    await keeper.put({"port:1": None})
    nft.refuse = "no"
    await eventually(lambda: nft.refuse is None, "the first attempt was refused")
    await asyncio.sleep(0)
    assert "bridge" in nft.tables
    await eventually(lambda: not nft.tables, "the table is gone")
    await keeper.close()


async def test_of_a_deleted_table_and_an_element_of_another_only_these_are_looked_at(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft)
    port = bound("vnet0", "web")
    await keeper.put({"network:lab": LAB, "port:1": port})
    del nft.tables["inet"]
    nft.delete_element(next(iter(port.elements)))
    nft.delete_rule("bridge", "web", 0)  # which nobody has reported yet
    keeper.suspect(("inet", "table", "vnetd"))
    keeper.suspect(("bridge", "set", "from_guest"))
    async with keeper.lock:
        repaired = await keeper.converge()
    assert repaired == ("table inet vnetd is missing", "element vnet0 of set from_guest is missing")
    assert nft.tables["bridge"].chains["web"].rules == ()
    keeper.suspect(("bridge", "chain", "web"))
    async with keeper.lock:
        assert await keeper.converge() == ("chain web has changed rules",)
    await keeper.close()
