"""Addresses of a port's guest: from its lease, and from what it answered the host."""

from typing import Any

from support.client import PORT
from support.netns import run
from support.site import Administrator, AttachedGuest
from support.waiting import eventually

RANGE = {"ranges": [{"start": "192.168.77.50", "end": "192.168.77.99"}]}
LAB = {"name": "lab", "mode": "isolated",
       "addresses": [{"address": "192.168.77.1/24", "dhcp": RANGE}, {"address": "fd77::1/64"}]}  # fmt: skip


async def addresses(admin: Administrator, guest: AttachedGuest) -> set[tuple[str, str, str]]:
    """Address, family and source of each; no age is absurd."""
    found: list[dict[str, Any]] = await admin.call(guest.port, PORT, "GetAddresses", "a{sv}", {})
    assert all(0 <= one["age"] < 1000 for one in found)
    return {(one["address"], one["family"], one["source"]) for one in found}


async def test_a_guest_is_known_by_its_lease_and_by_what_it_answered(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", "fd77::7/64")
    other = await admin.add_guest("lab", "192.168.77.8/24", name="other")
    assert not {one for one in await addresses(admin, other) if one[1] == "ipv4"}, "the host has not heard of it yet"
    leased = guest.lease()
    assert guest.ping("fd77::1") and guest.ping("192.168.77.1") and other.ping("192.168.77.1")
    wanted = {(leased, "ipv4", "lease"), (leased, "ipv4", "neighbour"), ("fd77::7", "ipv6", "neighbour")}

    async def known() -> bool:
        return wanted <= await addresses(admin, guest)

    await eventually(known, "all are known")
    assert ("192.168.77.8", "ipv4", "neighbour") in await addresses(admin, other)
    assert not {one for one in await addresses(admin, other) if one[0] in {leased, "fd77::7"}}
    host = admin.site.host
    run("ip", "-netns", host.name, "neighbour", "flush", "dev", "virbr0")

    async def forgotten() -> bool:
        return wanted & await addresses(admin, guest) == {(leased, "ipv4", "lease")}

    await eventually(forgotten, "a lease is in force, heard of or not")
