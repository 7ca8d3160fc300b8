"""How fast a bridge forwards between two guests: without filters, with theirs, and beside many other filtered ports."""

import asyncio
import json
import os
import socket
import struct
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from support.client import PORT, variant
from support.netns import Guest, Lab

from bench.figures import Figure
from bench.job import FILTER
from bench.ports import opening
from bench.vnetd_peer import Running

FRAMES, ROUNDS = 40_000, 5
CROWD = 500
NETWORK = "forwarding"
MACS = ("52:54:00:00:00:71", "52:54:00:00:00:72")
ADDRESSES = ("10.99.0.1", "10.99.0.2")
LEAST_BESIDE, LEAST_UNFILTERED = 0.95, 0.75
"""Of the rate of one filtered port, and of that without filters."""


@dataclass(slots=True)
class Rates:
    """Frames a second without filters, with the two guests' own, and with so many ports filtered besides."""

    unfiltered: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float, float]:
        """In this order."""
        return median(self.unfiltered), median(self.alone), median(self.beside)


def rate(sender: Guest, receiver: Guest) -> float:
    """Frames a second from one guest to the other; all of them have to arrive.

    A frame's whole way runs within the system call that sends it, so the sender's pace is the bridge's.
    """
    frame = _frame()
    before = _received(receiver)
    with sender.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        began = perf_counter()
        for _ in range(FRAMES):
            sock.send(frame)
        took = perf_counter() - began
    arrived = _received(receiver) - before
    if arrived < FRAMES:
        raise RuntimeError(f"of {FRAMES} frames {arrived} arrived")
    return FRAMES / took


def _frame() -> bytes:
    ethernet = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in reversed(MACS)) + b"\x08\x00"
    ends = b"".join(socket.inet_aton(one) for one in ADDRESSES)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 46, 0, 0, 64, 17, 0) + ends
    # Bridges whose frames pass the host's IP rules drop what has a wrong checksum (RFC 1071).
    total = sum(struct.unpack("!10H", head))
    head = head[:10] + struct.pack("!H", ~(total % 0xFFFF) & 0xFFFF) + head[12:]
    return ethernet + head + struct.pack("!HHHH", 9, 9, 26, 0) + bytes(18)


def _received(guest: Guest) -> int:
    (link,) = json.loads(guest.run("ip", "-stats", "-json", "link", "show", "dev", "eth0"))
    return int(link["stats64"]["rx"]["packets"])


def several(sender: Guest, receiver: Guest) -> list[float]:
    """The rate, several times; the first is for warming up."""
    return [rate(sender, receiver) for _ in range(ROUNDS + 1)][1:]


async def vnetd_rates(running: Running, lab: Lab) -> Rates:
    """Two guests of vnetd's, then the same with the bench's filter, then with a crowd that has it too."""
    document = f'{{"name": "{NETWORK}", "mode": "isolated", "bridge": {{"name": "virbr44", "stp": false}}}}'
    network = await running.client.define_network(document)
    await running.client.start(network)
    guests, ports = [], []
    for number, mac in enumerate(MACS):
        guests.append(Guest(lab.namespace(f"end{number}").name))
        spec = {"kind": "veth", "netns": guests[-1].name, "mac": mac}
        ports.append(await running.client.attach(NETWORK, spec))
    rates = Rates(unfiltered=await asyncio.to_thread(several, *guests))
    for port, address in zip(ports, ADDRESSES, strict=True):
        await running.client.call(port, PORT, "SetFilter", "sa{sv}", FILTER, {"IP": variant(address)})
    rates.alone = await asyncio.to_thread(several, *guests)
    async with opening(running.daemon_bus, NETWORK) as open_tap:
        held = [await open_tap(f"52:54:04:00:{number >> 8:02x}:{number & 255:02x}") for number in range(CROWD)]
        rates.beside = await asyncio.to_thread(several, *guests)
        await running.client.stop(network)
        for one in held:
            os.close(one.tap)
    return rates


def forwarding_figures(rates: Rates, libvirt: Rates) -> list[Figure]:
    """What filters cost, as ratios of rates taken in one run; libvirt's, with its smaller crowd, as notes."""
    unfiltered, alone, beside = rates.medians
    theirs = libvirt.medians
    return [
        Figure(
            f"forwarding with one filtered port / with {CROWD}", alone / beside, "x", 1 / LEAST_BESIDE,
            f"libvirt, with a few: {theirs[1] / theirs[2]:.2f}",
        ),
        Figure(
            f"forwarding without filters / with {CROWD}", unfiltered / beside, "x", 1 / LEAST_UNFILTERED,
            f"libvirt, with a few: {theirs[0] / theirs[2]:.2f}; {unfiltered / 1000:.0f} thousand frames a second",
        ),
    ]  # fmt: skip
