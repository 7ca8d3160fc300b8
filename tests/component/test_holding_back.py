"""When the loop holds back: who fights, what cannot be repaired, what is being stopped."""

import asyncio
import errno
from ipaddress import ip_interface

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call, Refusal, verb
from support.memory_daemon import ROOT, Running, defined, lab, running, view
from support.memory_healing import settled
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.base import IPInterface
from vnetd.model.errors import HostError
from vnetd.plan.kernel import (
    CreateBridge,
    DeleteAddress,
    DeleteLink,
)
from vnetd.reconcile.backoff import LIMIT

V4, V6 = ip_interface("192.168.77.1/24"), ip_interface("fd77::1/64")
FORWARDING = ("net", "ipv4", "conf", "virbr0", "forwarding")


def addresses(host: MemoryHost) -> set[IPInterface]:
    """Addresses of the network's bridge."""
    entry = host.links.find("virbr0")
    return entry.addresses if entry else set()


async def quarrel(daemon: Running, times: int) -> None:
    """Somebody takes the address away as soon as its repair is done and counted."""
    (network,) = (one for one in daemon.services.networks.objects if one.name == "lab")
    target = network.target
    assert target is not None
    for _ in range(times):
        await eventually(
            lambda: V4 in addresses(daemon.host) and not target.lock.locked(), "it is put back", deadline=200
        )
        daemon.host.perform(DeleteAddress("virbr0", V4))


@hastily
async def test_who_fights_is_named_and_given_way_to_and_in_the_end_all_is_well_again() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await settled(daemon, "other", 78)
        before = daemon.host.state()
        await quarrel(daemon, LIMIT)
        await eventually(lambda: view(daemon).state == "degraded", "it is held back")
        (problem,) = view(daemon).problems
        assert "192.168.77.1/24" in problem and "by ip" in problem
        repairs, started = view(daemon).healed_count, asyncio.get_running_loop().time()
        await quarrel(daemon, 5)
        assert view(daemon).healed_count == repairs + 4
        assert asyncio.get_running_loop().time() - started > 14, "each hold is longer than the one before"
        assert view(daemon, "other").state == "active"
        before_other = daemon.host.state()
        daemon.host.perform(DeleteAddress("virbr1", ip_interface("192.168.78.1/24")))
        await eventually(lambda: view(daemon, "other").healed_count == 1, "others are healed meanwhile", deadline=1)
        assert difference(before_other, daemon.host.state()) == {}
        await eventually(lambda: view(daemon).state == "active", "peace", deadline=200)
        assert view(daemon).problems == ()
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_repair_that_fails_is_shown_tried_again_and_forgotten_once_it_works() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        before = daemon.host.state()
        daemon.host.before = refusal = Refusal(verb("kernel.AddAddress"), times=3, code=errno.ENOMEM)
        daemon.host.perform(DeleteAddress("virbr0", V4))
        await eventually(lambda: view(daemon).state == "degraded", "it shows")
        assert "Cannot allocate memory" in view(daemon).problems[0]
        await eventually(lambda: view(daemon).state == "active", "it works at last", deadline=60)
        assert len(refusal.refused) == 3
        assert view(daemon).problems == ()
        assert not difference(before, daemon.host.state())


@hastily
async def test_rules_that_cannot_be_repaired_show_in_every_network_they_concern() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await settled(daemon, "other", 78)
        await defined(daemon, lab("idle", 79))
        before = daemon.host.state()
        daemon.host.before = Refusal(verb("nft.commit"), times=8)  # two in each attempt
        daemon.host.rules.flush_ruleset()
        await eventually(lambda: view(daemon).state == "degraded", "it shows")
        assert (view(daemon, "other").state, view(daemon, "idle").state) == ("degraded", "inactive")
        await eventually(lambda: view(daemon).state == "active", "it is tried again", deadline=60)
        assert view(daemon, "other").state == "active"
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_stranger_that_takes_the_bridges_name_is_left_alone_until_it_goes() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        stranger = CreateBridge("virbr0", "52:54:00:00:00:66", 1400, stp=False, forward_delay=0, alias="stranger")
        daemon.host.perform(DeleteLink("virbr0", ""), stranger)
        await eventually(lambda: view(daemon).state == "degraded", "it shows")
        link = daemon.host.link("virbr0")
        assert "virbr0" in view(daemon).problems[0]
        await asyncio.sleep(60)
        assert daemon.host.link("virbr0") == link
        daemon.host.perform(DeleteLink("virbr0", ""))
        await eventually(lambda: view(daemon).state == "active", "ours is back", deadline=60)
        back = daemon.host.link("virbr0")
        assert back is not None and back.alias.startswith("vnetd:network:")


@hastily
async def test_stopping_while_a_repair_is_under_way_leaves_nothing() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await defined(daemon)
        before = daemon.host.state()
        await daemon.services.networks.start(ROOT, network.uuid)
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def slow(call: Call) -> None:
            if call.verb == "kernel.CreateBridge":
                reached.set_result(None)
                await asyncio.sleep(1)

        daemon.host.before = slow
        daemon.host.perform(DeleteLink("virbr0", ""))
        await reached
        await daemon.services.networks.stop(ROOT, network.uuid)
        await asyncio.sleep(60)
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_network_that_failed_to_stop_is_not_repaired_behind_the_users_back() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await defined(daemon)
        await daemon.services.networks.start(ROOT, network.uuid)
        daemon.host.before = Refusal(verb("kernel.DeleteLink"))
        with pytest.raises(HostError):
            await daemon.services.networks.stop(ROOT, network.uuid)
        daemon.host.perform(DeleteAddress("virbr0", V4))
        await asyncio.sleep(60)
        entry = daemon.host.links.find("virbr0")
        assert entry is not None and V4 not in entry.addresses
