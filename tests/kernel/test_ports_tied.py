"""Ports tied to their caller's connection: gone when it leaves the bus, also if no daemon saw it leave."""

from collections.abc import Callable
from pathlib import Path

import pytest
from dbus_next.aio.message_bus import MessageBus
from support.client import MANAGER, PORT, ROOT, Client, plain, variant
from support.private_bus import client_of, method_call
from support.site import Administrator
from support.waiting import eventually

LAB = {"name": "lab", "mode": "isolated", "addresses": [{"address": "192.168.77.1/24"}]}
TIED = {"kind": "tap", "lifetime": "connection"}


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


def left_only(admin: Administrator, *devices: str) -> Callable[[], bool]:
    """Whether these ports, and nothing of others, are there."""

    def look() -> bool:
        records: list[Path] = list((admin.site.root / "run/vnetd/ports").glob("*"))
        return admin.site.devices() == {"virbr0", *devices} and len(records) == len(devices)

    return look


async def test_a_tied_port_ends_when_its_caller_leaves_the_bus(admin: Administrator, network: str) -> None:
    await admin.attach("lab", {"kind": "tap", "device": "free"})
    async with Client(admin.site.bus.address) as other:
        port = await other.attach("lab", {**TIED, "device": "tied"})
        assert await admin.get(port, PORT, "Lifetime") == "connection"
        assert left_only(admin, "free", "tied")()
    await eventually(left_only(admin, "free"), "the tied one ends")
    assert len(await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {})) == 1


async def test_a_tied_port_outlives_a_killed_daemon_and_ends_with_its_caller_all_the_same(
    admin: Administrator, network: str
) -> None:
    async with Client(admin.site.bus.address) as staying:
        await staying.attach("lab", {**TIED, "device": "stays"})
        async with Client(admin.site.bus.address) as leaving:
            await leaving.attach("lab", {**TIED, "device": "leaves"})
            admin.site.daemon.kill()
        assert admin.site.devices() == {"virbr0", "stays", "leaves"}
        admin.site.daemon.start()
        await eventually(left_only(admin, "stays"), "who left meanwhile is missed")
    await eventually(left_only(admin), "so is who leaves afterwards")


async def test_a_caller_that_leaves_at_once_leaves_no_tied_port(admin: Administrator, network: str) -> None:
    values = {key: variant(value) for key, value in TIED.items()}
    for _ in range(10):
        async with client_of(admin.site.bus) as hasty:
            await _send(hasty, values)
    await admin.call(ROOT, MANAGER, "Reconcile")
    await eventually(left_only(admin), "none is left")
    assert plain(await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {})) == []


async def _send(bus: MessageBus, values: dict[str, object]) -> None:
    """Call and do not wait for the answer."""
    await bus.send(method_call(ROOT, MANAGER, "Attach", "sa{sv}", "lab", values))
