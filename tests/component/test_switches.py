"""Switches on a host in memory: they take the place of their uplinks and give it back, over restarts and boots."""

import json
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from support.memory_daemon import ROOT, lab, running
from support.memory_host import difference
from support.memory_switches import (
    BY_HAND,
    NIC_MAC,
    OWN,
    POLICY,
    RULE,
    SECOND,
    Clock,
    addresses,
    deaf,
    define,
    network_state,
    office,
    rich_host,
    start,
    view,
)
from support.waiting import eventually

from vnetd.model.errors import Exists, InUse, Invalid, NotFound, VnetError
from vnetd.plan.kernel import (
    GiveAddress,
    SetLink,
    TakeAddress,
)
from vnetd.plan.possessions import HeldAddress


async def test_a_switch_takes_its_uplinks_place_on_the_network() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        assert (await start(daemon)).state == "active"
    bridge, nic = host.link("br0"), host.link("eth0")
    assert bridge and nic
    assert (addresses(host, "br0"), addresses(host, "eth0")) == (OWN, set())
    assert (bridge.mac, bridge.mtu, bridge.up, nic.master) == (NIC_MAC, 1460, True, bridge.index)
    entry = host.links.find("br0")
    assert entry and entry.details[SECOND.address] == SECOND
    assert POLICY.through("eth0", "br0") in host.links.further_routes
    assert host.links.policy_rules == [RULE.through("eth0", "br0")]
    assert (list(entry.permanent.values()), entry.proxies) == ([BY_HAND], [ip_address("203.0.113.77")])
    assert {(str(route.destination), str(route.gateway)) for route in entry.routes} == {("0.0.0.0/0", "203.0.113.1")}


async def test_when_it_stops_everything_is_as_it_was() -> None:
    host = rich_host()
    before = network_state(host)
    async with deaf(host) as daemon:
        switch = await start(daemon)
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert view(daemon).state == "inactive"
    assert not difference(before, network_state(host))
    assert not host.files.files.get("run/switches")


async def test_what_came_to_hang_on_the_bridge_meanwhile_goes_to_the_uplink_too() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon)
        host.perform(GiveAddress("br0", HeldAddress(ip_interface("192.0.2.9/24"))), TakeAddress("br0", SECOND))
        await daemon.services.switches.stop(ROOT, switch.uuid)
    assert addresses(host, "eth0") == (OWN | {"192.0.2.9/24"}) - {"203.0.113.3/24"}


async def test_an_mtu_that_is_asked_for_holds_for_bridge_and_uplink_and_the_uplink_gets_its_own_back() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon, office(mtu=1400, uplinks=["eth0"]))
        assert [link and link.mtu for link in (host.link("br0"), host.link("eth0"))] == [1400, 1400]
        assert addresses(host, "eth0") == OWN, "nothing moves unless asked"
        await daemon.services.switches.stop(ROOT, switch.uuid)
    nic = host.link("eth0")
    assert nic and (nic.mtu, nic.master) == (1460, 0)


async def test_a_device_that_was_down_is_down_again_afterwards() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon, office(uplinks=["eth1"]))
        assert (link := host.link("eth1")) and link.up
        await daemon.services.switches.stop(ROOT, switch.uuid)
    assert (link := host.link("eth1")) and not link.up


async def test_a_restart_changes_nothing() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
    before = host.state()
    host.links.done.clear()
    async with deaf(host) as daemon:
        assert view(daemon).state == "active"
    assert (difference(before, host.state()), host.links.done) == ({}, [])


async def test_autostart_starts_it_once_a_boot() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
    host.boot()
    async with deaf(host) as daemon:
        assert view(daemon).state == "active"


async def test_networks_go_on_being_forwarded_through_the_bridge() -> None:
    host = rich_host()
    path = ("net", "ipv4", "conf", "{}", "forwarding")

    def forwards(name: str) -> str | None:
        return host.links.values.get((*path[:3], name, path[4]))

    async with deaf(host) as daemon:
        network = await daemon.services.networks.define(ROOT, lab(), {})
        await daemon.services.networks.start(ROOT, network.uuid)
        assert forwards("eth0") == "1"
        switch = await start(daemon)
        await eventually(lambda: (forwards("br0"), forwards("eth0")) == ("1", "0"))
        await daemon.services.switches.stop(ROOT, switch.uuid)
        await eventually(lambda: forwards("eth0") == "1")


async def test_at_boot_an_uplink_may_come_later() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon, office(uplinks=["eth1", {"device": "eth0", "migrate": True}]))
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
    host.boot()  # eth1 is a card that is slow to come
    async with running(host) as daemon:
        assert (view(daemon).state, "eth1 is away" in view(daemon).problems[0]) == ("degraded", True)
        host.links.create("eth1", "", mtu=1400)
        bridge = host.link("br0")
        assert bridge
        await eventually(lambda: (card := host.link("eth1")) and card.master == bridge.index and card.up)
        await eventually(lambda: view(daemon).state == "active")
        await daemon.services.switches.stop(ROOT, switch.uuid)
    assert (card := host.link("eth1"))
    assert (card.master, card.up) == (0, False)


async def test_the_bridge_configures_itself_by_ipv6_as_its_uplink_did() -> None:
    host = rich_host()
    for key, value in (("accept_ra", "2"), ("autoconf", "0")):
        host.links.values["net", "ipv6", "conf", "eth0", key] = value
    async with running(host) as daemon:
        await start(daemon)
        conf = {key: host.links.values["net", "ipv6", "conf", "br0", key] for key in ("accept_ra", "autoconf")}
        assert conf == {"accept_ra": "2", "autoconf": "0"}
    async with deaf(host) as daemon:
        host.links.values["net", "ipv6", "conf", "br0", "accept_ra"] = "1"
        await daemon.services.full_pass()
        assert host.links.values["net", "ipv6", "conf", "br0", "accept_ra"] == "2", "known over a restart"


BAD: Mapping[str, tuple[dict[str, Any], type[VnetError], str]] = {
    "no such uplink": ({"uplinks": ["eth7"]}, NotFound, "eth7"),
    "an uplink that belongs to another bridge": ({"uplinks": ["eth1"]}, InUse, "eth1"),
    "a bridge somebody else made": ({"bridge": "theirs"}, InUse, "theirs"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_cannot_be_started_is_refused_by_name_and_nothing_is_left(case: str) -> None:
    fields, error, name = BAD[case]
    host = rich_host()
    host.links.create("theirs", "bridge")
    host.perform(SetLink("eth1", master="theirs"))
    before = network_state(host)
    async with deaf(host) as daemon:
        with pytest.raises(error, match=name):
            await start(daemon, office(**fields))
        assert not view(daemon).active
    assert not difference(before, network_state(host))


async def test_names_bridges_and_uuids_are_not_taken_twice() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        with pytest.raises(Exists, match="give that uuid"):
            await define(daemon)
        with pytest.raises(InUse, match="switch office"):
            await define(daemon, json.dumps({"name": "other", "bridge": "br0"}))
        with pytest.raises(InUse, match="switch office"):
            await daemon.services.networks.define(ROOT, json.dumps({"name": "n", "bridge": {"name": "br0"}}), {})
        await daemon.services.networks.define(ROOT, json.dumps({"name": "n", "bridge": {"name": "virbr5"}}), {})
        with pytest.raises(InUse, match="network n"):
            await define(daemon, json.dumps({"name": "other", "bridge": "virbr5"}))
        await daemon.services.switches.undefine(ROOT, switch.uuid)
        with pytest.raises(NotFound):
            view(daemon)


async def test_a_transient_switch_is_gone_when_it_stops_or_cannot_start(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await daemon.services.switches.create(ROOT, office(), {"confirm": 5})
        assert (switch.persistent, switch.unconfirmed) == (False, True)
        clock.now += 6
        await eventually(lambda: not daemon.services.switches.list())
        with pytest.raises(NotFound):
            await daemon.services.switches.create(ROOT, office(uplinks=["eth7"]), {})
        assert (daemon.services.switches.list(), addresses(host, "eth0")) == ((), OWN)


@pytest.mark.parametrize(
    "options", [{"confirm": -1}, {"confirm": True}, {"confirm": "5"}, {"confirm": 10**6}, {"x": 1}]
)
async def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        with pytest.raises(Invalid):
            await daemon.services.switches.start(ROOT, switch.uuid, options)
        assert not view(daemon).active
