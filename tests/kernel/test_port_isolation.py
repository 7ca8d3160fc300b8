"""Isolated ports reach no other isolated port: not through their bridge, and not over the gateway."""

from collections.abc import Mapping
from typing import Any

from support.client import PORT
from support.netns import run
from support.site import Administrator, AttachedGuest
from support.traffic import pings_answered
from support.waiting import SILENCE, eventually

NETWORKS = {"red": 1, "blue": 2}
PORTS: Mapping[str, tuple[str, bool]] = {
    "red1": ("red", True), "red2": ("red", True), "red3": ("red", False),
    "blue1": ("blue", True), "blue2": ("blue", False),
}  # fmt: skip


def address(port: str, version: int) -> str:
    """The address of a guest."""
    network, number = NETWORKS[PORTS[port][0]], int(port[-1]) + 10
    return f"10.88.{network}.{number}" if version == 4 else f"fd88:{network}::{number}"


async def neighbourhood(admin: Administrator) -> dict[str, AttachedGuest]:
    """Two routed networks with isolated guests and others, each with a default route, by name."""
    for name, number in NETWORKS.items():
        addresses = [{"address": f"10.88.{number}.1/24"}, {"address": f"fd88:{number}::1/64"}]
        await admin.raise_network({"name": name, "mode": "route", "addresses": addresses})
    guests = {}
    for name, (network, isolated) in PORTS.items():
        number = NETWORKS[network]
        own = (f"{address(name, 4)}/24", f"{address(name, 6)}/64")
        gateways = (f"10.88.{number}.1", f"fd88:{number}::1")
        guests[name] = await admin.add_guest(network, *own, name=name, gateway=gateways, isolated=isolated)
    return guests


def detour(guest: AttachedGuest, name: str) -> None:
    """Have the guest send everything to the gateway, also what is for its own subnet."""
    number = NETWORKS[PORTS[name][0]]
    for subnet, gateway in (
        (f"10.88.{number}.0/24", f"10.88.{number}.1"),
        (f"fd88:{number}::/64", f"fd88:{number}::1"),
    ):
        run("ip", "-netns", guest.name, "route", "add", f"{gateway}/{32 if '.' in gateway else 128}", "dev", "eth0")
        run("ip", "-netns", guest.name, "route", "delete", subnet, "dev", "eth0")


def answered(
    guests: Mapping[str, AttachedGuest], pairs: list[tuple[str, str]], wait: float = 1
) -> set[tuple[str, str, int]]:
    """Which of these pings, with either version of IP, are answered within ``wait`` seconds."""
    asked = [(one, other, version) for one, other in pairs for version in (4, 6)]
    found = pings_answered([(guests[one], address(other, version)) for one, other, version in asked], wait=wait)
    return {pair for pair, answer in zip(asked, found, strict=True) if answer}


def all_of(pairs: list[tuple[str, str]]) -> set[Any]:
    """Both versions of all of them."""
    return {(one, other, version) for one, other in pairs for version in (4, 6)}


async def test_isolated_ports_reach_others_but_no_isolated_one_however_they_send(admin: Administrator) -> None:
    guests = await neighbourhood(admin)
    barred = [("red1", "red2"), ("red2", "red1"), ("red1", "blue1"), ("blue1", "red2")]
    open_ways = [("red1", "red3"), ("red3", "red2"), ("red1", "blue2"), ("blue2", "red1"), ("red3", "blue2")]
    assert not answered(guests, barred, SILENCE)
    await eventually(lambda: answered(guests, open_ways) == all_of(open_ways), "the others answer", deadline=30)
    for name in ("red1", "red2"):
        detour(guests[name], name)
    assert not answered(guests, barred, SILENCE)
    over_gateway = [("red1", "red3"), ("red1", "blue2")]
    await eventually(lambda: answered(guests, over_gateway) == all_of(over_gateway), "over the gateway", deadline=30)
    for guest in ("red1", "red2"):
        number = NETWORKS["red"]
        assert all(pings_answered([(guests[guest], f"10.88.{number}.1"), (guests[guest], f"fd88:{number}::1")]))


async def test_isolation_is_switched_while_guests_run_and_healed(admin: Administrator) -> None:
    guests = await neighbourhood(admin)
    detour(guests["red1"], "red1")
    pair = [("red1", "red2")]
    assert not answered(guests, pair, SILENCE)
    await admin.call(guests["red2"].port, PORT, "SetIsolated", "b", False)
    await eventually(lambda: answered(guests, pair) == all_of(pair), "the other is open to all", deadline=30)
    await admin.call(guests["red2"].port, PORT, "SetIsolated", "b", True)
    assert not answered(guests, pair, SILENCE)
    if not admin.site.owns_its_tables():
        admin.site.host.run("nft", "flush", "set", "bridge", "vnetd", "isolated")
        await eventually(lambda: len(_isolated(admin)) == 3, "healed")
    assert not answered(guests, pair, SILENCE)


def _isolated(admin: Administrator) -> list[Any]:
    listed = admin.site.host.nft("set", "bridge", "vnetd", "isolated")
    return [element for entry in listed for element in entry["set"].get("elem", [])]
