"""Guests on bridges of two taps each: frames in at one end, and whether they come out of the other."""

import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.netns import run

from vnetd.model.filter import Filter
from vnetd.plan.drift import union
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.rules import Fragment
from vnetd.ruleset.filter import compile_binding
from vnetd.ruleset.unbridged import entrance, unbridged
from vnetd.service.filter_uses import STATELESS

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
PATIENCE = 10.0
"""Seconds a frame that passes may take on a loaded machine."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A bridge of a guest's tap ``device`` and another, ``far``. Frames come out in the order they went in.

    To rules at ``far`` itself the guest is where it is to those at its macvtap: what it sends leaves that device.
    """

    device: str
    far: str
    guest: int
    other: int

    def send(self, frame: bytes, out: bool) -> None:
        """Send from the guest (``out``) or to it."""
        os.write(self.guest if out else self.other, frame)

    def next(self, out: bool, patience: float = PATIENCE) -> bytes | None:
        """The next frame that came from the guest (``out``) or to it, ``None`` if none does in that many seconds."""
        fd = self.other if out else self.guest
        ready, _, _ = select.select([fd], [], [], patience)
        return os.read(fd, 4096) if ready else None

    def passes(self, frame: bytes, out: bool) -> bool:
        """Whether a frame gets through: the kernel carries it from tap to tap before the sending returns."""
        self.send(frame, out)
        end = time.monotonic() + 0.02
        while (left := end - time.monotonic()) > 0:
            if (found := self.next(out, left)) is not None and found == frame:
                return True
        return False


def bound(
    lane: Lane,
    bridged: bool,
    filters: Mapping[str, Filter],
    name: str,
    mac: str,
    parameters: Mapping[str, Sequence[str]],
    features: BridgeFeatures,
) -> Fragment:
    """The rules of a filter for a lane's guest: as a port of the bridge, or as one that is in no bridge."""
    if bridged:
        return compile_binding(filters, name, lane.device, mac, parameters, features).fragment
    compiled = compile_binding(filters, name, lane.far, mac, parameters, STATELESS)
    return union((unbridged(compiled.fragment), entrance(lane.far)))


@contextmanager
def lanes(number: int) -> Iterator[Sequence[Lane]]:
    """That many lanes in the network namespace of the thread; nothing else is sent on them."""
    for setting in ("ipv6/conf/default/disable_ipv6", "ipv6/conf/all/disable_ipv6"):
        Path("/proc/sys/net", setting).write_text("1")
    made: list[Lane] = []
    try:
        for place in range(number):
            made.append(Lane(f"g{place}", f"o{place}", _tap(f"g{place}"), _tap(f"o{place}")))
        bridge = "type bridge forward_delay 0 stp_state 0 mcast_snooping 0 group_fwd_mask 0"
        lines = [f"link add b{place} {bridge}\nlink set b{place} up" for place in range(number)]
        for place in range(number):
            for end in "go":
                lines += [f"link set {end}{place} master b{place} up"]
                lines += [f"link set {end}{place} type bridge_slave learning off"]
        run("ip", "-batch", "-", stdin="\n".join(lines), timeout=60)
        for lane in made:
            _wait_for(lane)
        yield made
    finally:
        for lane in made:
            os.close(lane.guest)
            os.close(lane.other)


def _wait_for(lane: Lane) -> None:
    """Until frames pass both ways."""
    probe = bytes.fromhex("525400000002525400000001") + b"\x88\xb6" + bytes(50)
    for out in (True, False):
        end = time.monotonic() + PATIENCE
        while not lane.passes(probe, out):
            assert time.monotonic() < end, f"{lane.device} carries frames"


def _tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd
