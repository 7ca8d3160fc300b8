"""What nobody confirms is taken back: starts and changes of switches on a host in memory."""

import json

import pytest
from support.memory_calls import Refusal, verb
from support.memory_daemon import ROOT
from support.memory_host import difference
from support.memory_switches import (
    OWN,
    POLICY,
    SECOND,
    Clock,
    addresses,
    deaf,
    define,
    network_state,
    office,
    redefine,
    rich_host,
    start,
    view,
)
from support.waiting import eventually

from vnetd.model.errors import Busy, HostError, NotConfirmed
from vnetd.plan.kernel import (
    TakeAddress,
    TakeRoute,
)


async def test_what_nobody_confirms_is_taken_back(clock: Clock) -> None:
    host = rich_host()
    before = network_state(host)
    async with deaf(host) as daemon:
        switch = await start(daemon, confirm=30)
        assert (switch.state, switch.unconfirmed) == ("active", True)
        clock.now += 29.9
        assert view(daemon).active
        clock.now += 0.2
        await eventually(lambda: view(daemon).state == "inactive")
        assert not difference(before, network_state(host))
        with pytest.raises(NotConfirmed, match="not confirmed in time"):
            await daemon.services.switches.confirm(ROOT, switch.uuid)


async def test_what_was_lost_meanwhile_comes_back_as_well(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon, confirm=30)
        host.perform(TakeAddress("br0", SECOND), TakeRoute(POLICY.through("eth0", "br0")))
        clock.now += 31
        await eventually(lambda: view(daemon).state == "inactive")
    assert (addresses(host, "eth0"), POLICY in host.links.further_routes) == (OWN, True)


async def test_what_is_confirmed_stays(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon, confirm=30)
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
        await daemon.services.switches.confirm(ROOT, switch.uuid)
        clock.now += 1000
        with pytest.raises(Busy, match="nothing of switch office waits"):
            await daemon.services.switches.confirm(ROOT, switch.uuid)
        assert (view(daemon).state, view(daemon).unconfirmed) == ("active", False)
    host.boot()
    async with deaf(host) as daemon:
        assert view(daemon).active


async def test_the_time_runs_on_while_the_daemon_is_away(clock: Clock) -> None:
    for away, active in ((10, True), (100, False)):
        host = rich_host()
        async with deaf(host) as daemon:
            await start(daemon, confirm=30)
        clock.now += away
        async with deaf(host) as daemon:
            assert view(daemon).active is active
            assert addresses(host, "br0" if active else "eth0") == OWN
            if active:
                clock.now += 30
                await eventually(lambda: not view(daemon).active)
                assert addresses(host, "eth0") == OWN


async def test_a_boot_does_not_start_what_was_never_confirmed(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
        await daemon.services.switches.start(ROOT, switch.uuid, {"confirm": 600})
    host.boot()
    async with deaf(host) as daemon:
        assert (view(daemon).state, view(daemon).autostart) == ("inactive", True)
        assert "br0" not in host.devices()
        await daemon.services.switches.start(ROOT, switch.uuid, {})
    host.boot()
    async with deaf(host) as daemon:
        assert view(daemon).active, "started without a confirmation it is as good as confirmed"


async def test_a_change_of_what_runs_is_taken_back_unless_confirmed(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        before = host.state()
        await redefine(daemon, priority=7, uplinks=["eth1"], confirm=30)
        assert (addresses(host, "eth0"), addresses(host, "br0")) == (OWN, set())
        with pytest.raises(Busy, match="waits to be confirmed"):
            await redefine(daemon, priority=8)
        clock.now += 31
        await eventually(lambda: not view(daemon).unconfirmed)
        assert addresses(host, "br0") == OWN
        assert json.loads(daemon.services.switches.describe(view(daemon).uuid, "json", {"inactive": True})) == {
            **json.loads(office()),
            "uuid": str(view(daemon).uuid),
        }
        changed = difference(before, host.state())
        assert set(changed) <= {"link eth1", f"document run/switches/{view(daemon).uuid}"}
        with pytest.raises(NotConfirmed):
            await daemon.services.switches.confirm(ROOT, view(daemon).uuid)


async def test_a_confirmed_change_is_kept_on_disk_and_an_unconfirmed_one_is_not(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        await redefine(daemon, priority=7, confirm=30)
        uuid = view(daemon).uuid
        assert "priority" not in daemon.services.switches.describe(uuid, "json", {"inactive": True})
        await daemon.services.switches.confirm(ROOT, uuid)
        assert '"priority": 7' in daemon.services.switches.describe(uuid, "json", {"inactive": True})


async def test_a_change_that_fails_leaves_what_ran(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        bridge = host.link("br0")
        host.before = Refusal(verb("kernel.SetBridge"))
        with pytest.raises(HostError):
            await redefine(daemon, priority=7)
        assert (host.link("br0"), addresses(host, "br0"), view(daemon).state) == (bridge, OWN, "active")
        assert "priority" not in daemon.services.switches.describe(view(daemon).uuid, "json", {"inactive": True})
