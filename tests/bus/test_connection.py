"""The connection: floods, a bus that goes away, a name that is taken."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest
from support.fake_services import FakeServices
from support.fake_world import network_view
from support.private_bus import PrivateBus, RawClient, method_call, private_bus
from support.waiting import eventually

from vnetd.bus import contracts
from vnetd.bus.server import BusServer
from vnetd.model.errors import Denied, HostError, InUse

ROOT = "/org/vnetd1"
FLOOD = 5000


async def test_thousands_of_calls_in_one_go_are_all_answered(raw: RawClient, services: FakeServices) -> None:
    """dbus-next's own writer ends the connection here."""
    for number in range(20):
        services.world.add("network", network_view(f"net{number}", problems=("x" * 200,)))
    calls = [method_call(ROOT, contracts.MANAGER, "GetNetwork", "s", f"net{n % 20}") for n in range(FLOOD - 100)]
    calls += [method_call(ROOT, contracts.MANAGER, "ListNetworks", "a{sv}", {}) for _ in range(100)]
    answers = await asyncio.to_thread(raw.flood, calls)
    assert len(answers) == FLOOD
    assert not [answer for answer in answers.values() if answer.error_name]


async def test_answers_fill_no_memory_while_the_bus_does_not_take_them(
    raw: RawClient, services: FakeServices, server: BusServer
) -> None:
    for number in range(20):
        services.world.add("network", network_view(f"net{number}", problems=("x" * 20_000,)))
    calls = [method_call(ROOT, contracts.MANAGER, "ListNetworks", "a{sv}", {}) for _ in range(200)]
    assert server._connection is not None
    writer = server._connection._writer
    most = 0
    flood = asyncio.create_task(asyncio.to_thread(raw.flood, calls))
    while not flood.done():
        most = max(most, writer._queued)
        await asyncio.sleep(0.001)
    assert len(await flood) == 200
    assert most < 10 << 20  # the limit and the answer that crossed it; all together have 80 MB


async def test_large_flood_of_changes_is_worked_on_by_all_clients_at_once(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    clients = [RawClient(bus) for _ in range(4)]
    calls = [[method_call(ROOT, contracts.MANAGER, "Reconcile") for _ in range(200)] for _ in clients]
    floods = [asyncio.to_thread(client.flood, some) for client, some in zip(clients, calls, strict=True)]
    answers = await asyncio.gather(*floods)
    assert [len(some) for some in answers] == [200] * 4
    assert len(services.world.calls) == 800
    for client in clients:
        client.close()


async def test_loss_of_the_bus_is_told_once(
    bus: PrivateBus, server: BusServer, services: FakeServices, lost: list[Exception]
) -> None:
    bus.kill()
    await eventually(lambda: lost, "the loss was noticed")
    services.world.add("network", network_view("lab"))  # a notice with nobody to hear it
    await server.stop()
    assert len(lost) == 1


async def test_stop_is_not_a_loss(server: BusServer, bus: PrivateBus, lost: list[Exception]) -> None:
    await server.stop()
    await server.stop()
    answer = await bus.acall("call", "org.vnetd1", ROOT, contracts.PEER, "Ping")
    assert "org.vnetd1" in answer  # is not provided by anybody
    assert lost == []


async def test_stop_lets_a_change_finish_and_takes_no_other(
    server: BusServer, raw: RawClient, services: FakeServices
) -> None:
    services.world.add("network", network_view("lab"))
    path = f"/org/vnetd1/network/{str(network_view('lab').uuid).replace('-', '_')}"
    services.world.gate.clear()
    started = await asyncio.to_thread(raw.send, method_call(path, contracts.NETWORK, "Start"))
    await eventually(lambda: services.world.calls, "the start began")
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    refused = await asyncio.to_thread(raw.call, method_call(path, contracts.NETWORK, "Stop"))
    assert refused.error_name == "org.vnetd1.Error.Busy"
    services.world.gate.set()
    answer = await asyncio.to_thread(raw.answer_to, started)
    assert answer.error_name is None
    await stopping
    assert services.world.finished == ["start"]


async def test_second_daemon_is_told_who_has_the_name(bus: PrivateBus, server: BusServer) -> None:
    with pytest.raises(InUse, match=r"org\.vnetd1 is owned by process \d+ already"):
        await BusServer(FakeServices(), bus.address).start()


async def test_name_can_be_had_again_after_a_stop(bus: PrivateBus, server: BusServer) -> None:
    await server.stop()
    second = BusServer(FakeServices(), bus.address)
    await second.start()
    await second.stop()


async def test_bus_without_the_policy_says_what_is_missing() -> None:
    with private_bus(policy=False) as strict, pytest.raises(Denied, match=r"install org\.vnetd1\.conf"):
        await BusServer(FakeServices(), strict.address).start()


@pytest.mark.parametrize("address", ["unix:path=/nonexistent/bus", "nonsense", "", "unix:", "pigeon:loft=3"])
async def test_bus_that_is_not_there_is_a_clear_error(address: str) -> None:
    with pytest.raises(HostError, match="connect to message bus"):
        await BusServer(FakeServices(), address).start()


@pytest.mark.parametrize("kind", ["system", "session"])
async def test_well_known_bus_is_found_by_its_environment(
    bus: PrivateBus, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DBUS_{kind.upper()}_BUS_ADDRESS", bus.address)
    server = BusServer(FakeServices(), kind)
    await server.start()
    assert await bus.acall("call", "org.vnetd1", ROOT, contracts.PEER, "Ping") == ""
    await server.stop()


async def test_bus_that_hangs_up_during_authentication_is_an_error_not_a_busy_loop(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "bus"))
    listener.listen()

    def hang_up() -> None:
        connection, _ = listener.accept()
        connection.recv(100)
        connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(HostError, match="connect to message bus"):
        await BusServer(FakeServices(), f"unix:path={tmp_path}/bus").start()
    await asyncio.to_thread(thread.join)
    listener.close()
