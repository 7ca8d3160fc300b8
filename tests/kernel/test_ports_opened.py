"""Taps handed to a caller as file descriptors: they carry frames, and go when their holder does."""

import asyncio
import fcntl
import os
import select
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dbus_next.aio.message_bus import MessageBus
from support.client import MANAGER, NETWORK, ROOT, Refused, plain, variant
from support.netns import run
from support.private_bus import RawClient, client_of, method_call
from support.site import Administrator
from support.waiting import eventually, wait_until

LAB = {"name": "lab", "mode": "isolated", "addresses": [{"address": "192.168.77.1/24"}], "dns": {"enable": False}}
MAC, ADDRESS, HOST = "52:54:00:00:77:01", "192.168.77.9", "192.168.77.1"
TUNGETIFF, IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x800454D2, 0x2, 0x100, 0x1000, 0x4000
VNET_HDR = 10


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


@dataclass(frozen=True)
class Tap:
    """A tap somebody holds."""

    port: str
    device: str
    fds: list[int]

    def close(self) -> None:
        """Let go of it."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


async def open_tap(bus: MessageBus, **spec: Any) -> Tap:
    """Ask for a tap. Raises ``Refused``."""
    values = {key: variant(value) for key, value in spec.items()}
    reply = await bus.call(method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", values))
    assert reply is not None
    if reply.signature != "oaha{sv}":
        raise Refused(str(reply.error_name), str(reply.body[0]))
    port, indexes, result = plain(reply.body)
    assert indexes == list(range(len(reply.unix_fds)))
    return Tap(str(port), result["device"], list(reply.unix_fds))


@asynccontextmanager
async def held(admin: Administrator, **spec: Any) -> AsyncIterator[Tap]:
    """A tap for the length of the block."""
    async with client_of(admin.site.bus) as bus:
        tap = await open_tap(bus, **spec)
        try:
            yield tap
        finally:
            tap.close()


def arp_request(mac: str = MAC, address: str = ADDRESS) -> bytes:
    """Who has the host's address?"""
    sender = bytes.fromhex(mac.replace(":", ""))
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, sender, _ip(address), bytes(6), _ip(HOST))
    return b"\xff" * 6 + sender + b"\x08\x06" + body


def _ip(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


def answered(tap: Tap, queue: int, header: int, mac: str = MAC, wait: float = 2) -> bool:
    """Whether an ARP request written to one queue is answered on any, as the bridge's host does."""
    sender = bytes.fromhex(mac.replace(":", ""))
    end = time.monotonic() + wait
    while time.monotonic() < end:
        os.write(tap.fds[queue], bytes(header) + arp_request(mac))
        readable, _, _ = select.select(tap.fds, [], [], 0.1)
        for fd in readable:
            got = os.read(fd, 4096)[header:]
            if got[:6] == sender and got[12:14] == b"\x08\x06" and got[20:22] == b"\x00\x02":
                return True
    return False


def flags_of(fd: int) -> int:
    """How the kernel sees a queue."""
    answer = fcntl.ioctl(fd, TUNGETIFF, struct.pack("=16sH22x", b"", 0))
    return int(struct.unpack("=16sH22x", answer)[1])


@pytest.mark.parametrize("vnet_hdr", [True, False])
@pytest.mark.parametrize("queues", [1, 2, 4])
async def test_frames_pass_through_every_queue_of_an_opened_tap(
    admin: Administrator, network: str, queues: int, vnet_hdr: bool
) -> None:
    async with held(admin, queues=queues, vnet_hdr=vnet_hdr, mac=MAC) as tap:
        assert len(tap.fds) == queues
        for queue, fd in enumerate(tap.fds):
            flags = flags_of(fd)
            assert bool(flags & IFF_VNET_HDR) is vnet_hdr
            assert bool(flags & IFF_MULTI_QUEUE) is (queues > 1)
            assert flags & IFF_TAP and flags & IFF_NO_PI
            assert answered(tap, queue, VNET_HDR if vnet_hdr else 0)
        (link,) = admin.site.host.ip("link", "show", "dev", tap.device)
        assert (link["master"], link["address"], "UP" in link["flags"]) == ("virbr0", "fe" + MAC[2:], True)
        assert link["linkinfo"]["info_data"]["persist"] is False


async def test_the_port_goes_with_the_last_descriptor_and_says_so(admin: Administrator, network: str) -> None:
    removed, events = await admin.listen("InterfacesRemoved"), await admin.listen("Event")
    async with held(admin, queues=2) as tap:
        assert await admin.get(network, NETWORK, "Ports") == [tap.port]
        os.close(tap.fds.pop())
        assert answered(tap, 0, VNET_HDR, "52:54:00:00:77:02")
        assert await admin.get(network, NETWORK, "Ports") == [tap.port]
        tap.close()
        gone = await asyncio.wait_for(removed.get(), 10)
        assert gone[0] == tap.port
        told = await asyncio.wait_for(events.get(), 10)
        while told[0] != "detached":
            told = await asyncio.wait_for(events.get(), 10)
        assert told[1:3] == [tap.port, tap.device]
        assert admin.site.devices() == {"virbr0"}
        assert await admin.get(network, NETWORK, "Ports") == []


async def test_the_filter_of_an_opened_tap_is_in_force(admin: Administrator, network: str) -> None:
    async with held(admin, mac=MAC, filter="no-mac-spoofing") as tap:
        assert answered(tap, 0, VNET_HDR)
        assert not answered(tap, 0, VNET_HDR, "52:54:00:00:77:66", wait=0.3)
        assert answered(tap, 0, VNET_HDR)


async def test_a_detached_tap_is_dead_to_its_holder(admin: Administrator, network: str) -> None:
    async with held(admin) as tap:
        await admin.call(tap.port, "org.vnetd1.Port", "Detach")
        assert admin.site.devices() == {"virbr0"}
        with pytest.raises(OSError, match=r"descriptor in bad state|No such device"):
            os.write(tap.fds[0], bytes(VNET_HDR) + arp_request())


async def test_a_stop_takes_opened_taps_and_their_holders_see_it(admin: Administrator, network: str) -> None:
    async with held(admin, queues=2) as tap:
        await admin.stop(network)
        assert not admin.site.leftovers()
        with pytest.raises(OSError, match=r"descriptor in bad state|No such device"):
            os.write(tap.fds[1], bytes(VNET_HDR) + arp_request())


CALLER = """
import os, sys
from support.private_bus import PrivateBus, RawClient, method_call
client = RawClient(PrivateBus(sys.argv[1], None))
client.send(method_call("/org/vnetd1", "org.vnetd1.Manager", "OpenTap", "sa{sv}", "lab", {}))
os.kill(os.getpid(), 9)
"""


async def test_a_caller_that_dies_right_after_the_call_leaves_no_tap(admin: Administrator, network: str) -> None:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    for _ in range(5):
        died = await asyncio.to_thread(
            run, "env", f"PYTHONPATH={path}", sys.executable, "-c", CALLER, admin.site.bus.address, check=False
        )
        assert died.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, died.stderr
    await admin.call(ROOT, MANAGER, "Reconcile")
    await eventually(lambda: admin.site.devices() == {"virbr0"}, "taps nobody holds are gone")
    await eventually(lambda: not list((admin.site.root / "run/vnetd/ports").glob("*")), "they are forgotten")
    assert await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {}) == []


async def test_a_caller_that_never_reads_its_answer_holds_the_tap_until_it_goes(
    admin: Administrator, network: str
) -> None:
    made = await admin.listen("InterfacesAdded")
    caller = await asyncio.to_thread(RawClient, admin.site.bus)
    caller.send(method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", {}))
    await asyncio.wait_for(made.get(), 10)
    caller.close()
    await eventually(lambda: admin.site.devices() == {"virbr0"}, "the tap went with it")
    await eventually(lambda: not list((admin.site.root / "run/vnetd/ports").glob("*")), "it is forgotten")


async def test_a_caller_that_takes_no_descriptors_leaves_no_tap(admin: Administrator, network: str) -> None:
    made = await admin.listen("InterfacesAdded")
    call = "call", "org.vnetd1", ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", "0"
    await asyncio.to_thread(admin.site.bus.busctl, *call)
    await asyncio.wait_for(made.get(), 10)
    await eventually(lambda: admin.site.devices() == {"virbr0"}, "the tap went with busctl")
    await eventually(lambda: not list((admin.site.root / "run/vnetd/ports").glob("*")), "and so did its record")


async def test_opening_taps_leaves_no_descriptor_open_in_the_daemon(admin: Administrator, network: str) -> None:
    descriptors = Path(f"/proc/{admin.site.daemon.pid}/fd")
    async with client_of(admin.site.bus) as bus:

        async def cycle() -> None:
            (await open_tap(bus, queues=2)).close()

        async def refusals() -> None:
            for wrong in ({"device": "virbr0"}, {"queues": 65}, {"queues": 40}, {"filter": "no-such"}):
                with pytest.raises(Refused):
                    await open_tap(bus, **wrong)

        await cycle()
        await refusals()
        await eventually(lambda: admin.site.devices() == {"virbr0"}, "the first tap is gone")
        before = len(list(descriptors.iterdir()))
        for number in range(100):
            await cycle()
            if number % 10 == 0:
                await refusals()
        await eventually(lambda: admin.site.devices() == {"virbr0"}, "all taps are gone", deadline=30)
        await eventually(lambda: len(list(descriptors.iterdir())) <= before, "no descriptor is left")


async def test_a_tap_outlives_a_killed_daemon_and_goes_with_its_holder_afterwards(
    admin: Administrator, network: str
) -> None:
    async with held(admin, mac=MAC) as tap:
        admin.site.daemon.kill()
        assert answered(tap, 0, VNET_HDR)
        admin.site.daemon.start()
        assert answered(tap, 0, VNET_HDR)
        assert await admin.get(network, NETWORK, "Ports") == [tap.port]
    wait_until(lambda: admin.site.devices() == {"virbr0"}, "the tap is gone")
    await eventually(lambda: not list((admin.site.root / "run/vnetd/ports").glob("*")), "it is forgotten")


async def test_a_tap_closed_while_no_daemon_ran_is_forgotten_by_the_next(admin: Administrator, network: str) -> None:
    async with held(admin, filter="no-mac-spoofing") as tap:
        admin.site.daemon.kill()
        tap.close()
        admin.site.daemon.start()
    await eventually(lambda: not list((admin.site.root / "run/vnetd/ports").glob("*")), "it is forgotten")
    assert await admin.get(network, NETWORK, "Ports") == []
