"""The guest's end of a port in its namespace: named, addressed, routed, and nothing left when that vanishes."""

import asyncio
from functools import partial
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
    await eventually(partial(_no_port, admin, network), "nor is any listed")


async def _no_port(admin: Administrator, network: str) -> bool:
    return await admin.get(network, NETWORK, "Ports") == []


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


async def test_the_hosts_own_namespace_is_no_guests(admin: Administrator, network: str) -> None:
    host = admin.site.host
    for reference in (host.name, host.path, str(admin.site.daemon.pid)):
        for spec in ({"kind": "veth"}, {"kind": "macvlan", "lower": "uplink0"}):
            with pytest.raises(Refused, match=r"Error\.Invalid: .*host's own network namespace"):
                await admin.attach("lab", {"netns": reference, "guest_device": "lan0", **spec})
    await nothing_is_left(admin, network)


UPLINKED = {**LAB, "devices": {"interfaces": ["uplink0"]}}
NEAR = {"addresses": ["203.0.113.77/24"], "gateways": ["203.0.113.1"]}


async def test_a_macvlan_puts_its_guest_on_the_network_of_the_hosts_device(admin: Administrator) -> None:
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    spec = {"kind": "macvlan", "netns": guest.path, "guest_device": "lan0", "mac": "52:54:00:00:77:07", **NEAR}
    port = await admin.attach("lab", spec)
    (link,) = guest.ip("link", "show", "dev", "lan0")
    assert (link["linkinfo"]["info_kind"], link["address"], "UP" in link["flags"]) == ("macvlan", spec["mac"], True)
    assert wait_until(lambda: guest.ping("203.0.113.1"), "it reaches the outside by itself")
    assert admin.site.devices() == {"virbr0"}
    admin.site.daemon.kill()
    assert guest.ping("203.0.113.1")
    admin.site.daemon.start()
    assert guest.ping("203.0.113.1")
    assert await admin.get(network, NETWORK, "Ports") == [port]
    await admin.call(port, PORT, "Detach")
    assert {one["ifname"] for one in guest.ip("link", "show")} == {"lo"}
    await nothing_is_left(admin, network)


async def test_a_macvlan_ends_with_its_guests_namespace(admin: Administrator) -> None:
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    await admin.attach("lab", {"kind": "macvlan", "netns": guest.name})
    run("ip", "netns", "delete", guest.name)
    await nothing_is_left(admin, network)


@pytest.mark.parametrize("restarted", [False, True], ids=["made by this daemon", "of an earlier run"])
async def test_a_macvlan_its_guest_deletes_is_missed_at_once(admin: Administrator, restarted: bool) -> None:
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    await admin.attach("lab", {"kind": "macvlan", "netns": guest.name})
    if restarted:
        admin.site.daemon.kill()
        admin.site.daemon.start()
        await admin.call(ROOT, MANAGER, "Reconcile")
    guest.run("ip", "link", "delete", "eth0")
    await nothing_is_left(admin, network)


@pytest.mark.parametrize("restarted", [False, True], ids=["by this daemon", "by the next one"])
async def test_a_macvlan_its_guest_renames_is_kept_and_goes_when_it_is_detached(
    admin: Administrator, restarted: bool
) -> None:
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    port = await admin.attach("lab", {"kind": "macvlan", "netns": guest.name, **NEAR})
    guest.run("ip", "link", "set", "eth0", "name", "lan7")
    guest.run("ip", "link", "add", "eth0", "type", "bridge")
    if restarted:
        admin.site.daemon.kill()
        admin.site.daemon.start()
    await admin.call(ROOT, MANAGER, "Reconcile")
    assert await admin.get(network, NETWORK, "Ports") == [port]
    assert wait_until(lambda: guest.ping("203.0.113.1"), "it goes on being used")
    await admin.call(port, PORT, "Detach")
    assert {one["ifname"] for one in guest.ip("link", "show")} == {"lo", "eth0"}
    await nothing_is_left(admin, network)


async def test_a_macvlan_ends_with_the_device_it_lies_on(admin: Administrator, network: str) -> None:
    host, guest = admin.site.host, admin.vacant_guest()
    host.run("ip", "link", "add", "mine0", "type", "veth", "peer", "name", "mine1")
    await admin.attach("lab", {"kind": "macvlan", "netns": guest.name, "lower": "mine0"})
    assert guest.link("eth0")
    host.run("ip", "link", "delete", "mine0")
    await nothing_is_left(admin, network)
    assert not guest.link("eth0")


async def test_a_macvlan_of_a_name_the_guest_has_leaves_nothing_there(admin: Administrator) -> None:
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    guest.run("ip", "link", "add", "lan0", "type", "bridge")
    with pytest.raises(Refused, match=r"Error\.Host: move link .* as lan0: File exists"):
        await admin.attach("lab", {"kind": "macvlan", "netns": guest.name, "guest_device": "lan0"})
    assert {one["ifname"] for one in guest.ip("link", "show")} == {"lo", "lan0"}
    await nothing_is_left(admin, network)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"lower": "nowhere"}, r"nowhere.*No such device|NotFound.*nowhere"),
        ({"lower": "lo"}, r"Error\.Host: create macvlan"),
        ({"filter": "no-mac-spoofing"}, r"Error\.Unsupported.*no port of a bridge"),
    ],
)
async def test_a_macvlan_that_cannot_be_is_refused_and_leaves_nothing(
    admin: Administrator, spec: dict[str, str], error: str
) -> None:
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    with pytest.raises(Refused, match=error):
        await admin.attach("lab", {"kind": "macvlan", "netns": guest.name, **spec})
    assert {one["ifname"] for one in guest.ip("link", "show")} == {"lo"}
    await nothing_is_left(admin, network)


async def able(admin: Administrator, name: str) -> bool:
    """Whether this kernel can do something."""
    return bool((await admin.get(ROOT, MANAGER, "Capabilities"))[name][0])


async def test_an_ipvlan_where_the_kernel_has_none_is_refused_by_name(admin: Administrator) -> None:
    if await able(admin, "ipvlan"):
        pytest.skip("this kernel has ipvlan devices")
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    with pytest.raises(Refused, match=r"Error\.Unsupported.*kind ipvlan needs ipvlan devices"):
        await admin.attach("lab", {"kind": "ipvlan", "netns": guest.name, **NEAR})
    await nothing_is_left(admin, network)


@pytest.mark.stock_kernel("ipvlan")
async def test_an_ipvlan_puts_its_guest_on_the_network_of_the_hosts_device(admin: Administrator) -> None:
    network = await admin.raise_network(UPLINKED)
    guest = admin.vacant_guest()
    port = await admin.attach("lab", {"kind": "ipvlan", "netns": guest.name, **NEAR})
    assert wait_until(lambda: guest.ping("203.0.113.1"), "it reaches the outside")
    assert await admin.get(port, PORT, "MAC") == (admin.site.host.link("uplink0") or {})["address"]
    await admin.call(port, PORT, "Detach")
    await nothing_is_left(admin, network)
