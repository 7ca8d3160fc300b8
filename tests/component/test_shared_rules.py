"""Chains outlive the last who needed them for a while, and then go too; a look is at what was named."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from support.memory_nft import MemoryNft, Table
from support.waiting import eventually

from vnetd.model.network import Network
from vnetd.plan import lingering
from vnetd.plan.rules import Chain, Element, Family, Fragment, Hook, Set, TableContents
from vnetd.reconcile import rules
from vnetd.reconcile.rules import RulesKeeper, Spot
from vnetd.ruleset.expressions import ACCEPT, DROP
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
    assert repaired == ("table inet vnetd is missing", "element vnet0 of set bridge vnetd from_guest is missing")
    assert nft.tables["bridge"].chains["web"].rules == ()
    assert await looked(keeper, ("bridge", "rules", "web")) == ("chain bridge vnetd web has changed rules",)
    await keeper.close()


async def looked(keeper: RulesKeeper, *named: Spot) -> tuple[str, ...]:
    """What is repaired when these are named."""
    for spot in named:
        keeper.suspect(spot)
    async with keeper.lock:
        return await keeper.converge()


class Listed(MemoryNft):
    """Keeps account of what is listed whole."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def chain(self, family: Family, name: str) -> TableContents | None:
        self.listed.append(name)
        found = await super().chain(family, name)
        self.meanwhile()
        return found


RULES = ((ACCEPT,), (DROP,), (ACCEPT,))
SPOT: Spot = ("bridge", "rules", "web")


@pytest.fixture
async def known(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Listed, RulesKeeper]]:
    """A chain of three rules, learned."""
    monkeypatch.setattr(rules, "PAUSE", 0)
    nft = Listed()
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": Fragment((Chain("bridge", "web", RULES),))})
    await keeper.close()
    assert nft.listed == ["web"]
    yield nft, keeper
    await keeper.close()


async def test_deleted_rules_are_put_back_without_listing_the_chain_each_time(
    known: tuple[Listed, RulesKeeper],
) -> None:
    nft, keeper = known
    for place in (0, 1, 2):
        nft.listed.clear()
        nft.delete_rule("bridge", "web", place)
        assert await looked(keeper, SPOT) == ("chain bridge vnetd web has changed rules",)
        assert nft.listed == []
        assert nft.tables["bridge"].chains["web"].rules == RULES
        assert await looked(keeper, SPOT) == ()
        await keeper.close()  # by now the new handle is learned


async def test_a_changed_policy_is_found_though_a_rule_is_deleted_with_it(known: tuple[Listed, RulesKeeper]) -> None:
    nft, keeper = known
    table = nft.tables["bridge"]
    table.chains["web"] = replace(table.chains["web"], hook=Hook("filter", "input", 0, policy="drop"))
    nft.delete_rule("bridge", "web", 0)
    repaired = await looked(keeper, SPOT, ("bridge", "chain", "web"))
    assert repaired == ("chain bridge vnetd web has another hook or policy",)
    assert nft.tables["bridge"].chains["web"] == Chain("bridge", "web", RULES)


async def test_handles_say_nothing_of_a_table_that_was_made_anew(known: tuple[Listed, RulesKeeper]) -> None:
    nft, keeper = known
    handles = nft.tables["bridge"].handles["web"]
    nft.tables["bridge"] = Table({"web": Chain("bridge", "web", ((DROP,),) * 3)}, handles={"web": handles}, last=9)
    assert await looked(keeper, ("bridge", "table", "vnetd"), SPOT) == ("chain bridge vnetd web has changed rules",)
    assert nft.tables["bridge"].chains["web"].rules == RULES


async def test_handles_listed_while_a_table_is_made_anew_are_not_learned(known: tuple[Listed, RulesKeeper]) -> None:
    nft, keeper = known
    nft.delete_rule("bridge", "web", 0)
    await looked(keeper, SPOT)
    nft.meanwhile = lambda: keeper.suspect(("bridge", "table", "vnetd"))
    await keeper.close()  # it is listed to be learned
    nft.meanwhile = lambda: None
    assert await looked(keeper) == ()
    nft.listed.clear()
    nft.delete_rule("bridge", "web", 0)
    assert await looked(keeper, SPOT) == ("chain bridge vnetd web has changed rules",)
    assert nft.listed == ["web"]
