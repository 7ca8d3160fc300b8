"""What is in force is told with counts, what keeps a packet away is named, and repairs leave others' counts alone."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from support.client import MANAGER, ROOT, Refused
from support.site import Administrator, AttachedGuest
from support.traffic import reaches, serving
from support.vnetctl import Done, Vnetctl
from support.waiting import SILENCE, eventually, wait_until

GUEST, PEER, MAC = "192.168.77.10", "192.168.77.11", "52:54:00:00:00:61"
LAB = {"name": "lab", "mode": "nat", "addresses": [{"address": "192.168.77.1/24"}]}
WEB = {
    "name": "web",
    "entries": [
        {
            "action": "accept",
            "direction": "in",
            "match": {"protocol": "tcp", "attributes": [{"name": "dstportstart", "value": "80"}]},
        },
        {"action": "drop", "direction": "in", "priority": 600, "match": {"protocol": "icmp"}},
    ],
}
CLOSED = {"protocol": "tcp", "attributes": [{"name": "dstportstart", "value": "8080"}]}
NO_TCP = {"name": "no-tcp", "entries": [{"action": "drop", "direction": "in", "match": CLOSED}]}

WALL = """table ip wall {
  chain keep {
    type filter hook forward priority 10
    policy drop
    tcp dport 22 accept
  }
}
"""


@dataclass(frozen=True)
class Scene:
    """A guest with filter ``web`` and a peer with filter ``no-tcp``."""

    admin: Administrator
    guest: AttachedGuest
    peer: AttachedGuest
    vnetctl: Vnetctl

    async def explained(self, device: str) -> list[dict[str, Any]]:
        """The rules in force."""
        return list(await self.admin.call(ROOT, MANAGER, "ExplainFilter", "s", device))

    async def counted(self, device: str, start: str) -> int:
        """Packets that met the rule towards the guest whose words begin so."""
        (row,) = [
            row for row in await self.explained(device) if row["towards"] == "guest" and row["rule"].startswith(start)
        ]
        return int(row["packets"])

    async def doctor(self, *words: str) -> tuple[Done, list[dict[str, str]]]:
        """What the command says, and its findings."""
        done = await self.vnetctl("--json", "doctor", *words)
        return done, done.json


@pytest.fixture
async def scene(admin: Administrator) -> AsyncIterator[Scene]:
    await admin.raise_network(LAB)
    for one in (WEB, NO_TCP):
        await admin.define_filter(json.dumps(one))
    guest = await admin.add_guest("lab", f"{GUEST}/24", mac=MAC, filter="web", **{"parameter.IP": GUEST})
    peer = await admin.add_guest("lab", f"{PEER}/24", name="peer", filter="no-tcp", **{"parameter.IP": PEER})
    with serving(guest, "tcp:80", "tcp:81"), serving(peer, "tcp:8080"):
        yield Scene(admin, guest, peer, Vnetctl(admin.site.bus.address))


async def test_rules_in_force_are_shown_in_order_with_what_they_counted(scene: Scene) -> None:
    assert reaches(scene.peer, GUEST, 80)
    assert not scene.peer.ping(GUEST, wait=SILENCE)
    assert await scene.counted(scene.guest.device, "in accept 500: tcp dstportstart=80") >= 1
    assert await scene.counted(scene.guest.device, "in drop 600: icmp") == 1
    shown = (await scene.vnetctl.ok("filter", "show", "--bound", scene.guest.device)).out
    lines = [line for line in shown.splitlines() if line.startswith("guest")]
    assert ["tcp" in lines[0], "icmp" in lines[1], "web" in lines[0]] == [True, True, True]


async def test_counts_say_of_how_many_devices_they_are(scene: Scene) -> None:
    second = await scene.admin.add_guest("lab", "192.168.77.12/24", name="second", filter="web")
    rows = await scene.explained(second.device)
    assert {row["shared"] for row in rows} == {2}
    assert {row["shared"] for row in await scene.explained(scene.peer.device)} == {1}


async def test_a_device_without_filter_has_nothing_to_explain(scene: Scene) -> None:
    with pytest.raises(Refused, match=r"NotFound.*no filter is in force on 'virbr0'"):
        await scene.explained("virbr0")


def held(scene: Scene) -> dict[str, Any]:
    """Chains, and sets that no packet adds to."""
    return {name: one for name, one in scene.admin.site.ruleset().items() if "timeout" not in one}


async def test_a_changed_rule_element_or_chain_is_put_right_and_other_counts_stay(scene: Scene) -> None:
    host, device = scene.admin.site.host, scene.guest.device
    assert not scene.peer.ping(GUEST, wait=SILENCE)
    assert not reaches(scene.guest, PEER, 8080, wait=SILENCE)
    kept = await scene.counted(scene.guest.device, "in drop 600: icmp")
    before = held(scene)
    if scene.admin.site.owns_its_tables():
        pytest.skip("the tables are vnetd's alone here: nobody else can change them")
    theirs = next(
        one["rule"]["chain"]
        for one in host.nft("table", "bridge", "vnetd")
        if "rule" in one and "drop" in str(one["rule"]["expr"]) and "icmp" not in str(one["rule"]["expr"])
    )
    damages = (
        ("nft", "flush", "chain", "bridge", "vnetd", theirs),
        ("nft", "add", "rule", "bridge", "vnetd", theirs, "accept"),
        ("nft", "delete", "element", "bridge", "vnetd", "to_guest", f"{{ {scene.peer.device} }}"),
    )
    for damage in damages:
        host.run(*damage)
        await eventually(lambda: held(scene) == before, f"{' '.join(damage)} is put right")
        assert not reaches(scene.guest, PEER, 8080, wait=SILENCE)
    assert await scene.counted(device, "in drop 600: icmp") == kept


@pytest.mark.parametrize(
    ("words", "problem", "says"),
    [
        (("--from", PEER, "--tcp", "80"), False, "passes by rule “in accept 500: tcp dstportstart=80” of filter web"),
        (("--from", PEER, "--icmp"), True, "dropped by rule “in drop 600: icmp” of filter web"),
        (("--from", PEER, "--tcp", "81"), False, "passes, for no rule says otherwise"),
        (("--to", PEER, "--tcp", "80"), False, "passes, for no rule says otherwise"),
    ],
)
async def test_the_doctor_says_what_packets_show(
    scene: Scene, words: tuple[str, ...], problem: bool, says: str
) -> None:
    done, found = await scene.doctor(scene.guest.device, *words)
    (decision,) = [one["text"] for one in found if one["check"] == "filter"]
    assert says in decision
    assert done.code == (1 if problem else 0), found
    if "--from" in words:
        passed = (
            reaches(scene.peer, GUEST, int(words[-1]), wait=1) if "--tcp" in words else bool(scene.peer.ping(GUEST))
        )
        assert passed is not problem


async def test_the_doctor_follows_a_routed_packet_through_everybodys_rules(scene: Scene) -> None:
    outside, host = scene.admin.site.outside.ipv4, scene.admin.site.host
    words = (scene.guest.device, "--to", outside, "--udp", "53")
    done, found = await scene.doctor(*words)
    assert (done.code, done.err) == (0, ""), [one["text"] for one in found]
    checks = {one["check"]: one["state"] for one in found}
    assert checks == dict.fromkeys(
        ("network", "device", "bridge", "addresses", "filter", "route", "forwarding", "rules"), "ok"
    )
    host.run("nft", "-f", "-", stdin=WALL)
    try:
        done, found = await scene.doctor(*words)
        assert done.code == 1
        (problem,) = [one for one in found if one["state"] == "problem"]
        assert problem["text"] == "chain keep of table ip wall drops it: no rule lets it pass, and the policy is drop"
        host.run("nft", "insert", "rule", "ip", "wall", "keep", "ip", "saddr", GUEST, "counter", "drop")
        _, found = await scene.doctor(*words)
        (problem,) = [one for one in found if one["state"] == "problem"]
        assert problem["text"].startswith("rule 1 of chain keep of table ip wall drops it: ")
        done, _ = await scene.doctor(scene.guest.device, "--to", "192.168.77.1", "--udp", "53")
        assert done.code == 0, "packets to the host itself are not forwarded"
    finally:
        host.run("nft", "delete", "table", "ip", "wall")


async def test_the_doctor_sees_what_is_unplugged(scene: Scene) -> None:
    host, device = scene.admin.site.host, scene.guest.device
    scene.guest.run("ip", "link", "set", "eth0", "down")
    wait_until(lambda: "LOWER_UP" not in host.run("ip", "link", "show", device), "the carrier is gone")
    done, found = await scene.doctor(device)
    assert done.code == 1
    assert [one["text"] for one in found if one["state"] == "problem"] == [
        f"device {device} has no carrier: the guest's end is down, or nobody has it open"
    ]
    assert done.err == "error: 1 problem found\n"


async def test_the_doctor_looks_at_everything_if_nothing_is_named(scene: Scene) -> None:
    done, found = await scene.doctor()
    assert done.code == 0, found
    assert len({one["target"] for one in found}) == 3
    (network,) = (await scene.doctor("lab"))[1]
    assert network["text"] == "network lab is active"
    missing = await scene.vnetctl("doctor", "nowhere")
    assert (missing.code, "nowhere" in missing.err) == (3, True)
