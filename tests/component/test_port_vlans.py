"""VLANs of ports on a switch that filters: port, uplink and the host's own side together, in memory."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest
from support.memory_calls import Call
from support.memory_daemon import ROOT, Running, running
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Denied, InUse, Invalid, Unsupported
from vnetd.plan.kernel import AddPortVlan, DeletePortVlan, SetLink
from vnetd.plan.links import PortVlan
from vnetd.service.views import Caller, PortView

MEMBER = Caller(1000, name=":1.7")
DEFAULT = PortVlan(1, pvid=True, untagged=True)


async def floor(daemon: Running, filtering: bool = True, **network: Any) -> None:
    """A switch with an uplink, and a network of mode bridge on it."""
    switch = {"name": "floor", "bridge": "br0", "uplinks": ["eth0"], "vlan_filtering": filtering}
    made = await daemon.services.switches.define(ROOT, json.dumps(switch), {})
    await daemon.services.switches.start(ROOT, made.uuid, {})
    document = {"name": "desks", "mode": "bridge", "bridge": {"name": "br0"}, **network}
    lan = await daemon.services.networks.define(ROOT, json.dumps(document), {})
    await daemon.services.networks.start(ROOT, lan.uuid)


async def attach(daemon: Running, caller: Caller = ROOT, **spec: Any) -> PortView:
    return (await daemon.services.ports.attach(caller, "desks", {"kind": "veth", "netns": "guest", **spec})).port


def vlans(host: MemoryHost, device: str) -> set[PortVlan]:
    entry = host.links.find(device)
    return set(entry.vlans.values()) if entry else set()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"vlan": 30}, {PortVlan(30, pvid=True, untagged=True)}),
        ({"vlan": "30"}, {PortVlan(30, pvid=True, untagged=True)}),
        ({"vlan": ["30", "40"]}, {PortVlan(30), PortVlan(40)}),
        ({"vlan": ["30", "40:untagged"]}, {PortVlan(30), PortVlan(40, pvid=True, untagged=True)}),
        ({"vlan": ["30", "40:tagged"]}, {PortVlan(30), PortVlan(40, pvid=True)}),
        ({"vlan": "40:tagged"}, {PortVlan(40, pvid=True)}),
        ({"portgroup": "staff"}, {PortVlan(50, pvid=True, untagged=True)}),
        ({}, {PortVlan(60, pvid=True, untagged=True)}),
    ],
)
async def test_a_port_is_in_its_vlans_and_so_is_the_uplink_until_the_port_goes(
    spec: dict[str, Any], expected: set[PortVlan]
) -> None:
    groups = [{"name": "staff", "vlan": {"tags": [{"id": 50}]}}]
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon, vlan={"tags": [{"id": 60}]}, portgroups=groups)
        port = await attach(daemon, **spec)
        assert vlans(host, port.device) == expected
        carried = {DEFAULT} | {PortVlan(one.id) for one in expected}
        await eventually(lambda: vlans(host, "eth0") == carried)
        assert daemon.services.switches.get("floor").ports == (port.uuid,)
        await daemon.services.ports.detach(ROOT, port.uuid)
        await eventually(lambda: vlans(host, "eth0") == {DEFAULT})
        assert daemon.services.switches.get("floor").healed_count == 0, "following ports is no repair"


async def test_a_port_is_never_up_in_another_vlan_than_its_own() -> None:
    host = host_with_uplink()
    seen = []

    async def look(_: Call) -> None:
        entry = host.links.find("veth0")
        if entry and entry.link.up and entry.link.master:
            seen.append(set(entry.vlans.values()))

    async with running(host) as daemon:
        await floor(daemon)
        host.before = look
        port = await attach(daemon, vlan=30)
        own = {PortVlan(30, pvid=True, untagged=True)}
        await eventually(lambda: vlans(host, "eth0") == {DEFAULT, PortVlan(30)})
        host.perform(SetLink(port.device, master=""))
        await eventually(lambda: (link := host.link(port.device)) and link.master and link.up)
        assert seen
        assert all(one == own for one in seen)


async def test_a_vlan_taken_from_a_port_or_given_to_it_is_healed() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon)
        port = await attach(daemon, vlan=30)
        await eventually(lambda: PortVlan(30) in vlans(host, "eth0"))
        own = {PortVlan(30, pvid=True, untagged=True)}
        for damage in (DeletePortVlan(port.device, 30), AddPortVlan(port.device, PortVlan(666))):
            host.perform(damage)
            await eventually(lambda: vlans(host, port.device) == own)
        host.perform(DeletePortVlan("eth0", 30))
        await eventually(lambda: PortVlan(30) in vlans(host, "eth0"))
        await eventually(lambda: daemon.services.switches.get("floor").healed_count == 1)
        assert daemon.services.networks.get("desks").healed_count == 2


async def test_a_restart_leaves_the_vlans_alone() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon)
        port = await attach(daemon, vlan=30)
        await eventually(lambda: PortVlan(30) in vlans(host, "eth0"))
    host.links.done.clear()
    async with running(host) as daemon:
        assert daemon.services.switches.get("floor").ports == (port.uuid,)
    assert host.links.done == []


async def test_a_bridge_that_cannot_filter_refuses_and_nothing_is_left() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon, filtering=False)
        before = host.devices()
        with pytest.raises(Unsupported, match="br0 does not filter by VLAN"):
            await attach(daemon, vlan=30)
        assert (host.devices(), daemon.services.ports.list()) == (before, ())


@pytest.mark.parametrize("vlan", [0, 4095, 4096, "x", "30:native", [], ["1:tagged", "2:tagged"], True])
async def test_vlans_that_are_none_are_refused(vlan: Any) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon)
        with pytest.raises(Invalid):
            await attach(daemon, vlan=vlan)
        assert daemon.services.ports.list() == ()


async def test_who_is_not_root_gets_the_vlans_of_a_port_group_and_chooses_none_himself() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon, portgroups=[{"name": "staff", "vlan": {"tags": [{"id": 50}]}}])
        host.guests.owners[os.devnull] = MEMBER.uid
        with pytest.raises(Denied, match="only root may choose"):
            await attach(daemon, MEMBER, vlan=30)
        port = await attach(daemon, MEMBER, portgroup="staff")
        assert vlans(host, port.device) == {PortVlan(50, pvid=True, untagged=True)}


async def test_an_owner_who_is_not_root_takes_a_port_out_of_no_vlan_root_gave_it() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon, portgroups=[{"name": "staff", "vlan": {"tags": [{"id": 50}]}}])
        other = {"name": "other", "mode": "bridge", "bridge": {"name": "br0"}}
        network = await daemon.services.networks.define(ROOT, json.dumps(other), {})
        await daemon.services.networks.start(ROOT, network.uuid)
        ports = daemon.services.ports
        port = await attach(daemon, replace(MEMBER, administrator=True), vlan=30)
        given = {PortVlan(30, pvid=True, untagged=True)}
        before = host.state()
        with pytest.raises(Denied, match=f"port {port.device} has VLANs root gave it on its network: only root may"):
            await ports.move(MEMBER, port.uuid, "other")
        assert (difference(before, host.state()), ports.get(port.device).network_name) == ({}, "desks")
        await ports.set_port_group(MEMBER, port.uuid, "staff")
        assert vlans(host, port.device) == given, "its own count for more than those of a port group"
        await ports.move(ROOT, port.uuid, "other")
        assert (vlans(host, port.device), ports.get(port.device).network_name) == (given, "other")
        with pytest.raises(Denied, match="only root may move it"):
            await ports.move(MEMBER, port.uuid, "desks")


async def test_a_port_that_moves_to_another_port_group_is_in_that_ones_vlan_and_the_uplink_follows() -> None:
    host = host_with_uplink()
    groups = [{"name": name, "vlan": {"tags": [{"id": number}]}} for name, number in (("staff", 50), ("visitors", 51))]
    async with running(host) as daemon:
        await floor(daemon, portgroups=groups)
        port = await attach(daemon, portgroup="staff")
        await eventually(lambda: vlans(host, "eth0") == {DEFAULT, PortVlan(50)})
        await daemon.services.ports.set_port_group(ROOT, port.uuid, "visitors")
        assert vlans(host, port.device) == {PortVlan(51, pvid=True, untagged=True)}
        await eventually(lambda: vlans(host, "eth0") == {DEFAULT, PortVlan(51)})


async def test_a_switch_with_ports_is_not_stopped_under_them() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await floor(daemon)
        port = await attach(daemon)
        switch = daemon.services.switches.get("floor")
        await eventually(lambda: daemon.services.switches.get("floor").ports)
        with pytest.raises(InUse, match="has 1 ports"):
            await daemon.services.switches.stop(ROOT, switch.uuid)
        await daemon.services.ports.detach(ROOT, port.uuid)
        await eventually(lambda: not daemon.services.switches.get("floor").ports)
        await daemon.services.switches.stop(ROOT, switch.uuid)
