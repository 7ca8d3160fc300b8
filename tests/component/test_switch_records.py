"""What hangs on the bridge of a switch is on record, and comes back with the bridge."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from support.memory_daemon import ROOT, running
from support.memory_host import MemoryHost
from support.memory_switches import (
    BY_HAND,
    DNS,
    OWN,
    POLICY,
    RULE,
    SECOND,
    Clock,
    addresses,
    deaf,
    index_of,
    rich_host,
    start,
    view,
)
from support.policy_rules import rule
from support.waiting import eventually

from vnetd.plan.kernel import (
    DeleteLink,
    GiveAddress,
    GiveNeighbour,
    GiveRoute,
    GiveRule,
    Operation,
    SetLink,
    TakeAddress,
    TakeRoute,
    TakeRule,
)
from vnetd.plan.possessions import HeldAddress, HeldRoute, NextHop

LATER = HeldAddress(ip_interface("198.51.100.9/24"))
LATER_ROUTE = HeldRoute(ip_network("10.9.0.0/16"), (NextHop("br0", ip_address("203.0.113.1")),), table=9)
LATER_RULE = rule(90, oif="br0", table=9)
EDITED = (OWN | {"198.51.100.9/24"}) - {"203.0.113.3/24"}


async def edit(host: MemoryHost) -> None:
    """What the host's administrator changes on the bridge, now that it has what the uplink had, and vnetd has seen."""
    host.perform(TakeAddress("br0", SECOND), GiveRoute(LATER_ROUTE), TakeRoute(POLICY.through("eth0", "br0")))
    host.perform(TakeRule(RULE.through("eth0", "br0")), GiveRule(LATER_RULE))
    host.perform(GiveNeighbour("br0", replace(BY_HAND, mac="52:54:00:00:00:06")), GiveAddress("br0", LATER))
    host.name_servers.links[index_of(host, "br0")] = replace(DNS, domains=())
    await eventually(lambda: str(LATER.address) in "".join(host.files.files["run/switches"].values()), "on record")


def edited(host: MemoryHost) -> bool:
    entry = host.links.find("br0")
    routes = {route.table for route in host.links.further_routes}
    return (
        entry is not None
        and (addresses(host, "br0"), 9 in routes, 7 in routes) == (EDITED, True, False)
        and host.links.policy_rules == [LATER_RULE]
        and entry.permanent[BY_HAND.address].mac == "52:54:00:00:00:06"
        and host.name_servers.shown("br0") == replace(DNS, domains=())
    )


async def test_a_deleted_bridge_comes_back_with_what_hung_on_it_last() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await edit(host)
        assert edited(host)
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: edited(host))


async def test_rules_that_are_gone_with_the_bridge_come_back_and_one_given_since_goes_to_the_uplink() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        host.perform(GiveRule(LATER_RULE))
        said = LATER_RULE.said.hex()
        await eventually(lambda: said in "".join(host.files.files["run/switches"].values()), "on record")
        both = [LATER_RULE, RULE.through("eth0", "br0")]
        host.perform(*map(TakeRule, both), DeleteLink("br0", ""))
        await eventually(lambda: host.links.policy_rules == both)
        await eventually(lambda: addresses(host, "br0") == OWN)
        await daemon.services.switches.stop(ROOT, view(daemon).uuid)
    assert host.links.policy_rules == [LATER_RULE.through("br0", "eth0"), RULE]


@pytest.mark.parametrize("damage", [DeleteLink("br0", ""), SetLink("br0", up=False)], ids=["gone", "down"])
async def test_a_switch_whose_bridge_is_gone_when_it_stops_gives_back_what_hung_on_it_last(damage: Operation) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        host.perform(damage)
        await daemon.services.switches.stop(ROOT, view(daemon).uuid)
    assert (addresses(host, "eth0"), POLICY in host.links.further_routes) == (OWN, True)
    assert host.links.policy_rules == [RULE]
    entry = host.links.find("eth0")
    assert entry and {str(route.gateway) for route in entry.routes} == {"203.0.113.1"}


async def test_a_bridge_that_is_deleted_while_no_daemon_runs_comes_back_as_it_was_last() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await edit(host)
    host.perform(DeleteLink("br0", ""))
    async with deaf(host) as daemon:
        assert (view(daemon).state, edited(host)) == ("active", True)


async def test_a_bridge_that_is_deleted_while_its_uplink_is_away_comes_back_with_what_hung_on_it() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await edit(host)
        host.links.remove(index_of(host, "eth0"))
        await eventually(lambda: view(daemon).state == "degraded")
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: edited(host))
        host.links.create("eth0", "")
        await eventually(lambda: view(daemon).state == "active")
        assert edited(host)


async def test_what_the_kernel_takes_from_a_bridge_that_is_set_down_comes_back() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        host.perform(SetLink("br0", up=False))
        assert addresses(host, "br0") < OWN
        await eventually(lambda: addresses(host, "br0") == OWN)
        entry = host.links.find("br0")
        assert entry and {str(route.gateway) for route in entry.routes} == {"203.0.113.1"}


async def test_what_hangs_on_the_bridge_is_written_down_when_it_changes_and_else_never(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        for seconds, lifetime, writes in ((600, 3000, 0), (0, 2990, 0), (0, 3600, 1), (900, 2700, 0)):
            clock.now += seconds
            host.perform(GiveAddress("br0", replace(SECOND, valid=lifetime, preferred=lifetime - 1800)))
            host.calls.clear()
            await daemon.services.full_pass()
            assert len([call for call in host.calls if call.verb == "store.save"]) == writes, (seconds, lifetime)
