"""``vnetctl monitor``: what the daemon signals, a line each, as it happens."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.message import Message
from dbus_next.signature import Variant
from support.fake_services import FakeServices
from support.fake_world import network_view
from support.private_bus import PrivateBus, client_of
from support.vnetctl import PATIENCE, Vnetctl

from vnetd.bus.server import BusServer
from vnetd.service.views import Healed, LeaseChange, LeaseView, LifecycleEvent

LAB = network_view("lab")
Start = Callable[..., Awaitable[Process]]


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()


async def end(process: Process, number: signal.Signals | None = None) -> tuple[int, str]:
    """Its exit code and what it said on stderr."""
    if number is not None:
        process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.fixture
async def monitor(bus: PrivateBus, server: BusServer, services: FakeServices) -> AsyncIterator[Start]:
    """Starts a monitor that watches by the time it is returned."""
    services.world.add("network", LAB)
    started: list[Process] = []

    async def start(*options: str) -> Process:
        process = await Vnetctl(bus.address).start("monitor", *options)
        started.append(process)
        assert "watching" in await line(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            await end(process, signal.SIGKILL)


def healed(services: FakeServices, what: str, **details: str) -> None:
    services.world.tell(Healed("network", LAB.uuid, "lab", what, details))


async def test_people_see_time_kind_object_and_details(monitor: Start, services: FakeServices) -> None:
    process = await monitor()
    healed(services, "address 192.168.122.1/24", cause="ip")
    words = (await line(process)).split(maxsplit=2)
    assert words[2] == "healed         network lab  what=address 192.168.122.1/24  cause=ip\n"


async def test_programs_get_an_object_a_line(monitor: Start, services: FakeServices) -> None:
    process = await monitor("--json")
    lease = LeaseView("192.168.122.7", 24, "ipv4", "52:54:00:00:00:07", "web", "", 1_700_000_000)
    services.world.tell(LeaseChange(LAB.uuid, "lab", True, lease))
    services.world.tell(LeaseChange(LAB.uuid, "lab", False, lease))
    services.world.tell(LifecycleEvent("started", "network", LAB.uuid, "lab"))
    seen: list[dict[str, Any]] = [json.loads(await line(process)) for _ in range(3)]
    assert [entry["kind"] for entry in seen] == ["lease-added", "lease-removed", "started"]
    assert {(entry["object"], entry["name"]) for entry in seen} == {("network", "lab")}
    assert seen[0]["details"]["address"] == "192.168.122.7"
    assert seen[0]["details"]["expiry"] == 1_700_000_000


async def test_objects_that_come_change_and_go_have_their_names(monitor: Start, services: FakeServices) -> None:
    process = await monitor("--json")
    fresh = network_view("fresh")
    services.world.add("network", fresh)
    services.world.change("network", fresh.uuid, state="active", active=True)
    services.world.remove("network", fresh.uuid)
    seen = {}
    while "removed" not in seen:
        entry = json.loads(await line(process))
        seen[entry["kind"]] = entry
    assert {entry["name"] for entry in seen.values()} == {"fresh"}
    assert seen["changed"]["details"]["state"] == "active"
    assert "added" in seen


async def test_an_interrupt_ends_it_well(monitor: Start) -> None:
    assert await end(await monitor(), signal.SIGINT) == (0, "")


async def test_it_says_when_the_daemon_goes_away(monitor: Start, server: BusServer) -> None:
    process = await monitor()
    await server.stop()
    assert await end(process) == (5, "error: vnetd went away\n")


async def test_it_says_when_the_bus_goes_away(monitor: Start, bus: PrivateBus) -> None:
    process = await monitor()
    bus.kill()
    code, err = await end(process)
    assert code == 5
    assert err.startswith("error: ") and err.count("\n") == 1


async def test_a_reader_that_leaves_ends_it_quietly(monitor: Start, services: FakeServices) -> None:
    process = await monitor()
    transport = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    transport.close()
    healed(services, "route")
    assert await end(process) == (141, "")


async def test_nobody_else_on_the_bus_can_speak_for_the_daemon(
    monitor: Start, services: FakeServices, bus: PrivateBus
) -> None:
    process = await monitor("--json")
    async with client_of(bus) as other:
        await broadcast_healed(other, "forged")
        for name in await unique_names(other):
            await broadcast_healed(other, "forged", to=name)
    healed(services, "genuine")
    assert json.loads(await line(process))["details"] == {"what": "genuine"}


async def unique_names(client: MessageBus) -> list[str]:
    reply = await client.call(
        Message(
            destination="org.freedesktop.DBus",
            path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
            member="ListNames",
        )
    )
    assert reply is not None
    return [name for name in reply.body[0] if name.startswith(":")]


async def broadcast_healed(client: MessageBus, what: str, to: str | None = None) -> None:
    message = Message.new_signal(
        "/org/vnetd1/network/" + str(LAB.uuid).replace("-", "_"),
        "org.vnetd1.Network",
        "Healed",
        "sa{sv}",
        [what, {"cause": Variant("s", "me")}],
    )
    message.destination = to  # type: ignore[assignment]
    await client.send(message)


async def test_names_from_documents_steer_no_terminal(monitor: Start, services: FakeServices) -> None:
    process = await monitor()
    healed(services, "address\x1b[2J\nhealed all is well")
    assert "address\\x1b[2J\\nhealed all is well" in await line(process)
