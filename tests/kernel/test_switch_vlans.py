"""VLANs on a switch that filters, and VLANs' parts of a card as uplinks: with frames, where the kernel knows them."""

import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.client import MANAGER, ROOT, Client
from support.daemon import Daemon
from support.netns import Lab, Namespace
from support.private_bus import private_bus
from support.waiting import eventually

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


@pytest.fixture
async def floor(lab: Lab) -> AsyncIterator[tuple[Namespace, Namespace, Client]]:
    """A host whose card leads to a machine that knows VLANs 30 and 40; vnetd, and a client of it."""
    host, peer = lab.namespace("host"), lab.namespace("peer")
    host.run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "card", "netns", peer.name)
    host.run("ip", "link", "set", "nic0", "up")
    peer.run("ip", "link", "set", "card", "up")
    for number in (30, 40):
        peer.run("ip", "link", "add", "link", "card", "name", f"v{number}", "type", "vlan", "id", str(number))
        peer.run("ip", "address", "add", f"192.0.{number}.1/24", "dev", f"v{number}")
        peer.run("ip", "link", "set", f"v{number}", "up")
    with tempfile.TemporaryDirectory(prefix="vnetd-vlans-") as name, private_bus() as bus:
        Path(name).chmod(0o755)
        daemon = Daemon(host, bus.address, Path(name))
        daemon.start(deadline=PATIENCE)
        async with Client(bus.address) as client:
            yield host, peer, client
        daemon.close()


def reaches(guest: Namespace, address: str) -> bool:
    return guest.succeeds("ping", "-c1", "-W2", address)


@pytest.mark.stock_kernel("bridge-vlan-filtering", "vlan")
async def test_guests_reach_their_own_vlan_through_the_uplink_and_no_other_and_it_is_healed(
    lab: Lab, floor: tuple[Namespace, Namespace, Client]
) -> None:
    host, _, client = floor
    switch = {"name": "floor", "bridge": "br0", "uplinks": ["nic0"], "vlan_filtering": True}
    made = await client.call(ROOT, MANAGER, "DefineSwitch", "sa{sv}", json.dumps(switch), {})
    await client.call(made, "org.vnetd1.Switch", "Start", "a{sv}", {})
    network = {"name": "desks", "mode": "bridge", "bridge": {"name": "br0"}}
    await client.start(await client.define_network(json.dumps(network)))
    guests = {}
    for number in (30, 40):
        guests[number] = inside = lab.namespace(f"guest{number}")
        await client.attach("desks", {"kind": "veth", "netns": inside.path, "vlan": number})
        inside.run("ip", "address", "add", f"192.0.{number}.9/24", "dev", "eth0")
        inside.run("ip", "address", "add", f"198.51.100.{number}/24", "dev", "eth0")
    await eventually(lambda: reaches(guests[30], "192.0.30.1"), "VLAN 30", deadline=PATIENCE)
    await eventually(lambda: reaches(guests[40], "192.0.40.1"), "VLAN 40", deadline=PATIENCE)
    assert not reaches(guests[30], "198.51.100.40"), "two VLANs, two networks"
    host.run("bridge", "vlan", "delete", "vid", "30", "dev", "nic0")
    await eventually(lambda: reaches(guests[30], "192.0.30.1"), "healed", deadline=PATIENCE)


@pytest.mark.stock_kernel("vlan")
async def test_a_switch_on_a_vlans_part_of_a_card_carries_that_vlan_only(
    lab: Lab, floor: tuple[Namespace, Namespace, Client]
) -> None:
    host, _, client = floor
    switch = {"name": "floor", "bridge": "br0", "uplinks": [{"device": "nic0", "vlan": 30}]}
    made = await client.call(ROOT, MANAGER, "DefineSwitch", "sa{sv}", json.dumps(switch), {})
    await client.call(made, "org.vnetd1.Switch", "Start", "a{sv}", {})
    host.run("ip", "address", "add", "192.0.30.7/24", "dev", "br0")
    await eventually(lambda: reaches(host, "192.0.30.1"), "VLAN 30", deadline=PATIENCE)
    host.run("ip", "link", "delete", "nic0.30")
    await eventually(lambda: reaches(host, "192.0.30.1"), "made again", deadline=PATIENCE)
    await client.call(made, "org.vnetd1.Switch", "Stop")
    assert host.link("nic0.30") is None
