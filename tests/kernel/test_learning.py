"""Addresses learned from real clients' packets: by DHCP and by use, over restarts of the daemon."""

import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.client import MANAGER, PORT, ROOT, Refused, variant
from support.netns import DHCP_SCRIPT, Guest, Lab
from support.site import Administrator, AttachedGuest
from support.traffic import Pinging
from support.waiting import SILENCE, eventually, wait_until

MAC = "52:54:00:00:00:61"
PEER = "192.168.77.5"
SPOOFED = "192.168.77.66"
either = pytest.mark.stock_kernel("nft-bridge-conntrack", here=True)
LAB = {
    "name": "lab",
    "mode": "isolated",
    "addresses": [
        {"address": "192.168.77.1/24", "dhcp": {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.40"}]}}
    ],
}


def learning(mode: str, **parameters: str) -> dict[str, Any]:
    """Spec of a port held to addresses that are learned."""
    values = {"CTRL_IP_LEARNING": mode, **parameters}
    return {"filter": "clean-traffic", "mac": MAC, **{f"parameter.{name}": one for name, one in values.items()}}


@pytest.fixture
async def peer(admin: Administrator) -> AsyncIterator[AttachedGuest]:
    await admin.raise_network(LAB)
    yield await admin.add_guest("lab", f"{PEER}/24", name="peer")


def pings_from(guest: Guest, source: str, target: str = PEER) -> bool:
    """Whether the target answers the guest under that address."""
    return guest.succeeds("ping", "-n", "-c", "1", "-W", "1", "-I", source, target)


@either
async def test_nothing_but_dhcp_passes_before_the_first_lease(admin: Administrator, peer: AttachedGuest) -> None:
    guest = await admin.add_guest("lab", f"{SPOOFED}/24", **learning("dhcp"))
    assert not pings_from(guest, SPOOFED)
    assert not peer.ping(SPOOFED, wait=SILENCE)
    address = guest.lease()
    assert wait_until(lambda: pings_from(guest, address), "its lease is in force")
    guest.configure(f"{SPOOFED}/24")
    assert not pings_from(guest, SPOOFED)


async def test_a_lease_holds_while_the_daemon_is_killed_and_after_and_ends_with_its_release(
    admin: Administrator, peer: AttachedGuest
) -> None:
    guest = await admin.add_guest("lab", **learning("dhcp"))
    client = guest.start("udhcpc", "-i", "eth0", "-f", "-R", "-t", "20", "-T", "1", "-s", str(DHCP_SCRIPT))
    address = wait_until(lambda: [a.split("/")[0] for a in guest.addresses("eth0") if "." in a], "it has a lease")[0]
    wait_until(lambda: pings_from(guest, address), "its lease is in force")
    await admin.reconcile()
    before = admin.site.ruleset()
    with Pinging(guest, PEER) as ping:
        admin.site.daemon.kill()
        await ping.goes_on()
        admin.site.daemon.start()
        assert admin.site.ruleset() == before
        await ping.goes_on()
    os.kill(client.pid, signal.SIGTERM)  # it releases its lease and ends
    client.wait(timeout=10)
    guest.configure(f"{address}/24")
    assert wait_until(lambda: not pings_from(guest, address), "what was released does not count any more")


async def test_a_lease_given_while_the_daemon_was_away_counts_once_it_is_back(
    admin: Administrator, peer: AttachedGuest
) -> None:
    guest = await admin.add_guest("lab", **learning("dhcp"))
    admin.site.daemon.kill()
    address = guest.lease()
    assert not pings_from(guest, address)
    admin.site.daemon.start()
    assert wait_until(lambda: pings_from(guest, address), "the server's lease is taken over")


@either
async def test_answers_of_a_server_that_is_not_named_do_not_arrive(admin: Administrator, peer: AttachedGuest) -> None:
    guest = await admin.add_guest("lab", **learning("dhcp", DHCPSERVER="192.168.77.2"))
    asked = "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "3", "-T", "1", "-s", str(DHCP_SCRIPT)
    assert not guest.succeeds(*asked)
    values = {name: variant(one) for name, one in (("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "192.168.77.1"))}
    await admin.call(guest.port, PORT, "SetFilter", "sa{sv}", "clean-traffic", values)
    address = guest.lease()
    assert wait_until(lambda: pings_from(guest, address), "its lease is in force")


@either
async def test_the_first_address_used_is_learned_also_on_a_device_of_somebody_else(
    admin: Administrator, peer: AttachedGuest, lab: Lab
) -> None:
    """Bound before the device exists; nothing its guest has sent before is forwarded unseen."""
    await admin.bind("later0", "clean-traffic", {"MAC": MAC})
    guest = lab.namespace("later")
    lab.veth(admin.site.host, "later0", guest, "eth0", MAC)
    try:
        admin.site.host.run("ip", "link", "set", "later0", "master", "virbr0", "up")
        guest.run("ip", "link", "set", "eth0", "up")
        guest.run("ip", "address", "add", "192.168.77.7/24", "dev", "eth0")
        inside = Guest(guest.name)
        assert wait_until(lambda: pings_from(inside, "192.168.77.7"), "its first address is learned")
        closed = lambda: "learn_from_any" not in str(admin.site.elements())  # noqa: E731
        await eventually(closed, "its traffic teaches no more", deadline=20)
        guest.run("ip", "address", "add", f"{SPOOFED}/24", "dev", "eth0")
        assert not pings_from(inside, SPOOFED)
        assert pings_from(inside, "192.168.77.7")
        await admin.reconcile()
        before = admin.site.ruleset()
        admin.site.daemon.kill()
        admin.site.daemon.start()
        assert admin.site.ruleset() == before
        assert pings_from(inside, "192.168.77.7")
        assert not pings_from(inside, SPOOFED)
    finally:
        admin.site.host.run("ip", "link", "delete", "later0")


@either
async def test_an_address_of_the_host_or_of_another_guest_is_not_learned(
    admin: Administrator, peer: AttachedGuest
) -> None:
    one = await admin.add_guest("lab", "192.168.77.7/24", name="one", **learning("any"))
    assert wait_until(lambda: pings_from(one, "192.168.77.7"), "its address is learned")
    spec = {**learning("any"), "mac": "52:54:00:00:00:67"}
    thief = await admin.add_guest("lab", "192.168.77.7/24", name="thief", **spec)
    wait_until(lambda: not pings_from(thief, "192.168.77.7"), "it does not pass while it is not learned")
    thief.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    thief.configure("192.168.77.8/24")
    assert wait_until(lambda: pings_from(thief, "192.168.77.8"), "an address of its own is learned")
    known = [str(one) for one in admin.site.elements() if thief.device in str(one)]
    assert any("192.168.77.8" in one for one in known) and not any("192.168.77.7'" in one for one in known)


async def test_a_device_that_is_no_port_of_a_bridge_cannot_be_filtered(admin: Administrator) -> None:
    host = admin.site.host
    host.run("ip", "link", "add", "mv0", "link", "uplink0", "type", "macvlan", "mode", "bridge")
    try:
        with pytest.raises(Refused, match=r"Unsupported.*mv0 is a macvlan: only ports of a bridge and macvtaps"):
            await admin.call(ROOT, MANAGER, "BindFilter", "ssa{sv}", "mv0", "clean-traffic", {"MAC": variant(MAC)})
    finally:
        host.run("ip", "link", "delete", "mv0")
