"""Filters bound to the guests of one bridge, on the kernel: what a test of filters needs and nothing else."""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from support.netns import Lab, Namespace, run
from support.waiting import wait_until

from vnetd.linux.nft import LinuxNft
from vnetd.model.filter import Filter
from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import Fragment
from vnetd.ruleset.filter import Compiled, compile_binding

HOST4, HOST6 = "10.7.0.1", "fd07::1"


@dataclass(frozen=True, slots=True)
class Station:
    """A guest with fixed addresses; ``device`` is the host's end of its cable."""

    namespace: Namespace
    device: str
    mac: str
    address4: str
    address6: str

    def reaches(self, address: str, port: int, *, sport: int = 0, wait: float = 1) -> bool:
        """Whether a TCP connection can be made from here; ``wait`` in seconds."""
        with self.namespace.entered(), socket.socket(_family(address), socket.SOCK_STREAM) as client:
            return connects(client, address, port, sport, wait)

    def answers(self, address: str, port: int, *, wait: float = 1) -> bool:
        """Whether a UDP datagram from here is answered; ``wait`` in seconds."""
        with self.namespace.entered(), socket.socket(_family(address), socket.SOCK_DGRAM) as client:
            client.settimeout(wait)
            client.sendto(b"?", (address, port))
            try:
                return client.recv(16) == b"?"
            except TimeoutError:
                return False

    def pings(self, address: str, *, wait: float = 1) -> bool:
        """Whether an echo request from here is answered; ``wait`` in seconds."""
        return self.namespace.ping(address, wait=wait) == 1

    def send_frame(self, frame: bytes) -> None:
        """Put a frame on the guest's cable as it is."""
        with self.namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            raw.send(frame)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connects(client: socket.socket, address: str, port: int, sport: int = 0, wait: float = 1) -> bool:
    """Whether the socket gets connected within ``wait`` seconds."""
    client.settimeout(wait)
    if sport:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("", sport))
    try:
        client.connect((address, port))
    except (TimeoutError, ConnectionRefusedError):
        return False
    return True


ECHO = """
import socket, sys, threading
ready = threading.Event()
def tcp(port):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    print(port, flush=True)
    while True:
        listener.accept()[0].close()
def udp(port):
    both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    both.bind(("::", port))
    print(port, flush=True)
    while True:
        data, peer = both.recvfrom(100)
        both.sendto(data, peer)
for text in sys.argv[1:]:
    kind, port = text.split(":")
    threading.Thread(target={"tcp": tcp, "udp": udp}[kind], args=(int(port),)).start()
"""


@dataclass
class Bench:
    """A host with a bridge, two guests, and the means to bind filters to them."""

    host: Namespace
    one: Station
    two: Station
    nft: LinuxNft
    filters: Mapping[str, Filter]
    ledger: Ledger = field(default_factory=Ledger)
    servers: list[subprocess.Popen[str]] = field(default_factory=list)

    def serve(self, namespace: Namespace, *services: str) -> None:
        """Listen inside: ``tcp:22`` takes connections, ``udp:53`` echoes."""
        server = namespace.start(sys.executable, "-c", ECHO, *services, stdout=subprocess.PIPE)
        self.servers.append(server)
        assert server.stdout is not None
        for _ in services:
            assert server.stdout.readline()

    def close(self) -> None:
        """End the servers."""
        for server in self.servers:
            server.kill()
            server.communicate()

    async def bind(self, station: Station, name: str, **parameters: Sequence[str]) -> Compiled:
        """Put a filter in force for a guest, in place of what was."""
        features = self.nft.features
        compiled = compile_binding(self.filters, name, station.device, station.mac, parameters, features)
        await self._put(station, compiled.fragment)
        return compiled

    async def unbind(self, station: Station) -> None:
        """Take the guest's filter away."""
        await self._put(station, None)

    async def _put(self, station: Station, fragment: Fragment | None) -> None:
        proposal = self.ledger.propose({station.device: fragment})
        await self.nft.commit(proposal.remove, proposal.add)
        self.ledger.accept(proposal)

    def host_reaches(self, address: str, port: int, *, wait: float = 1) -> bool:
        """Whether the host can make a TCP connection; ``wait`` in seconds."""
        with self.host.entered(), socket.socket(_family(address), socket.SOCK_STREAM) as client:
            return connects(client, address, port, wait=wait)


def plug(lab: Lab, host: Namespace, number: int) -> Station:
    """A guest at bridge ``br0`` with addresses ending in its number."""
    mac = f"52:54:00:00:07:{number:02x}"
    guest = lab.guest(host, "br0", f"g{number}", mac)
    address4, address6 = f"10.7.0.{number}", f"fd07::{number:x}"
    guest.run("ip", "address", "add", f"{address4}/24", "dev", "eth0")
    guest.run("ip", "address", "add", f"{address6}/64", "dev", "eth0", "nodad")
    return Station(guest, guest.device, mac, address4, address6)


def bridge(host: Namespace) -> None:
    """Bridge ``br0`` with the host's own addresses, IPv6 without waiting."""
    host.run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    host.run("ip", "link", "set", "br0", "up")
    host.run("ip", "address", "add", f"{HOST4}/24", "dev", "br0")
    host.run("ip", "address", "add", f"{HOST6}/64", "dev", "br0", "nodad")


def wait_for_forwarding(host: Namespace, *stations: Station) -> None:
    """Until the bridge takes part of each guest is forwarding and the guest is reached over both IP versions."""
    for station in stations:
        wait_until(lambda station=station: _forwarding(host, station.device), f"port {station.device} forwards")
        for address in (station.address4, station.address6):
            wait_until(lambda address=address: host.ping(address) == 1, f"{address} answers")


def _forwarding(host: Namespace, device: str) -> bool:
    shown = json.loads(run(*host.argv("bridge", "-json", "link", "show", "dev", device)).stdout)
    return bool(shown and shown[0]["state"] == "forwarding")


def octets(mac: str) -> bytes:
    """A MAC address as it is on the wire."""
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, destination: str, kind: int, content: bytes) -> bytes:
    """An Ethernet frame."""
    return octets(destination) + octets(source) + struct.pack("!H", kind) + content


def arp(operation: int, sender_mac: str, sender: str, target: str, target_mac: str = "00:00:00:00:00:00") -> bytes:
    """An ARP message (RFC 826), or a RARP one by its operation (RFC 903)."""
    head = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation)
    return head + octets(sender_mac) + socket.inet_aton(sender) + octets(target_mac) + socket.inet_aton(target)


class Tap:
    """What arrives on a guest's cable of one ethertype, while the block lasts."""

    def __init__(self, station: Station, kind: int) -> None:
        with station.namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
            self._socket.bind(("eth0", kind))

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def sees(self, frame: bytes, wait: float = 1) -> bool:
        """Whether that frame (padding aside) arrives within ``wait`` seconds."""
        self._socket.settimeout(wait)
        try:
            while True:
                if self._socket.recv(2048)[: len(frame)] == frame:
                    return True
        except TimeoutError:
            return False
