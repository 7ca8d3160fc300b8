"""A changed filter is in force for all its users or for none, whatever the host says to it."""

import json

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Refusal, verb
from support.memory_daemon import ROOT, defined, lab, running
from support.memory_host import host_with_uplink

from vnetd.model.errors import HostError

UUID = "3f1c2a9e-7f0c-4b57-9f3d-0c8a5e0c9d12"


def document(port: int) -> str:
    match = {"protocol": "udp", "attributes": [{"name": "dstportstart", "value": str(port)}]}
    rule = {"action": "drop", "direction": "out", "match": match}
    return json.dumps({"name": "mine", "uuid": UUID, "entries": [rule]})


@pytest.mark.parametrize("refused", ["nft.commit", "store.save"])
@hastily
async def test_what_the_host_refuses_leaves_the_old_rules_in_force(refused: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon, lab())
        await daemon.services.networks.start(ROOT, network.uuid)
        await daemon.services.filters.define(ROOT, document(7), {})
        for number in range(3):
            spec = {"kind": "tap", "mac": f"52:54:00:00:00:1{number}", "filter": "mine"}
            await daemon.services.ports.attach(ROOT, "lab", spec)
        before = host.state()
        host.before = Refusal(verb(refused))
        with pytest.raises(HostError):
            await daemon.services.filters.define(ROOT, document(9), {})
        assert host.state() == before
        assert '"7"' in daemon.services.filters.describe(daemon.services.filters.get("mine").uuid, "json", {})
        await daemon.services.filters.define(ROOT, document(9), {})
        commits = len(host.rules.commits)
        await daemon.services.filters.define(ROOT, document(11), {})
        assert len(host.rules.commits) == commits + 1, "all users in one transaction"
