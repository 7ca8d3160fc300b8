"""VLANs of switches on a host in memory."""

import pytest
from support.memory_daemon import ROOT, running
from support.memory_host import difference
from support.memory_switches import (
    deaf,
    network_state,
    office,
    rich_host,
    start,
    view,
)
from support.waiting import eventually

from vnetd.model.errors import Unsupported
from vnetd.plan.kernel import (
    AddPortVlan,
    DeleteLink,
)
from vnetd.plan.links import PortVlan

VLANS = {"vlan_filtering": True, "uplinks": ["eth0"], "host_access": {"tags": [{"id": 9}]}}


async def test_a_switch_that_filters_has_its_vlans_on_uplink_and_bridge_and_heals_them() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon, office(**VLANS))
        uplink, bridge = host.links.find("eth0"), host.links.find("br0")
        assert uplink and bridge
        on_uplink = {1: PortVlan(1, pvid=True, untagged=True), 9: PortVlan(9)}
        assert (uplink.vlans, bridge.vlans) == (on_uplink, {9: PortVlan(9, pvid=True, untagged=True)})
        host.perform(AddPortVlan("eth0", PortVlan(666)))
        await eventually(lambda: uplink.vlans == on_uplink)
        await eventually(lambda: view(daemon).healed_count == 1)


async def test_a_kernel_without_vlan_filtering_is_named_and_nothing_is_left() -> None:
    host = rich_host()
    host.links.knows_vlans = False
    host.capabilities.lacking |= {"bridge-vlan-filtering": "not compiled in", "vlan": "no module"}
    before = network_state(host)
    filtering = "switch office needs VLAN filtering on bridges, which this host has not: not compiled in; leave vlan_"
    tagged = "switch tagged: uplink eth1.30 needs 802.1Q devices, which this host has not: no module"
    async with deaf(host) as daemon:
        calls = len(host.calls)
        with pytest.raises(Unsupported, match=f"^{filtering}"):
            await start(daemon, office(**VLANS))
        with pytest.raises(Unsupported, match=f"^{tagged}$"):
            document = office(name="tagged", bridge="br1", uplinks=[{"device": "eth1", "vlan": 30}])
            await daemon.services.switches.create(ROOT, document, {"confirm": 60})
        assert not [call for call in host.calls[calls:] if call.verb.startswith("kernel.") and call.changes]
        (left,) = daemon.services.switches.list()
        assert (left.name, left.active, left.unconfirmed) == ("office", False, False)
    assert not difference(before, network_state(host))


async def test_a_switch_that_runs_is_not_changed_to_what_the_kernel_lacks() -> None:
    host = rich_host()
    async with running(host) as daemon:
        switch = await start(daemon, office())
        before = network_state(host)
        host.capabilities.lacking["bridge-vlan-filtering"] = "not compiled in"
        with pytest.raises(Unsupported, match="not compiled in"):
            await daemon.services.switches.define(ROOT, office(uuid=str(switch.uuid), **VLANS), {})
        assert not difference(before, network_state(host))


async def test_a_vlans_part_of_a_device_is_made_plugged_in_healed_and_taken_away() -> None:
    host = rich_host()
    async with running(host) as daemon:
        switch = await start(daemon, office(uplinks=[{"device": "eth1", "vlan": 30}]))
        made, bridge = host.link("eth1.30"), host.link("br0")
        assert made and bridge and (made.master, made.up) == (bridge.index, True)
        assert (parent := host.link("eth1")) and parent.up
        host.perform(DeleteLink("eth1.30", ""))
        await eventually(lambda: (again := host.link("eth1.30")) and again.master == bridge.index and again.up)
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert host.devices() == {"eth0", "eth1"}
