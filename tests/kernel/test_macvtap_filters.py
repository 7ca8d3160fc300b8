"""Filters of guests on macvtap devices, by packets from the guest's descriptor: such a device is in no bridge."""

import json
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from support.client import BINDING, MANAGER, PORT, ROOT, Refused, variant
from support.dhcp_packets import dhcp
from support.filtering import arp, ethernet
from support.guest_frames import GUEST4, HONEST, MAC, PEER4, PEER_MAC, PRETENDED, udp4
from support.macvtaps import ETH_P_ALL, Lan, Tap, finish, guest, lan_of, network
from support.netns import Lab
from support.private_bus import NOBODY
from support.site import Administrator, Site
from support.vnetctl import Vnetctl
from support.waiting import eventually

from vnetd.ruleset.unbridged import part_of

pytestmark = pytest.mark.usefixtures("vnetd_group")
MARK = ethernet(MAC, PEER_MAC, 0x806, arp(1, MAC, GUEST4, PEER4) + b"mark")
"""Passes vnetd-guest; sent behind others it tells that they are through, or never will be."""
OWN = {"parameter.IP": GUEST4}
MINE = set(HONEST) - {"IPv6 with an address made of its MAC address"}
"""What the guest may send without having been given a prefix."""
ANSWERED = {
    "name": "answered",
    "entries": [
        {"action": "accept", "direction": "out", "match": {"protocol": "udp", "attributes": []}},
        {"action": "drop", "direction": "inout", "match": {"protocol": "all", "attributes": []}},
    ],
}


@pytest.fixture
def lan(shared_site: Site, lab: Lab) -> Iterator[Lan]:
    with lan_of(shared_site, lab) as made:
        yield made


@asynccontextmanager
async def held(admin: Administrator, mode: str = "bridge", **spec: Any) -> AsyncIterator[Tap]:
    """A macvtap of a user who is not root and asked for no filter."""
    await admin.raise_network(network(mode))
    async with guest(admin, MAC, uid=NOBODY, **spec) as tap:
        yield tap
        tap.close()
        await finish(admin)


def wire(lan: Lan) -> socket.socket:
    """The cable behind the host's card."""
    with lan.machine.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind(("eth0", ETH_P_ALL))
    sock.settimeout(10)
    return sock


def passing(lan: Lan, tap: Tap, frames: Sequence[bytes], mark: bytes = MARK) -> list[bytes]:
    """Those of the frames that reach the cable."""
    with wire(lan) as cable:
        for frame in (*frames, mark):
            tap.put(frame)
        heard = list(iter(lambda: cable.recv(4096)[: len(mark)], mark))
        return [frame for frame in frames if any(one == untagged(frame)[: len(mark)] for one in heard)]


def untagged(frame: bytes) -> bytes:
    """The frame as a socket shows it: without its VLAN's tag."""
    return frame[:12] + frame[16:] if frame[12:14] == b"\x81\0" else frame


def entered(admin: Administrator, device: str) -> list[str]:
    """Chains at a device."""
    return [name for name in admin.site.ruleset() if name.startswith("chain netdev") and name.endswith(f"_{device}")]


def named(frames: dict[str, bytes], passed: Sequence[bytes]) -> set[str]:
    return {what for what, frame in frames.items() if frame in passed}


@pytest.mark.parametrize("mode", ["bridge", "vepa", "private", "passthrough"])
async def test_who_is_not_root_has_a_macvtap_that_sends_nothing_but_its_own(
    admin: Administrator, lan: Lan, mode: str
) -> None:
    async with held(admin, mode, **OWN) as tap:
        assert await admin.get(tap.port, PORT, "Filter") == "vnetd-guest"
        assert named(PRETENDED, passing(lan, tap, list(PRETENDED.values()))) == set()
        assert named(HONEST, passing(lan, tap, list(HONEST.values()))) == MINE


async def test_without_the_filter_all_of_that_reaches_the_cable(admin: Administrator, lan: Lan) -> None:
    """Else the test of what is dropped would show nothing."""
    async with held(admin, **OWN) as tap:
        await admin.call(tap.port, PORT, "SetFilter", "sa{sv}", "", {})
        assert named(PRETENDED, passing(lan, tap, list(PRETENDED.values()))) == set(PRETENDED)
        assert not entered(admin, tap.result["device"])


async def test_a_guest_that_has_no_address_yet_has_the_one_dhcp_gives_it(admin: Administrator, lan: Lan) -> None:
    async with held(admin) as tap:
        request = HONEST["a DHCP request"]
        assert passing(lan, tap, [HONEST["IPv4"]], request) == []
        answer = ethernet(PEER_MAC, MAC, 0x800, dhcp("", 5, GUEST4, mac=MAC).payload)
        with wire(lan) as cable:
            cable.send(answer)
        await eventually(lambda: passing(lan, tap, [HONEST["IPv4"]], request) == [HONEST["IPv4"]])
        assert named(PRETENDED, passing(lan, tap, list(PRETENDED.values()))) == set()
        known = await admin.call(tap.port, PORT, "GetAddresses", "a{sv}", {})
        assert [one["source"] for one in known if one["address"] == GUEST4] == ["learned"]


async def test_answers_reach_a_guest_and_what_it_did_not_ask_for_does_not(admin: Administrator, lan: Lan) -> None:
    await admin.define_filter(json.dumps(ANSWERED))
    async with held(admin, filter="answered") as tap:
        asked = udp4(GUEST4, PEER4, 1000, 53)
        assert passing(lan, tap, [asked]) == [asked]
        answer, other = (ethernet(PEER_MAC, MAC, 0x800, udp4(PEER4, GUEST4, sport, 1000)[14:]) for sport in (53, 54))
        mark = ethernet(PEER_MAC, MAC, 0x806, arp(1, PEER_MAC, PEER4, GUEST4))
        with wire(lan) as cable:
            for frame in (other, answer, mark):
                cable.send(frame)
        assert received(tap, mark) == [answer]


def received(tap: Tap, mark: bytes) -> list[bytes]:
    """IPv4 frames that came to the guest before the mark."""
    return [frame for frame in iter(tap.get, mark) if frame[12:14] == b"\x08\0"]


async def test_a_macvtaps_rules_are_healed_and_kept_over_a_restart(admin: Administrator, lan: Lan) -> None:
    async with held(admin, **OWN) as tap:
        device, spoofed = tap.result["device"], PRETENDED["another MAC address"]
        rules = admin.site.ruleset()
        entrance, part = f"chain netdev vnetd prerouting_{device}", part_of("from_guest", device)
        assert entrance in rules
        for damage in ("flush table netdev vnetd", f"flush {entrance}", f"flush map netdev vnetd {part}"):
            admin.site.host.run("nft", damage, check=not admin.site.owns_its_tables())
            await eventually(lambda: admin.site.ruleset() == rules)
            assert passing(lan, tap, [spoofed]) == []
        admin.site.daemon.kill()
        assert passing(lan, tap, [spoofed]) == []
        admin.site.daemon.start()
        await admin.call(ROOT, MANAGER, "Reconcile")
        assert admin.site.ruleset() == rules
        assert passing(lan, tap, [spoofed]) == []


async def test_what_is_in_force_on_a_macvtap_is_told_with_its_counters(admin: Administrator, lan: Lan) -> None:
    async with held(admin, **OWN) as tap:
        passing(lan, tap, [PRETENDED["another MAC address"]] * 3)
        vnetctl = Vnetctl(admin.site.bus.address)
        shown = (await vnetctl.ok("--json", "filter", "show", "--bound", tap.result["device"])).json
        (dropping,) = [one for one in shown if one["filter"] == "no-mac-spoofing" and "drop" in one["rule"]]
        assert (dropping["packets"], dropping["towards"]) == (3, "network")
        probe = "doctor", tap.result["device"], "--to", PEER4, "--tcp", "80"
        asked = f"filter {{}}, tcp 80 to {PEER4}, the guest being {GUEST4}:"
        assert f"{asked.format('vnetd-guest')} passes" in (await vnetctl(*probe)).out
        await admin.define_filter(json.dumps(ANSWERED))
        await admin.call(tap.port, PORT, "SetFilter", "sa{sv}", "answered", {"IP": variant(GUEST4)})
        assert f"{asked.format('answered')} dropped" in (await vnetctl(*probe)).out


async def test_a_filter_is_changed_while_the_guest_runs_and_refused_whole_if_it_cannot_be(
    admin: Administrator, lan: Lan
) -> None:
    async with held(admin, **OWN) as tap:
        spoofed = PRETENDED["another IPv4 address"]
        assert passing(lan, tap, [spoofed]) == []
        await admin.call(tap.port, PORT, "SetFilter", "sa{sv}", "no-mac-spoofing", {})
        assert passing(lan, tap, [spoofed, PRETENDED["another MAC address"]]) == [spoofed]
        tracked = {"name": "tracked", "entries": [{"action": "accept", "direction": "in", "match": RELATED}]}
        await admin.define_filter(json.dumps(tracked))
        with pytest.raises(Refused, match=r"Unsupported.*in no bridge are not tracked"):
            await admin.call(tap.port, PORT, "SetFilter", "sa{sv}", "tracked", {})
        assert passing(lan, tap, [spoofed, PRETENDED["another MAC address"]]) == [spoofed]


RELATED = {"protocol": "tcp", "attributes": [{"name": "state", "value": "RELATED"}]}


@contextmanager
def foreign(lan: Lan) -> Iterator[Tap]:
    """A macvtap somebody else made and holds; it goes with the block."""
    lan.host.run("ip", "link", "add", "mv0", "link", "lan0", "address", MAC, "type", "macvtap", "mode", "bridge")
    try:
        lan.host.run("ip", "link", "set", "mv0", "up")
        tap = Tap("", {}, [os.open(f"/dev/tap{(lan.host.link('mv0') or {})['ifindex']}", os.O_RDWR)])
        try:
            yield tap
        finally:
            tap.close()
    finally:
        lan.host.run("ip", "link", "delete", "mv0")


async def test_somebody_elses_macvtap_is_filtered_whenever_it_is_there(admin: Administrator, lan: Lan) -> None:
    lan.host.run("ip", "link", "set", "lan0", "up")
    frames = honest, spoofed = HONEST["ARP"], PRETENDED["another MAC address"]
    with foreign(lan) as tap:
        assert passing(lan, tap, frames) == [honest, spoofed]
        binding = await admin.bind("mv0", "no-mac-spoofing", {"MAC": MAC})
        assert passing(lan, tap, frames) == [honest]
        findings = await admin.call(ROOT, MANAGER, "Examine", "sa{sv}", "mv0", {})
        assert [one["state"] for one in findings] == ["ok"]
        admin.site.daemon.kill()
        assert passing(lan, tap, frames) == [honest]
        admin.site.daemon.start()
        assert passing(lan, tap, frames) == [honest]
    with foreign(lan) as tap:
        await eventually(lambda: passing(lan, tap, frames) == [honest])
        await admin.call(binding, BINDING, "Delete")
        assert passing(lan, tap, frames) == [honest, spoofed]
    assert not entered(admin, "mv0")
