"""What all networks share in the ruleset outlives the last of them for a while, and then goes too."""

import asyncio

import pytest
from support.memory_nft import MemoryNft
from support.waiting import eventually

from vnetd.model.network import Network
from vnetd.reconcile import rules
from vnetd.reconcile.rules import RulesKeeper
from vnetd.ruleset.network import BASE, network_fragment

LAB = network_fragment(
    Network.model_validate({"name": "lab", "mode": "nat", "addresses": [{"address": "192.168.77.1/24"}]}), "virbr7"
)


@pytest.fixture
async def nft(monkeypatch: pytest.MonkeyPatch) -> MemoryNft:
    monkeypatch.setattr(rules, "LINGER", 0.05)
    return MemoryNft()


async def test_a_second_start_adds_elements_only(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft, (BASE,))
    await keeper.put({"network:lab": LAB})
    await keeper.put({"network:lab": None})
    nft.commits.clear()
    await keeper.put({"network:lab": LAB})
    ((removed, added),) = nft.commits
    assert {chain.name for chain in added.chains} <= {"masquerade-1024-65535"} and not added.sets
    assert not removed.chains and added.elements == LAB.elements
    await keeper.close()


async def test_it_goes_when_nobody_has_needed_it_for_a_while(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft, (BASE,))
    await keeper.put({"network:lab": LAB})
    await keeper.put({"network:lab": None})
    assert "inet" in nft.tables
    await eventually(lambda: not nft.tables, "the table is gone")
    await keeper.close()


async def test_it_stays_as_long_as_somebody_needs_it(nft: MemoryNft) -> None:
    keeper = RulesKeeper(nft, (BASE,))
    await keeper.put({"network:lab": LAB})
    await keeper.put({"network:lab": None})
    await keeper.put({"network:lab": LAB})
    await asyncio.sleep(0.1)
    assert "inet" in nft.tables and keeper.fragment("network:lab") == LAB
    await keeper.close()
