"""What starting or changing a switch would do is told, step by step and to whom, and nothing is done."""

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from support.memory_daemon import ROOT, Running, running
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.policy_rules import rule

from vnetd.model.errors import Busy, InUse, Invalid, NotFound, Unsupported, VnetError
from vnetd.plan.kernel import GiveAddress, GiveNeighbour, GiveProxy, GiveRoute, GiveRule, SetLink
from vnetd.plan.link_dns import LinkDns, NameServer
from vnetd.plan.possessions import HeldAddress, HeldNeighbour, HeldRoute, NextHop
from vnetd.plan.steps import KernelStep, Phase
from vnetd.service.preview import describe

GATEWAY = ip_address("203.0.113.1")


def office(**fields: Any) -> str:
    return json.dumps({"name": "office", "bridge": "br0", "uplinks": [{"device": "eth0", "migrate": True}], **fields})


def rich_host() -> MemoryHost:
    """With something of each kind on eth0, and nothing on eth1."""
    host = host_with_uplink()
    host.perform(
        GiveRoute(HeldRoute(ip_network("10.8.0.0/16"), (NextHop("eth0", GATEWAY),), table=7)),
        GiveRule(rule(100, iif="eth0")),
        GiveNeighbour("eth0", HeldNeighbour(ip_address("203.0.113.5"), "52:54:00:00:00:05")),
        GiveProxy("eth0", ip_address("203.0.113.77")),
    )
    host.links.create("eth1", "")
    uplink = host.link("eth0")
    assert uplink
    host.name_servers.links[uplink.index] = LinkDns((NameServer(GATEWAY),))
    return host


async def planned(daemon: Running, document: str) -> dict[str, Any]:
    """The plan, which left the host alone."""
    host = daemon.host
    before, changes = host.state(), [call for call in host.calls if call.changes]
    plan: dict[str, Any] = json.loads(await daemon.services.switches.plan(ROOT, document, {}))
    assert not difference(before, host.state())
    assert [call for call in host.calls if call.changes] == changes
    return plan


def told(plan: dict[str, Any], phase: str) -> set[tuple[str, str]]:
    return {(step["operation"], step["what"]) for step in plan["steps"] if step["phase"] == phase}


async def start(daemon: Running, document: str) -> None:
    switch = await daemon.services.switches.define(ROOT, document, {})
    await daemon.services.switches.start(ROOT, switch.uuid, {})


async def test_a_start_moves_what_the_host_has_on_the_uplink_and_disturbs_it() -> None:
    async with running(rich_host()) as daemon:
        plan = await planned(daemon, office())
        assert (plan["active"], plan["disturbs_guests"], plan["disturbs_host"]) == (False, False, True)
        assert [step["operation"] for step in plan["steps"]][:1] == ["CreateBridge"]
        assert ("SetLink", "uplink eth0") in told(plan, "ports")
        assert told(plan, "move") >= {
            ("TakeAddress", "address 203.0.113.2/24 on eth0"),
            ("GiveAddress", "address 203.0.113.2/24 on br0"),
            ("TakeRoute", "route 10.8.0.0/16 on eth0"),
            ("GiveRoute", "route 0.0.0.0/0 on br0"),
            ("GiveRule", "rule 100 iif br0"),
            ("TakeRule", "rule 100 iif eth0"),
            ("GiveNeighbour", "neighbour 203.0.113.5 on br0"),
            ("GiveProxy", "neighbour proxy 203.0.113.77 on br0"),
            ("MoveNameServers", "name servers 203.0.113.1 of eth0 to br0"),
        }
        (route,) = [one for one in plan["steps"] if one["what"] == "route 10.8.0.0/16 on br0"]
        assert route["arguments"]["route"]["hops"] == [
            {"device": "br0", "gateway": "203.0.113.1", "weight": 0, "onlink": False}
        ]
        assert not daemon.services.switches.list(), "nor is anything defined"


FILTERING: dict[str, Any] = {"vlan_filtering": True, "default_pvid": 5}
VLANS: dict[str, Any] = {
    **FILTERING,
    "uplinks": [
        {"device": "eth0", "migrate": True, "vlans": {"tags": [{"id": 30, "native": "untagged"}, {"id": 40}]}},
        "eth1",
        {"device": "eth1", "vlan": 7},
    ],
    "host_access": {"tags": [{"id": 30}]},
}


async def test_a_plan_tells_the_vlans_of_all_uplinks_and_of_the_bridge_before_any_is_plugged_in() -> None:
    async with running(rich_host()) as daemon:
        plan = await planned(daemon, office(**VLANS))
    vlans = [
        (step["operation"], arguments["name"], arguments["vlan"], arguments["own"])
        for step in plan["steps"]
        if "VLANs" in step["what"]
        for arguments in [step["arguments"]]
    ]
    own = {"id": 30, "pvid": True, "untagged": True}
    assert vlans == [
        ("AddPortVlan", "br0", own, True),
        ("DeletePortVlan", "br0", 5, True),
        ("AddPortVlan", "eth0", own, False),
        ("AddPortVlan", "eth0", {"id": 40, "pvid": False, "untagged": False}, False),
        ("DeletePortVlan", "eth0", 5, False),
        ("AddPortVlan", "eth1", {"id": 30, "pvid": False, "untagged": False}, False),
        ("AddPortVlan", "eth1.7", {"id": 30, "pvid": False, "untagged": False}, False),
    ]


UUID = "5b7b6b0a-54f1-4f6c-8d0e-0a4f1f6f9b11"
BEFORE: dict[str, dict[str, Any]] = {
    "that does not run": {},
    "without uplinks": {"uplinks": []},
    "with another uplink, which does not filter": {"uplinks": ["eth1"]},
    "whose addresses come from another card": {"uplinks": [{"device": "eth1", "migrate": True}], **FILTERING},
}


@pytest.mark.parametrize("before", BEFORE)
async def test_what_a_plan_tells_is_what_is_done_in_this_order(before: str) -> None:
    host = rich_host()
    host.name_servers.links.clear()
    host.perform(GiveAddress("eth1", HeldAddress(ip_interface("192.0.2.9/24"))), GiveRule(rule(7, oif="eth1")))
    async with running(host) as daemon:
        if BEFORE[before]:
            await start(daemon, office(uuid=UUID, **BEFORE[before]))
        host.deafen()
        document = office(uuid=UUID, **VLANS)
        plan = await planned(daemon, document)
        host.links.done.clear()
        await (daemon.services.switches.define(ROOT, document, {}) if BEFORE[before] else start(daemon, document))
    done = [describe(KernelStep(Phase.LINK, "", operation)) for operation in host.links.done]
    assert [(step["operation"], step["arguments"]) for step in plan["steps"]] == [
        (step["operation"], json.loads(json.dumps(step["arguments"]))) for step in done
    ]


async def test_a_card_whose_addresses_stay_is_cut_off_and_that_disturbs_the_host() -> None:
    async with running(rich_host()) as daemon:
        plan = await planned(daemon, office(uplinks=["eth0"]))
        assert (told(plan, "move"), plan["disturbs_host"]) == (set(), True)
        plan = await planned(daemon, office(uplinks=["eth1"]))
        assert (plan["disturbs_host"], plan["disturbs_guests"]) == (False, False)


async def test_a_switch_that_is_as_it_should_be_has_no_steps() -> None:
    async with running(rich_host()) as daemon:
        await start(daemon, office())
        plan = await planned(daemon, office(uuid=str(daemon.services.switches.get("office").uuid)))
        assert (plan["active"], plan["steps"]) == (True, [])
        assert (plan["disturbs_host"], plan["disturbs_guests"]) == (False, False)


async def test_a_change_of_one_that_runs_tells_what_comes_and_goes() -> None:
    async with running(rich_host()) as daemon:
        await start(daemon, office(uplinks=[{"device": "eth0", "migrate": True}, "eth1"]))
        uuid = str(daemon.services.switches.get("office").uuid)
        plan = await planned(daemon, office(uuid=uuid, stp=True))
        assert told(plan, "remove") == {("SetLink", "uplink eth1")}
        assert (told(plan, "move"), plan["disturbs_guests"], plan["disturbs_host"]) == (set(), True, False)
        plan = await planned(daemon, office(uuid=uuid, uplinks=["eth0", "eth1"]))
        assert ("GiveAddress", "address 203.0.113.2/24 on eth0") in told(plan, "move")
        assert (plan["disturbs_guests"], plan["disturbs_host"]) == (True, True)
        plan = await planned(daemon, office(uuid=uuid, uplinks=["eth0", {"device": "eth1", "migrate": True}]))
        assert ("MoveNameServers", "name servers 203.0.113.1 of br0 to eth0") in told(plan, "move")


REFUSED: dict[str, tuple[dict[str, Any], type[VnetError], str]] = {
    "no such uplink": ({"uplinks": ["eth7"]}, NotFound, "eth7"),
    "an uplink of another bridge": ({"uplinks": ["eth1"]}, InUse, "eth1"),
    "a bridge somebody else made": ({"bridge": "theirs"}, InUse, "theirs"),
    "filtering the kernel cannot do": ({"vlan_filtering": True}, Unsupported, "not compiled in"),
    "a priority there is not": ({"priority": 70000}, Invalid, "priority"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_a_start_would_be_refused_for_a_plan_is_refused_for(case: str) -> None:
    fields, error, name = REFUSED[case]
    host = rich_host()
    host.links.create("theirs", "bridge")
    host.perform(SetLink("eth1", master="theirs"))
    host.capabilities.lacking["bridge-vlan-filtering"] = "not compiled in"
    async with running(host) as daemon:
        with pytest.raises(error, match=name):
            await planned(daemon, office(**fields))


async def test_what_cannot_move_is_named_in_time() -> None:
    host = rich_host()
    async with running(host) as daemon:
        real = host.links.possessions

        async def unportable(name: str) -> Any:
            found = await real(name)
            return replace(found, unportable=("route 10.0.0.0/8 with a next hop object",)) if found else None

        host.links.possessions = unportable  # type: ignore[method-assign]
        with pytest.raises(Unsupported, match="next hop object of eth0"):
            await planned(daemon, office())


async def test_one_that_runs_cannot_be_on_another_bridge() -> None:
    async with running(rich_host()) as daemon:
        await start(daemon, office())
        uuid = str(daemon.services.switches.get("office").uuid)
        with pytest.raises(Busy, match="stop it to change its bridge name"):
            await planned(daemon, office(uuid=uuid, bridge="br1"))


async def test_addresses_that_came_later_are_in_the_plan_of_the_way_back() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon, office())
        host.perform(GiveAddress("br0", HeldAddress(ip_interface("198.51.100.9/24"))))
        uuid = str(daemon.services.switches.get("office").uuid)
        plan = await planned(daemon, office(uuid=uuid, uplinks=[]))
        assert ("GiveAddress", "address 198.51.100.9/24 on eth0") in told(plan, "move")
