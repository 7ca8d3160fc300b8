"""A bus, services in memory and a front end between them, all in the test's own loop."""

import grp
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_next.aio.message_bus import MessageBus
from support.fake_services import FakeServices
from support.private_bus import GROUP, PrivateBus, RawClient, client_of, private_bus
from support.vnetctl import Vnetctl

from vnetd.bus.authorization import GroupAuthority
from vnetd.bus.server import BusServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The policy lets root alone own the name, and the tests call as several users."""
    for item in items:
        if Path(__file__).parent in item.path.parents and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root, to call as several users"))


@pytest.fixture
def group_id() -> int:
    """The group whose members may change things here."""
    return grp.getgrnam(GROUP).gr_gid


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    """A message bus with the shipped policy."""
    with private_bus() as running:
        yield running


@pytest.fixture
async def services() -> FakeServices:
    """Services in memory."""
    return FakeServices()


@pytest.fixture
async def lost() -> list[Exception]:
    """What the server was told about losing the bus."""
    return []


@pytest.fixture
async def server(bus: PrivateBus, services: FakeServices, lost: list[Exception]) -> AsyncIterator[BusServer]:
    """The front end on the private bus."""
    running = BusServer(services, bus.address, authority=GroupAuthority(GROUP), lost=lost.append)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def client(bus: PrivateBus, server: BusServer) -> AsyncIterator[MessageBus]:
    """A root client, dbus-next's own."""
    async with client_of(bus) as connection:
        yield connection


@pytest.fixture
def vnetctl(bus: PrivateBus, server: BusServer) -> Vnetctl:
    """The command, with a daemon to talk to."""
    return Vnetctl(bus.address)


@pytest.fixture
async def raw(bus: PrivateBus, server: BusServer) -> AsyncIterator[RawClient]:
    """A blocking client; use it in a thread."""
    connection = RawClient(bus)
    yield connection
    connection.close()


@pytest.fixture
async def server_with(bus: PrivateBus, services: FakeServices) -> AsyncIterator[Callable[..., Awaitable[BusServer]]]:
    """Starts a front end with other arguments than the usual one; it is stopped at the end."""
    started: list[BusServer] = []

    async def start(**arguments: Any) -> BusServer:
        running = BusServer(services, bus.address, **arguments)
        await running.start()
        started.append(running)
        return running

    yield start
    for running in started:
        await running.stop()
