"""Packets between namespaces: who reaches whom, with which source address, and what an outage cost."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from support.filtering import ECHO, connects
from support.netns import Lab, Namespace
from support.waiting import eventually

PORT = 7777
_privileged = count(500)


@contextmanager
def serving(namespace: Namespace, *services: str) -> Iterator[None]:
    """Listen inside while the block lasts: ``tcp:22`` takes connections, ``udp:53`` echoes."""
    server = namespace.start(sys.executable, "-c", ECHO, *services, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        for _ in services:
            assert server.stdout.readline(), "the server serves"
        yield
    finally:
        server.kill()
        server.communicate()


def reaches(namespace: Namespace, address: str, port: int = PORT, *, wait: float = 2.5) -> bool:
    """Whether a TCP connection can be made from inside; ``wait`` in seconds: TCP tries again after one."""
    with namespace.entered(), socket.socket(_family(address), socket.SOCK_STREAM) as client:
        try:
            return connects(client, address, port, wait=wait)
        except OSError:  # an ICMP error other than a closed port's
            return False


@contextmanager
def second_uplink(lab: Lab, host: Namespace, device: str) -> Iterator[Namespace]:
    """Another host while the block lasts, behind ``device`` of ``host``; it answers at 198.51.100.1."""
    other = lab.namespace("other")
    lab.veth(host, device, other, "eth0")
    try:
        for where, end, address in ((host, device, "198.51.100.2"), (other, "eth0", "198.51.100.1")):
            where.run("ip", "address", "add", f"{address}/24", "dev", end)
            where.run("ip", "link", "set", end, "up")
        yield other
    finally:
        host.run("ip", "link", "delete", device)


def privileged_port() -> int:
    """A port below 1024 nobody used yet: what the kernel knows of an earlier flow must not decide for a new one."""
    return next(_privileged)


def source_seen(
    sender: Namespace,
    receiver: Namespace,
    destination: str,
    *,
    source: str = "",
    sport: int = 0,
    device: str = "",
    wait: float = 5,
) -> tuple[str, int] | None:
    """Address and port which a datagram from ``sender`` has when it comes to ``receiver``, ``None`` if it does not.

    ``device`` is what it is sent out of, whatever the routes say; ``wait`` in seconds.
    """
    family = _family(destination)
    with ExitStack() as stack:
        with receiver.entered():
            hearing = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        with sender.entered():
            sending = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        hearing.bind(("", PORT))
        hearing.settimeout(0.1)
        for one in (hearing, sending):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if device:
            sending.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source or sport:
            sending.bind((source, sport))
        return _exchange(sending, hearing, destination, wait)


def _exchange(sending: socket.socket, hearing: socket.socket, destination: str, wait: float) -> tuple[str, int] | None:
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            sending.sendto(b"?", (destination, PORT))
            address, port, *_ = hearing.recvfrom(16)[1]
            return address, port
        except OSError:  # nothing came yet, or an ICMP error did
            continue
    return None


def pings_answered(pairs: Iterable[tuple[Namespace, str]], *, wait: float = 1) -> list[bool]:
    """Which of these pings are answered within ``wait`` seconds, each from a namespace to an address; all at once."""
    running = [one.start("ping", "-n", "-c", "1", "-W", str(wait), address) for one, address in pairs]
    return [ping.wait(timeout=wait + 10) == 0 for ping in running]


class Pinging:
    """A ping that goes on while the block lasts; ``interval`` in seconds."""

    def __init__(self, namespace: Namespace, address: str, interval: float = 0.01) -> None:
        self._namespace = namespace
        self._command = ("ping", "-n", "-i", str(interval), "-W", "1", address)

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="ping-")
        self._output = Path(self._directory.name) / "output"
        with self._output.open("w") as output:
            self._process = self._namespace.start(*self._command, stdout=output)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._directory.cleanup()

    def answered(self) -> int:
        """Answers so far."""
        return self._output.read_text().count("bytes from")

    async def goes_on(self, *, deadline: float = 10) -> None:
        """Return when more answers came than can have been under way."""
        enough = self.answered() + 5
        await eventually(lambda: self.answered() >= enough, "the ping is answered", deadline=deadline)

    def lost(self) -> int:
        """End it and return how many of its packets were not answered."""
        # Only ping itself knows how many it sent; ip netns exec has become ping by now.
        os.kill(self._process.pid, signal.SIGINT)
        self._process.wait(timeout=10)
        (summary,) = [line for line in self._output.read_text().splitlines() if "packets transmitted" in line]
        sent, received = (int(part.split()[0]) for part in summary.split(",")[:2])
        return sent - received


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
