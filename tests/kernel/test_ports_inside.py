"""The guest's end of a port in its namespace: named, addressed, routed, and nothing left when that vanishes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, NETWORK, PORT, ROOT, Refused
from support.netns import Namespace, run
from support.site import Administrator
from support.waiting import eventually, wait_until

LAB = {
    "name": "lab",
    "mode": "nat",
    "addresses": [{"address": "192.168.77.1/24"}, {"address": "fd77::1/64"}],
    "nat": {"ipv6": True},
    "dns": {"enable": False},
}
INSIDE = {"addresses": ["192.168.77.9/24", "fd77::9/64"], "gateways": ["192.168.77.1", "fd77::1"]}


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


def default_routes(guest: Namespace) -> set[str]:
    """Where a guest sends what it knows no better way for."""
    return {route["gateway"] for family in ("-4", "-6") for route in guest.ip(family, "route", "show", "default")}


async def nothing_is_left(admin: Administrator, network: str) -> None:
    """Return when no port is."""
    await eventually(lambda: admin.site.devices() == {"virbr0"}, "no device is left")
    await eventually(lambda: not list((admin.site.root / "run/vnetd/ports").glob("*")), "nor a record")
    assert await admin.get(network, NETWORK, "Ports") == []


async def test_a_guest_has_its_addresses_and_default_routes_from_the_start(admin: Administrator, network: str) -> None:
    guest = admin.vacant_guest()
    await admin.attach("lab", {"kind": "veth", "netns": guest.name, "guest_device": "lan0", **INSIDE})
    assert guest.addresses("lan0") == set(INSIDE["addresses"])
    assert default_routes(guest) == set(INSIDE["gateways"])
    assert guest.ping("192.168.77.1") and guest.ping("fd77::1")
    assert wait_until(lambda: guest.ping("203.0.113.1"), "it reaches the outside")


@pytest.mark.parametrize(
    ("already", "cause"),
    [
        (("route", "add", "default", "dev", "lo"), "add route default via 192.168.77.1 on lan0: File exists"),
        (("link", "add", "lan0", "type", "bridge"), "File exists"),
    ],
)
async def test_what_the_guests_namespace_does_not_take_is_said_and_leaves_nothing(
    admin: Administrator, network: str, already: tuple[str, ...], cause: str
) -> None:
    guest = admin.vacant_guest()
    guest.run("ip", *already)
    before = guest.ip("address", "show"), guest.ip("route", "show")
    with pytest.raises(Refused, match=rf"Error\.Host: .*{cause}"):
        await admin.attach("lab", {"kind": "veth", "netns": guest.name, "guest_device": "lan0", **INSIDE})
    await nothing_is_left(admin, network)
    assert (guest.ip("address", "show"), guest.ip("route", "show")) == before


async def test_a_namespace_that_vanishes_at_any_moment_leaves_nothing(admin: Administrator, network: str) -> None:
    """The only process in it is killed at some moment of the attachment; what becomes of that is one of two things."""
    for delay in (0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.01):
        guest = admin.vacant_guest()
        process = guest.start("sleep", "1000")
        wait_until(lambda: process.pid in guest.pids(), "it runs inside")  # noqa: B023
        run("ip", "netns", "delete", guest.name)  # the process alone keeps the namespace
        attaching = asyncio.create_task(_attach(admin, {"kind": "veth", "netns": str(process.pid), **INSIDE}))
        await asyncio.sleep(delay)
        process.kill()
        process.wait()
        error = await attaching
        assert error is None or error.name.rpartition(".")[2] in {"NotFound", "Host"}, error
        await nothing_is_left(admin, network)
    assert not await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {})


async def _attach(admin: Administrator, spec: dict[str, Any]) -> Refused | None:
    try:
        await admin.attach("lab", spec)
    except Refused as refused:
        return refused
    return None


async def test_no_descriptor_of_a_namespace_stays_open(admin: Administrator, network: str) -> None:
    guest = admin.vacant_guest()
    descriptors = Path(f"/proc/{admin.site.daemon.pid}/fd")

    async def cycle() -> None:
        port = await admin.attach("lab", {"kind": "veth", "netns": guest.name, **INSIDE})
        await admin.call(port, PORT, "Detach")
        for wrong in ({"filter": "no-such"}, {"device": "virbr0"}, {"addresses": ["192.168.77.9"]}):
            with pytest.raises(Refused):
                await admin.attach("lab", {"kind": "veth", "netns": guest.name, **wrong})

    await cycle()
    before = len(list(descriptors.iterdir()))
    for _ in range(10):
        await cycle()
    await eventually(lambda: len(list(descriptors.iterdir())) <= before, "none is left open")
