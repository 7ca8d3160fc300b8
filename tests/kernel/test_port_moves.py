"""A port moves between networks while its guest runs: its filter holds throughout, and nobody else notices."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from support.client import PORT, Refused
from support.site import Administrator
from support.traffic import Pinging, pings_answered
from support.waiting import SILENCE, eventually

RED = {"name": "red", "mode": "isolated", "addresses": [{"address": "10.88.1.1/24"}]}
BLUE = {
    "name": "blue", "mode": "isolated", "mtu": 1300, "isolated_ports": True,
    "addresses": [{"address": "10.88.2.1/24"}],
    "portgroups": [{"name": "slow", "bandwidth": {"inbound": {"average": 64}}}],
}  # fmt: skip
MAC = "52:54:00:00:77:01"
MOVES = 20
FORGER = """
import socket, sys
frame = bytes.fromhex("ffffffffffff52540000770288b5") + bytes(50)
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth0", 0))
while True:
    try:
        out.send(frame)
    except OSError:
        pass
"""
LISTENER = """
import socket, sys
heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5))
print("ready", flush=True)
while True:
    heard.recv(2048)
    print("heard", flush=True)
"""


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Kill a process at the end of the block."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def move_to(admin: Administrator, port: str, network: str) -> "asyncio.Future[None]":
    return asyncio.ensure_future(admin.call(port, PORT, "Move", "s", network))


async def test_a_guest_is_reached_where_it_moved_to_and_others_lose_no_packet(admin: Administrator) -> None:
    for document in (RED, BLUE):
        await admin.raise_network(document)
    mover = await admin.add_guest("red", "10.88.1.11/24", "10.88.2.11/24", mac=MAC)
    first = await admin.add_guest("red", "10.88.1.12/24", name="first")
    second = await admin.add_guest("red", "10.88.1.13/24", name="second")
    resident = await admin.add_guest("blue", "10.88.2.12/24", name="resident", isolated=False)
    with Pinging(first, "10.88.1.13") as within, Pinging(resident, "10.88.2.1") as beyond:
        await within.goes_on()
        for _ in range(MOVES):
            for network in ("blue", "red"):
                await move_to(admin, mover.port, network)
        await within.goes_on()
        await beyond.goes_on()
        assert max(within.lost(), beyond.lost()) <= 1  # the one under way when it ended
    in_red, in_blue = ((mover, "10.88.1.1"), (second, "10.88.1.11")), ((mover, "10.88.2.1"), (resident, "10.88.2.11"))
    await eventually(lambda: all(pings_answered(in_red)), "it is in red", deadline=30)
    await move_to(admin, mover.port, "blue")
    await eventually(lambda: all(pings_answered(in_blue)), "it is in blue", deadline=30)
    assert not any(pings_answered(in_red, wait=SILENCE))
    link = admin.site.host.link(mover.device)
    assert link is not None and (link["master"], link["mtu"]) == ("virbr1", 1300)
    assert link["linkinfo"]["info_slave_data"]["isolated"]
    await admin.call(mover.port, PORT, "SetPortgroup", "s", "slow")
    assert "htb" in admin.site.host.run("tc", "qdisc", "show", "dev", mover.device)


async def test_no_frame_the_filter_drops_passes_while_a_port_moves(admin: Administrator, tmp_path: Path) -> None:
    with ExitStack() as stack:
        await _no_frame_passes(admin, tmp_path, stack)


async def _no_frame_passes(admin: Administrator, tmp_path: Path, stack: ExitStack) -> None:
    for document in (RED, {**BLUE, "isolated_ports": False}):
        await admin.raise_network(document)
    forger = await admin.add_guest("red", mac=MAC, filter="no-mac-spoofing")
    heard = {network: tmp_path / network for network in ("red", "blue")}
    for network, file in heard.items():
        witness = await admin.add_guest(network, name=f"in{network}")
        with file.open("w") as output:
            stack.enter_context(ended(witness.start(sys.executable, "-c", LISTENER, stdout=output)))
        await eventually(lambda: "ready" in file.read_text(), "it listens")  # noqa: B023
    stack.enter_context(ended(forger.start(sys.executable, "-c", FORGER)))
    for _ in range(MOVES):
        for network in ("blue", "red"):
            await move_to(admin, forger.port, network)
    assert not [file for file in heard.values() if "heard" in file.read_text()]
    # Without the filter both would have heard it, or the test would prove nothing.
    await admin.call(forger.port, PORT, "SetFilter", "sa{sv}", "", {})
    await eventually(lambda: "heard" in heard["red"].read_text(), "it is heard in red")
    await move_to(admin, forger.port, "blue")
    await eventually(lambda: "heard" in heard["blue"].read_text(), "it is heard in blue")


async def test_a_daemon_killed_during_a_move_leaves_the_port_in_one_network_or_the_other(admin: Administrator) -> None:
    for document in (RED, BLUE):
        await admin.raise_network(document)
    mover = await admin.add_guest("red", "10.88.1.11/24", "10.88.2.11/24", mac=MAC)
    with pytest.raises(Refused, match="nowhere"):
        await move_to(admin, mover.port, "nowhere")
    for _ in range(3):
        moving = move_to(admin, mover.port, "blue")
        await asyncio.sleep(0.002)
        admin.site.daemon.kill()
        with suppress(Refused):  # by the bus, unless the answer had been sent
            await moving
        admin.site.daemon.start()
        name = await admin.get(mover.port, PORT, "NetworkName")
        bridge = {"red": "virbr0", "blue": "virbr1"}[name]
        link = admin.site.host.link(mover.device)
        assert link is not None and link["master"] == bridge
        await move_to(admin, mover.port, "red")
