"""Switches on a host in memory are kept as they should be."""

import pytest
from support.memory_daemon import running
from support.memory_switches import (
    DNS,
    OPTIONS,
    OWN,
    POLICY,
    SECOND,
    Clock,
    addresses,
    office,
    redefine,
    rich_host,
    start,
    view,
)
from support.waiting import eventually

from vnetd.plan.kernel import (
    DeleteLink,
    SetBridge,
    SetLink,
)
from vnetd.plan.links import BridgeOptions
from vnetd.service.views import Healed

DAMAGES = [
    SetBridge("br0", BridgeOptions(priority=1)),
    SetBridge("br0", BridgeOptions(hello_time=900)),
    SetBridge("br0", BridgeOptions(max_age=3000)),
    SetBridge("br0", BridgeOptions(ageing_time=1)),
    SetBridge("br0", BridgeOptions(multicast_snooping=True)),
    SetLink("br0", stp=False),
    SetLink("br0", mtu=1300),
    SetLink("br0", up=False),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
async def test_every_option_is_as_asked_and_healed_when_somebody_changes_it(damage: SetBridge | SetLink) -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon, office(**OPTIONS))
        before = host.link("br0")
        assert before and before.bridge
        assert (before.bridge.priority, before.bridge.forward_delay, before.bridge.hello_time) == (4096, 400, 100)
        assert (before.bridge.max_age, before.bridge.ageing_time, before.bridge.multicast_snooping) == (
            600,
            2000,
            False,
        )
        assert before.bridge.stp
        host.perform(damage)
        assert host.link("br0") != before
        await eventually(lambda: host.link("br0") == before)
        await eventually(lambda: view(daemon).healed_count == 1)
        assert daemon.told(Healed)[0].kind == "switch"


async def test_an_uplink_taken_out_is_put_back_and_one_replugged_is_taken_again() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        bridge = host.link("br0")
        assert bridge

        def plugged() -> bool:
            return bool((nic := host.link("eth0")) and nic.master == bridge.index and nic.up)

        host.perform(SetLink("eth0", master=""))
        await eventually(plugged, "put back")
        nic = host.link("eth0")
        assert nic
        host.links.remove(nic.index)
        await eventually(lambda: "eth0 is away" in "".join(view(daemon).problems))
        assert (view(daemon).state, addresses(host, "br0")) == ("degraded", OWN)
        host.links.create("eth0", "")
        await eventually(plugged, "taken again")
        await eventually(lambda: view(daemon).state == "active")


async def test_a_bridge_that_somebody_deletes_comes_back_with_all_that_hung_on_it() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: addresses(host, "br0") == OWN)
        await eventually(lambda: POLICY.through("eth0", "br0") in host.links.further_routes)
        await eventually(lambda: host.name_servers.shown("br0") == DNS)


async def test_who_takes_an_uplink_out_again_and_again_is_told_of_and_not_fought() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        for _ in range(12):
            host.perform(SetLink("eth0", master=""))
            await eventually(lambda: bool((nic := host.link("eth0")) and nic.master) or view(daemon).problems)
        await eventually(lambda: view(daemon).state == "degraded")
        assert "uplink eth0: repaired again and again" in view(daemon).problems[0]


async def test_after_a_change_a_bridge_that_is_deleted_still_comes_back_with_all_that_hung_on_it() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await redefine(daemon, priority=7)
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: addresses(host, "br0") == OWN)


async def test_lifetimes_have_gone_on_when_things_come_back(clock: Clock) -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        clock.now += 600
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: addresses(host, "br0") == OWN)
    entry = host.links.find("br0")
    assert entry and (entry.details[SECOND.address].valid, entry.details[SECOND.address].preferred) == (3000, 1200)
