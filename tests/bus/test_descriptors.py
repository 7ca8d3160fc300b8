"""Tap descriptors arrive at the caller, and vnetd keeps no copy of any."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageFlag
from dbus_next.message import Message
from dbus_next.signature import Variant
from support.fake_services import FakeServices
from support.fake_world import network_view
from support.private_bus import NOBODY, PrivateBus, RawClient, method_call
from support.waiting import eventually

from vnetd.bus import contracts
from vnetd.bus.server import BusServer


def open_tap(queues: int = 1) -> Message:
    spec = {"queues": Variant("i", queues)}
    return method_call("/org/vnetd1", contracts.MANAGER, "OpenTap", "sa{sv}", "lab", spec)


@pytest.fixture
def taps(services: FakeServices) -> Iterator[list[int]]:
    """Read ends of the pipes that stand for taps, in a network to attach to."""
    services.world.views["network"][network_view("lab").uuid] = network_view("lab")
    yield services.world.read_ends
    for fd in services.world.read_ends:
        os.close(fd)


def gone(tap: int) -> bool:
    """Whether the last descriptor of a tap is closed."""
    os.set_blocking(tap, False)
    try:
        return os.read(tap, 1) == b""
    except BlockingIOError:
        return False


async def test_each_queue_is_a_descriptor_that_works(client: MessageBus, taps: list[int]) -> None:
    answer = await client.call(open_tap(queues=3))
    assert answer.body[1] == [0, 1, 2] and len(answer.unix_fds) == 3
    for index, (tap, fd) in enumerate(zip(taps, answer.unix_fds, strict=True)):
        os.write(fd, b"frame %d" % index)
        assert os.read(tap, 100) == b"frame %d" % index
        os.close(fd)


async def test_tap_ends_when_the_client_closes_it(client: MessageBus, taps: list[int]) -> None:
    """And so vnetd has closed its own copy."""
    answer = await client.call(open_tap())
    assert not gone(taps[0])
    os.close(answer.unix_fds[0])
    await eventually(lambda: gone(taps[0]), "the tap is gone")


async def test_descriptors_stay_with_their_answers_in_a_flood(client: MessageBus, taps: list[int]) -> None:
    pairs = [(open_tap(queues=2), method_call("/org/vnetd1", contracts.PEER, "Ping")) for _ in range(20)]
    answers = (await asyncio.gather(*(client.call(call) for pair in pairs for call in pair)))[::2]
    for answer in answers:
        assert len(answer.unix_fds) == 2
        for fd in answer.unix_fds:
            os.write(fd, answer.body[0].encode())
            os.close(fd)
    await eventually(lambda: len(taps) == 40, "all taps were opened")
    assert sorted(os.read(tap, 200).decode() for tap in taps) == sorted(answer.body[0] for answer in answers * 2)
    await eventually(lambda: all(gone(tap) for tap in taps), "no copy is left")


async def test_tap_goes_with_a_caller_that_left_meanwhile(
    bus: PrivateBus, server: BusServer, services: FakeServices, taps: list[int]
) -> None:
    services.world.gate.clear()
    leaver = RawClient(bus)
    await asyncio.to_thread(leaver.send, open_tap())
    await eventually(lambda: services.world.calls, "the call arrived")
    leaver.close()
    services.world.gate.set()
    await eventually(lambda: taps and gone(taps[0]), "the tap is gone")


async def test_tap_goes_if_no_reply_is_wanted(raw: RawClient, taps: list[int]) -> None:
    call = open_tap()
    call.flags = MessageFlag.NO_REPLY_EXPECTED
    await asyncio.to_thread(raw.send, call)
    await eventually(lambda: taps and gone(taps[0]), "the tap is gone")


async def test_tap_with_more_queues_than_a_message_can_carry_is_refused_and_gone(
    raw: RawClient, taps: list[int]
) -> None:
    """The bus would disconnect vnetd for such a message."""
    answer = await asyncio.to_thread(raw.call, open_tap(queues=17))
    assert answer.error_name == "org.freedesktop.DBus.Error.LimitsExceeded"
    await eventually(lambda: all(gone(tap) for tap in taps), "the tap is gone")
    answer = await asyncio.to_thread(raw.call, open_tap(queues=16))
    assert answer.error_name is None


async def test_taps_go_when_the_bus_is_lost(
    bus: PrivateBus, server: BusServer, services: FakeServices, taps: list[int], lost: list[Exception]
) -> None:
    services.world.gate.clear()
    caller = RawClient(bus)
    await asyncio.to_thread(caller.send, open_tap())
    await eventually(lambda: services.world.calls, "the call arrived")
    bus.kill()
    await eventually(lambda: lost, "the loss was noticed")
    services.world.gate.set()
    await eventually(lambda: taps and gone(taps[0]), "the tap is gone")
    caller.close()


async def test_stranger_gets_no_tap(
    bus: PrivateBus, server: BusServer, services: FakeServices, taps: list[int]
) -> None:
    call = ("call", "org.vnetd1", "/org/vnetd1", contracts.MANAGER, "OpenTap", "sa{sv}", "lab", "0")
    assert "needs root" in await bus.acall(*call, uid=NOBODY)
    assert services.world.calls == [] and taps == []
