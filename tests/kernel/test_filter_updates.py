"""A filter that changes while it is used: at no moment does a packet pass that both old and new forbid."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.client import PORT, ROOT, Refused
from support.netns import Guest
from support.site import Administrator
from support.waiting import eventually, wait_until

GUEST, PEER, FORBIDDEN = "192.168.77.10", "192.168.77.11", 9
LAB = {"name": "lab", "mode": "isolated", "addresses": [{"address": "192.168.77.1/24"}]}
UUID, INNER_UUID = "3f1c2a9e-7f0c-4b57-9f3d-0c8a5e0c9d12", "3f1c2a9e-7f0c-4b57-9f3d-0c8a5e0c9d13"
UPDATES = 50
FLOOD = """
import socket, sys, time
flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    flood.sendto(b"forbidden", (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.0002)
"""


def udp(port: int | str, action: str = "drop") -> dict[str, Any]:
    """A rule for datagrams the guest sends to a port."""
    match = {"protocol": "udp", "attributes": [{"name": "dstportstart", "value": str(port)}]}
    return {"action": action, "direction": "out", "match": match}


def outer(*rules: dict[str, Any], chain: str = "root") -> str:
    """The filter that is bound; it refers to ``inner``."""
    entries = [{"filter": "inner"}, *rules]
    return json.dumps({"name": "outer", "uuid": UUID, "chain": chain, "entries": entries})


def inner(*rules: dict[str, Any]) -> str:
    """The filter it refers to, which forbids."""
    return json.dumps({"name": "inner", "uuid": INNER_UUID, "entries": [udp(FORBIDDEN), *rules]})


@contextmanager
def flooded(guest: Guest, listener: Guest) -> Iterator[socket.socket]:
    """Forbidden datagrams from the guest while the block lasts, and the socket they would arrive at."""
    with listener.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("", FORBIDDEN))
        heard.setblocking(False)
        flood = guest.start(sys.executable, "-c", FLOOD, PEER, str(FORBIDDEN))
        try:
            yield heard
        finally:
            flood.kill()
            flood.wait()


def arrived(heard: socket.socket) -> bool:
    """Whether anything has come."""
    try:
        return bool(heard.recv(100))
    except BlockingIOError:
        return False


def sent(guest: Guest) -> int:
    """Packets the guest has sent."""
    return int(guest.ip("-s", "link", "show", "dev", "eth0")[0]["stats64"]["tx"]["packets"])


async def test_no_forbidden_packet_passes_during_fifty_updates(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    await admin.define_filter(inner())
    await admin.define_filter(outer())
    guest = await admin.add_guest("lab", f"{GUEST}/24", name="guest", filter="outer")
    peer = await admin.add_guest("lab", f"{PEER}/24", name="peer")
    with flooded(guest, peer) as heard:
        for number in range(UPDATES):
            before = sent(guest)
            changing, text = (outer, inner) if number % 2 else (inner, outer)
            await admin.define_filter(changing(udp(1000 + number)))
            await admin.define_filter(text())
            wait_until(lambda before=before: sent(guest) > before + 5, "the flood goes on")
        assert not arrived(heard)
        await admin.call(guest.port, PORT, "SetFilter", "sa{sv}", "", {})
        assert await eventually(lambda: arrived(heard), "it was the filter that kept them away")


async def test_an_update_one_port_cannot_take_is_taken_by_none(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    await admin.define_filter(inner())
    await admin.define_filter(outer())
    able = await admin.add_guest("lab", name="able", filter="outer", **{"parameter.PORT": "7"})
    unable = await admin.add_guest("lab", name="unable", filter="outer")
    before = admin.site.ruleset()
    with pytest.raises(Refused, match=rf"filter inner is in use by {unable.device}, which cannot take it: .*PORT"):
        await admin.define_filter(inner(udp("$PORT")))
    assert admin.site.ruleset() == before
    path = await admin.call(ROOT, "org.vnetd1.Manager", "GetFilter", "s", "inner")
    assert "PORT" not in await admin.call(path, "org.vnetd1.Filter", "Describe", "sa{sv}", "json", {})
    with pytest.raises(Refused, match=rf"InUse.*inner is in use by {able.device}, {unable.device}"):
        await admin.call(path, "org.vnetd1.Filter", "Undefine")
