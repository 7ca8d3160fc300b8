"""Guests on macvtap devices over a card of the host's, and what lies behind that card."""

import os
import select
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from support.client import MANAGER, ROOT, Refused, plain, variant
from support.netns import Lab, Namespace
from support.private_bus import VNETD_GROUP, client_of, method_call
from support.site import Administrator, Site

MARK = 0x88B5  # an ethertype for experiments (IEEE 802)
ONE, OTHER = "52:54:00:00:77:01", "52:54:00:00:77:02"
VNET_HDR = 10
ETH_P_ALL = 3


def network(mode: str = "bridge", **fields: Any) -> dict[str, Any]:
    """A network over the host's card lan0."""
    return {"name": "lab", "mode": "macvtap", "macvtap_mode": mode, "devices": {"interfaces": ["lan0"]}, **fields}


@dataclass(frozen=True, slots=True)
class Lan:
    """What lies behind the host's card lan0: a machine with one card, eth0, at 192.168.50.1."""

    host: Namespace
    machine: Namespace

    def card(self) -> dict[str, Any]:
        """The host's card."""
        found = self.host.link("lan0")
        assert found is not None
        return found


@contextmanager
def lan_of(site: Site, lab: Lab) -> Iterator[Lan]:
    """A card lan0 on the host with a machine behind it."""
    host, machine = site.host, lab.namespace("lan")
    # Indexes nobody else is likely to have at the same time: /dev/tapN is named by one, across namespaces.
    pairs = "".join(f"link add p{n} group 7 type veth peer name q{n}\n" for n in range(15 + os.getpid() % 25))
    host.run("ip", "-batch", "-", stdin=f"{pairs}link delete group 7\n")
    lab.veth(host, "lan0", machine, "eth0")
    machine.run("ip", "address", "add", "192.168.50.1/24", "dev", "eth0")
    machine.run("ip", "link", "set", "eth0", "up")
    yield Lan(host, machine)
    host.run("ip", "link", "delete", "lan0")


@dataclass(frozen=True)
class Tap:
    """A macvtap somebody holds."""

    port: str
    result: dict[str, Any]
    fds: list[int]

    def send(self, target: str, source: str, number: int) -> None:
        """A frame nobody else sends."""
        self.put(_bytes(target) + _bytes(source) + struct.pack("!HI", MARK, number) + bytes(40))

    def put(self, frame: bytes) -> None:
        """A frame as it is."""
        os.write(self.fds[0], bytes(VNET_HDR) + frame)

    def get(self, wait: float = 10) -> bytes:
        """The next frame that comes. Raises ``TimeoutError``."""
        if not select.select(self.fds[:1], [], [], wait)[0]:
            raise TimeoutError
        return os.read(self.fds[0], 4096)[VNET_HDR:]

    def hears(self, number: int, send: Callable[[], None], wait: float = 5) -> bool:
        """Whether a frame of this number comes, sent again and again meanwhile."""
        end = time.monotonic() + wait
        while time.monotonic() < end:
            send()
            readable, _, _ = select.select(self.fds, [], [], 0.1)
            for fd in readable:
                if os.read(fd, 4096)[VNET_HDR + 12 :][:6] == struct.pack("!HI", MARK, number):
                    return True
        return False

    def close(self) -> None:
        """Let go of it."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@asynccontextmanager
async def guest(admin: Administrator, mac: str, *, uid: int = 0, **spec: Any) -> AsyncIterator[Tap]:
    """A guest that holds a macvtap for the length of the block; ``uid`` asks for it."""
    async with client_of(admin.site.bus, uid, [VNETD_GROUP]) as bus:
        tap = await _open(bus, mac=mac, **spec)
        try:
            yield tap
        finally:
            tap.close()


async def _open(bus: MessageBus, **spec: Any) -> Tap:
    values = {key: variant(value) for key, value in spec.items()}
    reply = await bus.call(method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", values))
    assert reply is not None
    if reply.signature != "oaha{sv}":
        raise Refused(str(reply.error_name), str(reply.body[0]))
    port, _, result = plain(reply.body)
    return Tap(str(port), result, list(reply.unix_fds))


@contextmanager
def listening(namespace: Namespace, device: str) -> Iterator[Callable[[], set[int]]]:
    """Numbers of the frames that came to a device since the last question."""
    with namespace.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((device, ETH_P_ALL))
    sock.setblocking(False)

    def heard() -> set[int]:
        numbers = set()
        while True:
            try:
                kind, number = struct.unpack_from("!HI", sock.recv(2048).ljust(18), 12)
                numbers |= {number} if kind == MARK else set()
            except BlockingIOError:
                return numbers

    with sock:
        yield heard


async def finish(admin: Administrator) -> None:
    """End the network while its card is there."""
    for one in (await admin.networks()).values():
        await admin.stop(one["path"])
