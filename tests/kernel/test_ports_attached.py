"""How guests are attached: where the device ends up, what it is called, and that no frame passes that shall not."""

import asyncio
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, NETWORK, PORT, ROOT, Refused, variant
from support.netns import Lab, Namespace, run
from support.site import Administrator
from support.waiting import SILENCE, eventually, wait_until

LAB = {"name": "lab", "mode": "isolated", "mtu": 1400, "addresses": [{"address": "192.168.77.1/24"}]}
MAC = "52:54:00:00:77:01"
ETH_P_ALL = 3
MARK = 0x88B5  # an ethertype for experiments (IEEE 802)
DROP = {
    "marked": "<filter name='marked'><rule action='drop' direction='out'><mac protocolid='0x88b5'/></rule></filter>",
    "silent": "<filter name='silent'><rule action='drop' direction='in'><mac/></rule></filter>",
}


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


async def device_of(admin: Administrator, port: str) -> str:
    """The host's end of a port."""
    return str(await admin.get(port, PORT, "Device"))


def frame(source: str, number: int) -> bytes:
    """A broadcast frame nobody else sends."""
    return b"\xff" * 6 + bytes.fromhex(source.replace(":", "")) + struct.pack("!HI", MARK, number) + bytes(40)


class Listener:
    """Hears marked frames on a device, also those its bridge then drops, from construction to the end of its block."""

    def __init__(self, namespace: Namespace, device: str) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((device, ETH_P_ALL))
        self._socket.setblocking(False)

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def heard(self) -> set[int]:
        """Numbers of the frames that came since the last question."""
        numbers = set()
        while True:
            try:
                kind, number = struct.unpack_from("!HI", self._socket.recv(2048).ljust(18), 12)
                numbers |= {number} if kind == MARK else set()
            except BlockingIOError:
                return numbers


FLOOD = """
import socket, sys, time
frame, device = bytes.fromhex(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
while True:
    try:
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        out.bind((device, 0))
        while True:
            out.send(frame)
    except OSError:  # no such device yet, or it is down
        out.close()
"""


@contextmanager
def flooding(guest: Namespace, content: bytes, device: str = "eth0") -> Iterator[None]:
    """A guest that sends as fast as it can from the very moment its device is there and up."""
    process = guest.start(sys.executable, "-c", FLOOD, content.hex(), device, stdout=-1)
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["name", "path", "process"])
async def test_a_veth_goes_into_the_namespace_named_in_any_of_three_ways(
    admin: Administrator, network: str, how: str
) -> None:
    guest = admin.vacant_guest()
    sleeper = guest.start("sleep", "1000")
    wait_until(lambda: sleeper.pid in guest.pids(), "a process runs inside")
    reference = {"name": guest.name, "path": guest.path, "process": str(sleeper.pid)}[how]
    port = await admin.attach("lab", {"kind": "veth", "netns": reference, "mac": MAC, "guest_device": "lan0"})
    (link,) = guest.ip("link", "show", "dev", "lan0")
    assert (link["address"], link["mtu"], "UP" in link["flags"]) == (MAC, 1400, True)
    assert {one["ifname"] for one in guest.ip("link", "show")} == {"lo", "lan0"}
    (near,) = admin.site.host.ip("link", "show", "dev", await device_of(admin, port))
    assert (near["address"], near["mtu"], near["master"]) == ("fe" + MAC[2:], 1400, "virbr0")
    guest.run("ip", "address", "add", "192.168.77.9/24", "dev", "lan0")
    assert guest.ping("192.168.77.1")
    await admin.call(port, PORT, "Detach")
    assert {one["ifname"] for one in guest.ip("link", "show")} == {"lo"}
    assert admin.site.devices() == {"virbr0"}
    sleeper.kill()
    sleeper.wait()


async def test_guests_of_one_network_reach_each_other_and_a_detached_one_nobody(
    admin: Administrator, network: str
) -> None:
    one = await admin.add_guest("lab", "192.168.77.11/24", name="one")
    other = await admin.add_guest("lab", "192.168.77.12/24", name="other")
    assert one.ping("192.168.77.12")
    await admin.call(other.port, PORT, "Detach")
    assert not one.ping("192.168.77.12", wait=SILENCE)
    with pytest.raises(Refused, match=r"UnknownObject|NotFound"):
        await admin.call(other.port, PORT, "Detach")


async def test_device_names_come_from_a_template_by_lowest_free_number(admin: Administrator, network: str) -> None:
    host = admin.site.host
    host.run("ip", "link", "add", "web1", "type", "veth", "peer", "name", "web1-peer")
    names = [await device_of(admin, await admin.attach("lab", {"kind": "tap", "device": "web%d"})) for _ in range(3)]
    assert names == ["web0", "web2", "web3"]
    assert [await device_of(admin, await admin.attach("lab", {"kind": "tap"})) for _ in range(2)] == ["vnet0", "vnet1"]
    for taken in ("web0", "web1"):
        with pytest.raises(Refused, match=f"Exists.*{taken}"):
            await admin.attach("lab", {"kind": "tap", "device": taken})
    host.run("ip", "link", "delete", "web1")


async def test_of_attachments_at_once_each_gets_a_device_of_its_own(admin: Administrator, network: str) -> None:
    guests = [admin.vacant_guest(f"g{number}") for number in range(10)]
    ports = await asyncio.gather(*(admin.attach("lab", {"kind": "veth", "netns": guest.name}) for guest in guests))
    devices = [await device_of(admin, port) for port in ports]
    assert sorted(devices) == sorted(f"veth{number}" for number in range(10))
    same = [admin.attach("lab", {"kind": "tap", "device": "same"}) for _ in range(5)]
    results = await asyncio.gather(*same, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Refused"] * 4 + ["str"]


async def test_no_dropped_frame_of_an_existing_device_gets_in_while_it_is_attached(
    admin: Administrator, network: str, lab: Lab
) -> None:
    await admin.define_filter(DROP["marked"])
    host, guest = admin.site.host, lab.namespace("guest")
    lab.veth(host, "mine0", guest, "eth0", MAC)
    host.run("ip", "link", "set", "mine0", "up")
    guest.run("ip", "link", "set", "eth0", "up")
    wait_until(lambda: (guest.link("eth0") or {}).get("operstate") == "UP", "its cable is plugged")
    with Listener(host, "virbr0") as bridge, Listener(host, "mine0") as cable, flooding(guest, frame(MAC, 7)):
        wait_until(cable.heard, "the flood arrives at the host")
        for _ in range(10):
            port = await admin.attach("lab", {"kind": "existing", "device": "mine0", "filter": "marked", "mac": MAC})
            cable.heard()
            wait_until(cable.heard, "the flood goes on")
            await admin.call(port, PORT, "Detach")
        assert not bridge.heard()
        port = await admin.attach("lab", {"kind": "existing", "device": "mine0", "mac": MAC})
        wait_until(bridge.heard, "without a filter it would get in")
    await admin.call(port, PORT, "Detach")
    host.run("ip", "link", "delete", "mine0")


async def test_no_dropped_frame_of_a_new_guest_gets_in_from_its_first_moment(
    admin: Administrator, network: str
) -> None:
    await admin.define_filter(DROP["marked"])
    guest = admin.vacant_guest()
    with Listener(admin.site.host, "virbr0") as bridge, flooding(guest, frame(MAC, 7)):
        for _ in range(10):
            spec = {"kind": "veth", "netns": guest.name, "mac": MAC, "filter": "marked"}
            port = await admin.attach("lab", spec)
            with Listener(admin.site.host, await device_of(admin, port)) as cable:
                wait_until(cable.heard, "the guest floods")
            await admin.call(port, PORT, "Detach")
        assert not bridge.heard()
        port = await admin.attach("lab", {"kind": "veth", "netns": guest.name, "mac": MAC})
        wait_until(bridge.heard, "without a filter it would get in")


async def test_no_frame_reaches_a_new_guest_that_its_filter_keeps_off(admin: Administrator, network: str) -> None:
    await admin.define_filter(DROP["silent"])
    other = await admin.add_guest("lab", name="other")
    guest = admin.vacant_guest()
    with flooding(other, frame("52:54:00:00:77:02", 9)):
        port = await admin.attach("lab", {"kind": "veth", "netns": guest.name, "mac": MAC, "filter": "silent"})
        with Listener(guest, "eth0") as guests_card, Listener(admin.site.host, "virbr0") as bridge:
            wait_until(bridge.heard, "the flood is on the bridge")
            assert not guests_card.heard()
            assert (guest.ip("-statistics", "link", "show", "dev", "eth0")[0]["stats64"]["rx"]["packets"]) == 0
            await admin.call(port, PORT, "SetFilter", "sa{sv}", "", {})
            wait_until(guests_card.heard, "without a filter it gets through")


@pytest.mark.parametrize("kind", ["veth", "tap"])
async def test_a_stop_takes_ports_out_and_tells(admin: Administrator, network: str, kind: str) -> None:
    ended = await admin.listen("Event")
    guest = admin.vacant_guest()
    for number in range(3):
        inside = {"netns": guest.name, "guest_device": f"e{number}"} if kind == "veth" else {}
        await admin.attach("lab", {"kind": kind, "device": "p%d", **inside})
    assert admin.site.devices() == {"virbr0", "p0", "p1", "p2"}
    await admin.stop(network)
    assert not admin.site.leftovers()
    kinds: list[str] = []
    while not ended.empty():
        kinds.append(ended.get_nowait()[0])
    assert kinds.count("detached") == 3
    assert await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {}) == []


async def test_a_namespace_that_is_gone_or_none_at_all_is_not_found(
    admin: Administrator, network: str, tmp_path: Path
) -> None:
    gone = admin.vacant_guest()
    run("ip", "netns", "delete", gone.name)
    plain = tmp_path / "file"
    plain.write_text("")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    link = tmp_path / "link"
    link.symlink_to("/proc/self/ns/mnt")
    references = [gone.name, gone.path, str(plain), str(fifo), str(tmp_path), str(link), "/dev/zero", "4194304"]
    for reference in [*references, "/proc/self/ns/uts", "/proc/1/root", f"{gone.path}/x", "a" * 300]:
        with pytest.raises(Refused, match=r"Error\.NotFound"):
            await admin.attach("lab", {"kind": "veth", "netns": reference})
    for reference in ["", ".", "..", "../x", "a/b", "-1/ns"]:
        with pytest.raises(Refused, match=r"Error\.Invalid"):
            await admin.attach("lab", {"kind": "veth", "netns": reference})
    assert admin.site.devices() == {"virbr0"}


async def test_a_name_the_guest_has_already_is_refused_and_leaves_nothing(admin: Administrator, network: str) -> None:
    guest = await admin.add_guest("lab")
    with pytest.raises(Refused, match=r"Error\.(Host|Exists).*File exists"):
        await admin.attach("lab", {"kind": "veth", "netns": guest.name})
    assert admin.site.devices() == {"virbr0", guest.device}
    assert await admin.get(network, NETWORK, "Ports") == [guest.port]


async def test_a_stopped_network_takes_no_guest(admin: Administrator, network: str) -> None:
    guest = admin.vacant_guest()
    await admin.stop(network)
    for spec in ({"kind": "veth", "netns": guest.name}, {"kind": "tap"}):
        with pytest.raises(Refused, match=r"Error\.Busy.*lab.*start it"):
            await admin.attach("lab", spec)
    with pytest.raises(Refused, match=r"Error\.Busy"):
        await admin.call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", {})
    assert not admin.site.leftovers()


async def test_attaching_and_detaching_leaves_no_descriptor_open(admin: Administrator, network: str) -> None:
    guest = admin.vacant_guest()
    descriptors = Path(f"/proc/{admin.site.daemon.pid}/fd")

    async def cycle() -> None:
        port = await admin.attach("lab", {"kind": "veth", "netns": guest.name})
        await admin.call(port, PORT, "Detach")
        with pytest.raises(Refused):
            await admin.attach("lab", {"kind": "veth", "netns": guest.name, "device": "virbr0"})
        with pytest.raises(Refused):
            await admin.attach("lab", {"kind": "veth", "netns": guest.name, "filter": "no-such"})

    await cycle()
    before = len(list(descriptors.iterdir()))
    for _ in range(100):
        await cycle()
    await eventually(lambda: len(list(descriptors.iterdir())) <= before, "none is left open")


async def test_a_port_outlives_a_killed_daemon_with_its_filter_in_force(admin: Administrator, network: str) -> None:
    await admin.define_filter(DROP["marked"])
    guest = await admin.add_guest("lab", "192.168.77.9/24", mac=MAC, filter="marked")
    before = admin.site.realised("virbr0")
    with Listener(admin.site.host, "virbr0") as bridge, flooding(guest, frame(MAC, 7)):
        admin.site.daemon.send(signal.SIGKILL)
        await eventually(lambda: not admin.site.daemon.alive(), "it is dead")
        assert guest.ping("192.168.77.1")
        admin.site.daemon.kill()
        admin.site.daemon.start()
        assert guest.ping("192.168.77.1")
        assert not bridge.heard()
    assert admin.site.realised("virbr0") == before
    assert await admin.get(network, NETWORK, "Ports") == [guest.port]
    assert await admin.get(guest.port, PORT, "Filter") == "marked"
    await admin.call(guest.port, PORT, "SetFilter", "sa{sv}", "", {})
    with Listener(admin.site.host, "virbr0") as bridge, flooding(guest, frame(MAC, 7)):
        wait_until(bridge.heard, "it is taken away as well as before")


BAD: list[dict[str, Any]] = [
    {"device": "sixteen-bytes-xx"},
    {"device": "x" * 15 + "%d"},
    {"device": "a%db%d"},
    {"device": "a b"},
    {"device": "a\nb"},
    {"device": ".."},
    {"device": "vnet0'; reboot; '"},
    {"mtu": 65536},
    {"mac": "52:54:00:00:00"},
    {"owner": -5},
    {"parameter.MAC": "a\nb", "filter": "clean-traffic"},
    {"parameter.A B": "1", "filter": "clean-traffic"},
    {"invented": "1"},
]


@pytest.mark.parametrize("spec", BAD, ids=[repr(spec)[:40] for spec in BAD])
async def test_a_spec_no_port_can_have_is_refused_by_name(
    admin: Administrator, network: str, spec: dict[str, Any]
) -> None:
    before = admin.site.ruleset()
    key = next(iter(spec)).partition(".")[0]
    with pytest.raises(Refused, match=rf"Error\.Invalid: (?s:.*){key}|Error\.Invalid(?s:.*)name"):
        await admin.attach("lab", {"kind": "tap", **spec})
    values = {name: variant(value) for name, value in spec.items()}
    with pytest.raises(Refused, match=r"Error\.Invalid"):
        await admin.call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", values)
    assert admin.site.devices() == {"virbr0"}
    assert admin.site.ruleset() == before
