"""Tests that this machine's kernel cannot run have a kernel that can."""

import asyncio

import pytest
from support.netns import Lab, Namespace, run
from support.waiting import SILENCE, wait_until

from vnetd.linux.capabilities import LinuxCapabilities
from vnetd.linux.nft import LinuxNft


@pytest.mark.stock_kernel("vlan", "bridge-vlan-filtering")
def test_vlans_are_kept_apart_by_a_bridge_that_filters_them(lab: Lab, host_ns: Namespace) -> None:
    host_ns.run("ip", "link", "add", "br0", "type", "bridge", "vlan_filtering", "1", "vlan_default_pvid", "0")
    host_ns.run("ip", "link", "set", "br0", "up")
    guests = [lab.guest(host_ns, "br0", name) for name in ("one", "two", "three")]
    for number, (guest, vlan) in enumerate(zip(guests, (10, 10, 20), strict=True), 1):
        host_ns.run("bridge", "vlan", "add", "dev", guest.device, "vid", str(vlan), "pvid", "untagged")
        guest.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", "eth0")
    assert wait_until(lambda: guests[0].ping("192.0.2.2"), "guests of one VLAN reach each other")
    assert not guests[0].ping("192.0.2.3", wait=SILENCE)


@pytest.mark.stock_kernel("nft-bridge-conntrack")
def test_the_daemons_own_probe_finds_what_a_test_was_sent_here_for() -> None:
    async def lacking() -> dict[str, str]:
        nft = LinuxNft()
        await nft.open()
        found = await LinuxCapabilities(nft.exclusively).all()
        await nft.close()
        return {one.name: one.reason for one in found if not one.ok}

    assert "nft-bridge-conntrack" not in asyncio.run(lacking())
    assert run("nft", "list", "tables").stdout.split() == [], "a probe leaves nothing"
