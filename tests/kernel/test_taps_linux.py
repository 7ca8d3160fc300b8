"""Taps on the real kernel: flags, owners, traffic, and what is left when nobody wants one any more."""

import asyncio
import errno
import fcntl
import os
import struct
from collections.abc import AsyncIterator

import pytest
from support.netns import Namespace
from support.waiting import eventually

from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.taps import IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, LinuxTaps
from vnetd.model.errors import HostError
from vnetd.plan.kernel import CreateBridge, SetLink

TUNGETIFF = 0x800454D2
FRAME = bytes.fromhex("ffffffffffff 525400000001 88b5") + b"a frame of a local experiment (IEEE 802 ethertype 88b5)"


@pytest.fixture
async def taps() -> AsyncIterator[LinuxTaps]:
    made = LinuxTaps()
    yield made
    await made.stop()


def flags(fd: int) -> int:
    """What the kernel says a queue is."""
    answer = fcntl.ioctl(fd, TUNGETIFF, bytes(40))
    found: int = struct.unpack_from("=16sH", answer)[1]
    return found


@pytest.mark.parametrize("vnet_hdr", [True, False])
async def test_frames_come_without_packet_information_and_with_a_header_if_asked(
    taps: LinuxTaps, vnet_hdr: bool
) -> None:
    [fd] = await taps.open("vnet0", 1, vnet_hdr)
    assert flags(fd) & (IFF_TAP | IFF_NO_PI) == IFF_TAP | IFF_NO_PI
    assert bool(flags(fd) & IFF_VNET_HDR) is vnet_hdr
    assert not flags(fd) & IFF_MULTI_QUEUE
    assert not os.get_inheritable(fd)
    await taps.close([fd])


async def test_several_queues_belong_to_one_tap(taps: LinuxTaps) -> None:
    fds = await taps.open("vnet0", 4, True)
    assert all(flags(fd) & IFF_MULTI_QUEUE for fd in fds)
    await taps.close(fds)


async def test_a_tap_passes_frames_between_its_holder_and_the_bridge(taps: LinuxTaps) -> None:
    kernel = await LinuxKernel.start()
    await kernel.apply([CreateBridge("virbr0", "52:54:00:00:00:01", 1500, False, 0, "ours")])
    near, far = [(await taps.open(name, 1, False))[0] for name in ("vnet0", "vnet1")]
    up = [SetLink(name, master="virbr0", up=True) for name in ("vnet0", "vnet1")]
    await kernel.apply([*up, SetLink("virbr0", up=True)])
    os.set_blocking(far, False)

    def arrived() -> bool:
        os.write(near, FRAME)
        try:
            return os.read(far, 2048) == FRAME
        except BlockingIOError:
            return False

    await eventually(arrived, "a frame at the other tap")
    await taps.close([near, far])
    await kernel.close()


async def test_a_persistent_tap_has_its_owner_and_group(taps: LinuxTaps, inside_host: Namespace) -> None:
    made = LinuxTaps()  # its threads start here, in the namespace that has a name
    await made.keep("vnet0", await made.open("vnet0", 2, True, 54321), 3 << 30)
    await made.keep("vnet1", await made.open("vnet1", 1, False, -1), -1)
    owned, free = inside_host.link("vnet0"), inside_host.link("vnet1")
    assert owned is not None and free is not None
    data = owned["linkinfo"]["info_data"]
    assert (data["type"], data["persist"], data["vnet_hdr"], data["pi"]) == ("tap", True, True, False)
    assert (str(data["user"]), str(data["group"])) == ("54321", str(3 << 30))
    assert "user" not in free["linkinfo"]["info_data"] and "group" not in free["linkinfo"]["info_data"]
    assert free["linkinfo"]["info_data"]["vnet_hdr"] is False
    assert (data["multi_queue"], free["linkinfo"]["info_data"]["multi_queue"]) == (True, False)
    await made.stop()


async def test_a_persistent_tap_that_somebody_left_is_not_joined(taps: LinuxTaps) -> None:
    await taps.keep("vnet0", await taps.open("vnet0", 1, True), -1)
    with pytest.raises(HostError) as refusal:
        await taps.open("vnet0", 1, True)
    assert refusal.value.errno == errno.EBUSY


async def test_a_refused_tap_leaves_no_fd_and_no_link(taps: LinuxTaps) -> None:
    kernel = await LinuxKernel.start()
    before = _open_taps()
    for owner in ((1 << 32) - 1, 1 << 32, -2):
        with pytest.raises(HostError, match="create tap vnet0: Invalid argument"):
            await taps.open("vnet0", 2, True, owner)
    assert (_open_taps(), await kernel.link("vnet0")) == (before, None)
    await kernel.close()


async def test_a_caller_that_is_cancelled_leaves_no_tap(taps: LinuxTaps) -> None:
    kernel = await LinuxKernel.start()
    for turns in range(6):
        opening = asyncio.create_task(taps.open("vnet0", 2, True))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        try:
            await taps.close(await opening)
        except asyncio.CancelledError:
            assert await kernel.link("vnet0") is None
    assert _open_taps() == 0
    await kernel.close()


def _open_taps() -> int:
    return sum(os.path.realpath(f"/proc/self/fd/{fd}").endswith("/net/tun") for fd in os.listdir("/proc/self/fd"))


async def test_the_loop_goes_on_while_taps_are_closed(taps: LinuxTaps) -> None:
    fds = await taps.open("vnet0", 1, True)
    turns = 0
    closing = asyncio.create_task(taps.close(fds))
    while not closing.done():
        await asyncio.sleep(0)
        turns += 1
    await closing
    assert turns > 10, "the loop stood still"


async def test_a_tap_can_be_made_while_another_is_closed(taps: LinuxTaps) -> None:
    fds = [(await taps.open(f"vnet{number}", 1, True))[0] for number in range(10)]
    closing = asyncio.create_task(taps.close(fds))
    await asyncio.sleep(0)
    opened = await taps.open("other", 1, True)
    assert not closing.done()
    await closing
    await taps.close(opened)
