"""No guest of an isolated network reaches a guest of any other network, nor is it reached, whatever it tries."""

from itertools import permutations
from typing import Any

from support.site import Administrator, AttachedGuest
from support.traffic import pings_answered, reaches, serving, source_seen
from support.waiting import SILENCE

MODES = {"nat": "nat", "route": "route", "open": "open", "lone": "isolated", "lone2": "isolated"}
NUMBERS = {name: number for number, name in enumerate(MODES, 1)}


def address(name: str, version: int) -> str:
    """The address of the guest in this network."""
    return f"10.88.{NUMBERS[name]}.10" if version == 4 else f"fd88:{NUMBERS[name]}::10"


async def neighbourhood(admin: Administrator) -> dict[str, AttachedGuest]:
    """A network of each mode, and a second isolated one, with a guest in each, by name."""
    guests = {}
    for name, mode in MODES.items():
        hosts = (f"10.88.{NUMBERS[name]}.1", f"fd88:{NUMBERS[name]}::1")
        document: dict[str, Any] = {
            "name": name,
            "mode": mode,
            "addresses": [{"address": f"{hosts[0]}/24"}, {"address": f"{hosts[1]}/64"}],
        }
        await admin.raise_network(document)
        own = (f"{address(name, 4)}/24", f"{address(name, 6)}/64")
        guests[name] = await admin.add_guest(name, *own, name=name, gateway=hosts)
    return guests


async def test_no_isolated_guest_reaches_or_is_reached_by_a_guest_of_another_network(admin: Administrator) -> None:
    guests = await neighbourhood(admin)
    pairs = [(one, other, version) for one, other in permutations(MODES, 2) for version in (4, 6)]
    answered = pings_answered([(guests[one], address(other, version)) for one, other, version in pairs])
    reached = {pair for pair, answer in zip(pairs, answered, strict=True) if answer}
    assert not {pair for pair in reached if {"lone", "lone2"} & {pair[0], pair[1]}}
    # The same ping gets through where it may, or the test would prove nothing. IPv6 is routed by this nat network.
    assert {("nat", "route", 4), ("nat", "open", 4), ("open", "route", 4), ("route", "open", 6)} <= reached
    assert ("route", "nat", 4) not in reached
    assert ("open", "nat", 4) not in reached


async def test_an_isolated_guest_gets_nowhere_with_a_forged_source(admin: Administrator) -> None:
    guests = await neighbourhood(admin)
    forged = address("route", 4).replace(".10", ".66")
    guests["lone"].configure(f"{forged}/32")
    for other in ("nat", "route", "open", "lone2"):
        assert source_seen(guests["lone"], guests[other], address(other, 4), source=forged, wait=SILENCE) is None


async def test_no_connection_can_be_opened_into_an_isolated_network(admin: Administrator) -> None:
    guests = await neighbourhood(admin)
    with serving(guests["lone"], "tcp:80"):
        assert reaches(admin.site.host, address("lone", 4), 80)
        assert reaches(admin.site.host, address("lone", 6), 80)
        for other in ("nat", "route", "open", "lone2"):
            assert not reaches(guests[other], address("lone", 4), 80, wait=SILENCE)
            assert not reaches(guests[other], address("lone", 6), 80, wait=SILENCE)


async def test_isolated_ports_of_one_network_reach_the_host_but_not_each_other(admin: Administrator) -> None:
    document = {"name": "apart", "isolated_ports": True, "addresses": [{"address": "10.88.9.1/24"}]}
    await admin.raise_network(document)
    one = await admin.add_guest("apart", "10.88.9.10/24", name="one")
    two = await admin.add_guest("apart", "10.88.9.11/24", name="two")
    assert pings_answered([(one, "10.88.9.1"), (two, "10.88.9.1"), (one, "10.88.9.11")]) == [True, True, False]
