"""The host's own device beside macvtap guests, on a host in memory."""

import json
from contextlib import suppress
from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Refusal, crash, nth
from support.memory_daemon import ROOT, running, view
from support.memory_host import difference
from support.memory_unbridged import NETWORKS, host, lower_of, raised
from support.waiting import eventually

from vnetd.model.errors import Invalid, Unsupported, VnetError
from vnetd.plan.kernel import DeleteAddress, DeleteLink, SetLink

HOST_SIDE = {"host_access": True, "addresses": [{"address": "192.168.50.5/24"}]}


@hastily
async def test_the_host_gets_a_device_beside_its_guests_which_is_healed_and_goes_with_the_network() -> None:
    async with running(host()) as daemon:
        before = daemon.host.devices()
        uuid = await raised(daemon, "bridge", **HOST_SIDE)
        name = f"vh-{uuid.hex[:12]}"
        entry = daemon.host.links.find(name)
        assert entry and (entry.link.kind, entry.link.up, lower_of(daemon, name)) == ("macvlan", True, "eth1")
        (address,) = entry.addresses
        assert str(address) == "192.168.50.5/24"
        daemon.host.perform(DeleteAddress(name, address), SetLink(name, up=False))

        def whole() -> bool:
            found = daemon.host.links.find(name)
            return bool(found and found.link.up and found.addresses)

        await eventually(whole)
        daemon.host.perform(DeleteLink(name, ""))
        await eventually(whole)
        document = {"name": "lab", "uuid": str(uuid), **NETWORKS["bridge"]}
        await daemon.services.networks.define(ROOT, json.dumps(document), {})
        assert daemon.host.link(name) is None
        await daemon.services.networks.define(ROOT, json.dumps({**document, **HOST_SIDE}), {})
        assert whole()
        await daemon.services.networks.stop(ROOT, uuid)
        assert daemon.host.devices() == before


@hastily
async def test_whatever_call_of_a_start_fails_the_hosts_device_is_gone_and_so_after_the_end_of_the_daemon() -> None:
    number = 0
    while True:
        made = host()
        async with running(made) as daemon:
            before = made.devices()
            document = json.dumps({"name": "lab", **NETWORKS["bridge"], **HOST_SIDE})
            network = await daemon.services.networks.define(ROOT, document, {})
            made.before = refusal = Refusal(nth(number))
            try:
                await daemon.services.networks.start(ROOT, network.uuid)
            except VnetError:
                assert refusal.refused and made.devices() == before
            else:
                break
            made.before = crash(number)
            with suppress(VnetError):  # the second start may need a call less, and is through before the end then
                await daemon.services.networks.start(ROOT, network.uuid)
        async with running(made) as daemon:
            if view(daemon).active:
                assert view(daemon).state == "active", view(daemon).problems
                await daemon.services.networks.stop(ROOT, network.uuid)
            assert made.devices() == before, f"left over from an end at call {number}"
        number += 1
    assert number >= 3


@hastily
async def test_a_host_side_that_lost_its_tag_to_the_end_of_the_daemon_is_known_by_its_name_and_mac() -> None:
    made = host()
    async with running(made) as daemon:
        uuid = await raised(daemon, "bridge", **HOST_SIDE)
    name = f"vh-{uuid.hex[:12]}"
    made.perform(SetLink(name, alias=""))
    async with running(made) as daemon:
        link = made.link(name)
        assert link and link.alias == f"vnetd:network:{uuid}" and view(daemon).state == "active"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"macvtap_mode": "private"}, "modes bridge and vepa"),
        ({"addresses": [{"address": "192.168.50.5/24", "dhcp": {"ranges": []}, "local_ptr": True}]}, "neither DHCP"),
        ({"host_access": None}, "cannot have this"),
    ],
)
@hastily
async def test_a_host_side_that_cannot_be_is_refused_when_defined(fields: dict[str, Any], words: str) -> None:
    async with running(host()) as daemon:
        document = {"name": "lab", **NETWORKS["bridge"], **HOST_SIDE, **fields}
        with pytest.raises(Invalid, match=words):
            await daemon.services.networks.define(ROOT, json.dumps(document), {})


@hastily
async def test_a_device_of_the_hosts_own_beside_macvtap_guests_needs_macvlans() -> None:
    made = host()
    made.capabilities.lacking["macvlan"] = "not here"
    async with running(made) as daemon:
        before = made.state()
        with pytest.raises(Unsupported, match=r"^network lab with host_access needs macvlan.*: not here; leave host_a"):
            await raised(daemon, "bridge", host_access=True)
        assert made.devices() == {"eth0", "eth1", "eth2"}
        assert not {key for key in difference(before, made.state()) if key.startswith("link")}
