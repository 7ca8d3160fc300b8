"""Addresses of a port's guest: from its lease, from what it answered the host, and from what it says to others."""

import asyncio
from typing import Any

from support.client import PORT
from support.netns import run
from support.site import Administrator, AttachedGuest
from support.waiting import SILENCE, eventually

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
    assert guest.ping("192.168.77.1") and other.ping("192.168.77.1")
    # Not just any address: by the router's advertisement, if that was faster, it has another.
    assert " 0% packet loss" in guest.run("ping", "-c", "1", "-W", "5", "-I", "fd77::7", "fd77::1")
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


async def test_guests_that_never_speak_to_the_host_are_known_by_what_they_say_to_each_other(
    admin: Administrator,
) -> None:
    await admin.raise_network(LAB)
    one = await admin.add_guest("lab", "10.9.9.1/24", "fd99::1/64", name="one")
    two = await admin.add_guest("lab", "10.9.9.2/24", "fd99::2/64", name="two")
    assert one.ping("10.9.9.2") and one.ping("fd99::2")
    for guest, four, six in ((one, "10.9.9.1", "fd99::1"), (two, "10.9.9.2", "fd99::2")):
        wanted = {(four, "ipv4", "snooped"), (six, "ipv6", "snooped")}

        async def known(guest: AttachedGuest = guest, wanted: set[tuple[str, str, str]] = wanted) -> bool:
            return wanted <= await addresses(admin, guest)

        await eventually(known, "both are known")
        said = {one[0] for one in await addresses(admin, guest) if not one[0].startswith("fe80:")}
        assert said == {four, six}, "and nothing of the other guest's"


async def test_what_a_filter_keeps_out_is_not_told(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    held = {"filter": "clean-traffic", "parameter.IP": "192.168.77.9"}
    thief = await admin.add_guest("lab", "10.9.9.1/24", "192.168.77.9/24", name="thief", **held)
    other = await admin.add_guest("lab", "10.9.9.2/24", "192.168.77.8/24", name="other")
    assert not thief.ping("10.9.9.2", wait=SILENCE)
    assert thief.ping("192.168.77.8")

    async def known() -> bool:
        return ("192.168.77.9", "ipv4", "snooped") in await addresses(admin, thief)

    await eventually(known, "what it may say is known")
    assert "10.9.9.1" not in {found[0] for found in await addresses(admin, thief)}
    assert ("192.168.77.8", "ipv4", "snooped") in await addresses(admin, other)


async def test_the_port_signals_leases_and_what_its_guest_is_seen_to_use(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", "10.9.9.1/24")
    changes, events = await admin.listen("AddressesChanged", guest.port), await admin.listen("Event")

    async def told(address: str, source: str) -> None:
        """Wait for the signal that lists it, and for the event."""
        async with asyncio.timeout(30):
            while (address, source) not in {(row["address"], row["source"]) for row in (await changes.get())[0]}:
                pass
            while True:
                kind, path, name, details = await events.get()
                if (kind, path, name) == ("addresses", guest.port, guest.device) and address in details["addresses"]:
                    return

    assert not guest.ping("10.9.9.77", count=3, wait=SILENCE)
    await told("10.9.9.1", "snooped")
    await told(guest.lease(), "lease")
