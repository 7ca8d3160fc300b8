"""The chains of networks are written in the form the kernel shows them in, so that a restart refills nothing."""

from typing import Any

import pytest

from vnetd.linux.nft import LinuxNft
from vnetd.model.network import Network
from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import EMPTY
from vnetd.ruleset.network import network_fragment

ADDRESSES = [{"address": "192.168.77.1/24"}, {"address": "fd77::1/64"}]


@pytest.mark.parametrize(
    "nat",
    [
        {"ipv6": True},
        {"ports": {"start": 500, "end": 1000}},
        {"address": {"start": "192.0.2.1", "end": "192.0.2.9"}, "ipv6": True},
        {"address": {"start": "192.0.2.1", "end": "192.0.2.1"}},
    ],
)
async def test_what_is_listed_is_what_was_written(nat: dict[str, Any]) -> None:
    network = Network.model_validate({"name": "lab", "mode": "nat", "addresses": ADDRESSES, "nat": nat})
    nft, ledger = LinuxNft(), Ledger()
    await nft.open()
    try:
        proposal = ledger.propose({"network": network_fragment(network, "virbr7")})
        await nft.commit(EMPTY, proposal.add)
        ledger.accept(proposal)
        assert ledger.drift_table("inet", await nft.table("inet")).what == ()
    finally:
        await nft.close()
