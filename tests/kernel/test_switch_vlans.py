"""VLANs on a switch that filters, and VLANs' parts of a card as uplinks: with frames, where the kernel knows them."""

import json
from collections.abc import AsyncIterator

import pytest
from support.client import MANAGER, ROOT
from support.netns import Lab, Namespace
from support.site import Administrator
from support.waiting import SILENCE, eventually

from vnetd.linux.kernel import LinuxKernel
from vnetd.plan.kernel import (
    AddPortVlan,
    CreateBridge,
    CreateVeth,
    CreateVlan,
    DeletePortVlan,
    SetBridge,
    SetLink,
)
from vnetd.plan.links import BridgeOptions, PortVlan

PATIENCE = 90
"""Seconds: such kernels run in emulation, where everything takes its time."""
BRIDGE = CreateBridge(
    "br0", "52:54:00:00:00:01", 1500, False, 0, "x", BridgeOptions(vlan_filtering=True, default_pvid=7)
)


@pytest.mark.stock_kernel("bridge-vlan-filtering")
async def test_vlans_of_ports_and_of_the_bridge_itself_are_set_read_and_taken() -> None:
    kernel = await LinuxKernel.start()
    try:
        with open("/proc/thread-self/ns/net", "rb") as here:
            pair = CreateVeth("p0", "52:54:00:00:00:02", "p1", "52:54:00:00:00:03", here.fileno(), 1500, "y")
            await kernel.apply([BRIDGE, pair, SetLink("p0", master="br0")])
        default = PortVlan(7, pvid=True, untagged=True)
        bridge = await kernel.link("br0")
        assert bridge and bridge.bridge and (bridge.bridge.vlan_filtering, bridge.bridge.default_pvid) == (True, 7)
        assert [await kernel.port_vlans(name) for name in ("p0", "br0")] == [{default}, {default}]
        own = PortVlan(30, pvid=True, untagged=True)
        await kernel.apply(
            [AddPortVlan("p0", own), AddPortVlan("p0", PortVlan(40)), DeletePortVlan("p0", 7), DeletePortVlan("p0", 8)]
        )
        await kernel.apply([AddPortVlan("br0", PortVlan(30), own=True)])
        assert await kernel.port_vlans("p0") == {own, PortVlan(40)}
        assert await kernel.port_vlans("br0") == {default, PortVlan(30)}
        await kernel.apply([SetBridge("br0", BridgeOptions(vlan_filtering=False))])
        assert (after := await kernel.link("br0")) and after.bridge and not after.bridge.vlan_filtering
    finally:
        await kernel.close()


@pytest.mark.stock_kernel("vlan")
async def test_a_vlans_part_of_a_device_is_made() -> None:
    kernel = await LinuxKernel.start()
    try:
        await kernel.apply([CreateBridge("nic0", "52:54:00:00:00:01", 1500, False, 0, "x")])
        await kernel.apply([CreateVlan("nic0.30", "nic0", 30, "vnetd:switch:1")])
        made = await kernel.link("nic0.30")
        assert made and (made.kind, made.alias) == ("vlan", "vnetd:switch:1")
    finally:
        await kernel.close()


PEER = "link set card up\n" + "".join(
    f"link add link card name v{vlan} type vlan id {vlan}\n"
    f"address add 192.0.{vlan}.1/24 dev v{vlan}\n"
    f"link set v{vlan} up\n"
    for vlan in (30, 40)
)
"""What the machine at the other end sets up, as ``ip`` lines."""


@pytest.fixture
async def floor(admin: Administrator, lab: Lab) -> AsyncIterator[Administrator]:
    """The administrator of a host whose card nic0 leads to a machine that knows VLANs 30 and 40."""
    host, peer = admin.site.host, lab.namespace("peer")
    lab.veth(host, "nic0", peer, "card")
    host.run("ip", "link", "set", "nic0", "up")
    peer.run("ip", "-batch", "-", stdin=PEER)
    yield admin
    await admin.withdraw()
    host.run("ip", "link", "delete", "nic0")


def reaches(guest: Namespace, address: str, wait: float = 2) -> bool:
    return guest.succeeds("ping", "-c1", f"-W{wait}", address)


@pytest.mark.stock_kernel("bridge-vlan-filtering", "vlan")
async def test_guests_reach_their_own_vlan_through_the_uplink_and_no_other_and_it_is_healed(
    lab: Lab, floor: Administrator
) -> None:
    switch = {"name": "floor", "bridge": "br0", "uplinks": ["nic0"], "vlan_filtering": True}
    made = await floor.call(ROOT, MANAGER, "DefineSwitch", "sa{sv}", json.dumps(switch), {})
    await floor.call(made, "org.vnetd1.Switch", "Start", "a{sv}", {})
    network = {"name": "desks", "mode": "bridge", "bridge": {"name": "br0"}}
    await floor.raise_network(network)
    guests = {}
    for number in (30, 40):
        guests[number] = inside = lab.namespace(f"guest{number}")
        await floor.attach("desks", {"kind": "veth", "netns": inside.path, "vlan": number})
        inside.run("ip", "address", "add", f"192.0.{number}.9/24", "dev", "eth0")
        inside.run("ip", "address", "add", f"198.51.100.{number}/24", "dev", "eth0")
    await eventually(lambda: reaches(guests[30], "192.0.30.1"), "VLAN 30", deadline=PATIENCE)
    await eventually(lambda: reaches(guests[40], "192.0.40.1"), "VLAN 40", deadline=PATIENCE)
    assert not reaches(guests[30], "198.51.100.40", wait=SILENCE), "two VLANs, two networks"
    floor.site.host.run("bridge", "vlan", "delete", "vid", "30", "dev", "nic0")
    await eventually(lambda: reaches(guests[30], "192.0.30.1"), "healed", deadline=PATIENCE)


@pytest.mark.stock_kernel("vlan")
async def test_a_switch_on_a_vlans_part_of_a_card_carries_that_vlan_only(lab: Lab, floor: Administrator) -> None:
    switch = {"name": "floor", "bridge": "br0", "uplinks": [{"device": "nic0", "vlan": 30}]}
    made = await floor.call(ROOT, MANAGER, "DefineSwitch", "sa{sv}", json.dumps(switch), {})
    await floor.call(made, "org.vnetd1.Switch", "Start", "a{sv}", {})
    host = floor.site.host
    host.run("ip", "address", "add", "192.0.30.7/24", "dev", "br0")
    await eventually(lambda: reaches(host, "192.0.30.1"), "VLAN 30", deadline=PATIENCE)
    host.run("ip", "link", "delete", "nic0.30")
    await eventually(lambda: reaches(host, "192.0.30.1"), "made again", deadline=PATIENCE)
    await floor.call(made, "org.vnetd1.Switch", "Stop")
    assert host.link("nic0.30") is None
