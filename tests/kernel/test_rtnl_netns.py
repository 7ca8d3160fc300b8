"""Namespaces of guests: which files count as one, and what is done inside."""

import asyncio
import json
import os
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from support.links import lingering_deletions
from support.netns import Lab, run
from support.waiting import eventually, wait_until

from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.netns import VISITOR, Namespaces
from vnetd.model.errors import HostError, Invalid, NotFound
from vnetd.plan.kernel import CreateBridge, CreateVeth, SetLink


@pytest.fixture
async def namespaces() -> AsyncIterator[Namespaces]:
    made = Namespaces([].append)
    yield made
    await made.close()


def same(fd: int, path: str) -> bool:
    """Whether an fd is the namespace at ``path``; closes it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    finally:
        os.close(fd)


async def test_a_namespace_is_found_by_name_path_and_process(namespaces: Namespaces, lab: Lab) -> None:
    guest = lab.namespace("guest")
    sleeper = guest.start("sleep", "60")
    process = f"/proc/{sleeper.pid}/ns/net"
    # `ip netns exec` enters the namespace a moment after it was started.
    wait_until(lambda: os.path.samestat(os.stat(process), os.stat(guest.path)), "the process in its namespace")
    for reference in (guest.name, guest.path, str(sleeper.pid), sleeper.pid, process):
        fd = await namespaces.open(reference)
        assert not os.get_inheritable(fd)
        assert same(fd, guest.path)
    sleeper.kill()
    sleeper.wait()


async def test_a_number_is_a_name_before_it_is_a_process(namespaces: Namespaces) -> None:
    name = str(os.getpid())
    run("ip", "netns", "add", name)
    try:
        assert same(await namespaces.open(name), f"/run/netns/{name}")
        assert same(await namespaces.open(os.getpid()), f"/proc/{name}/ns/net")
    finally:
        run("ip", "netns", "delete", name)


@pytest.mark.parametrize("reference", ["", ".", "..", "../../etc/passwd", "a/b", "./x", "x\0y"])
async def test_what_can_be_no_reference_is_invalid(namespaces: Namespaces, reference: str) -> None:
    with pytest.raises(Invalid):
        await namespaces.open(reference)


async def test_nothing_else_is_opened_and_what_it_is_stays_secret(namespaces: Namespaces, tmp_path: Path) -> None:
    regular, fifo, link = tmp_path / "file", tmp_path / "fifo", tmp_path / "link"
    regular.write_text("x")
    os.mkfifo(fifo)
    link.symlink_to(regular)
    others = (str(tmp_path / "missing"), str(regular), str(fifo), str(link), str(tmp_path), "/dev/net/tun")
    for path in (*others, "/proc/self/ns/mnt", "/proc/self/ns/user", "/proc/self/status", "nosuch", "4194304", 0, -1):
        with pytest.raises(NotFound) as refusal:
            await namespaces.open(path)
        assert str(refusal.value) == f"there is no network namespace {path!r}"


async def test_a_symbolic_link_to_a_namespace_is_one(namespaces: Namespaces, lab: Lab, tmp_path: Path) -> None:
    guest = lab.namespace("guest")
    (tmp_path / "link").symlink_to(guest.path)
    assert same(await namespaces.open(str(tmp_path / "link")), guest.path)


async def test_a_peer_is_renamed_addressed_and_raised_inside(namespaces: Namespaces, lab: Lab) -> None:
    kernel, guest = await LinuxKernel.start(), lab.namespace("guest")
    fd = await namespaces.open(guest.name)
    await kernel.apply([CreateVeth("vport", "52:54:00:00:00:01", "tmp0", "52:54:00:00:00:02", fd, 1500, "x")])
    addresses = [ip_interface("192.0.2.2/24"), ip_interface("2001:db8::2/64")]
    await namespaces.configure_peer(fd, "tmp0", rename="eth0", addresses=addresses)
    os.close(fd)
    shown = guest.link("eth0")
    assert shown is not None and "UP" in shown["flags"] and guest.link("tmp0") is None
    assert guest.addresses("eth0") == {"192.0.2.2/24", "2001:db8::2/64"}
    await kernel.close()


async def test_a_pair_has_its_peer_configured_inside(namespaces: Namespaces, lab: Lab) -> None:
    guest, before = lab.namespace("guest"), os.readlink("/proc/thread-self/ns/net")
    fd = await namespaces.open(guest.name)
    await namespaces.make_pair(
        CreateVeth("vport", "52:54:00:00:00:01", "eth0", "52:54:00:00:00:02", fd, 1500, "x"),
        addresses=[ip_interface("192.0.2.2/24"), ip_interface("2001:db8::2/64")],
        gateways=[ip_address("192.0.2.1")],
    )
    os.close(fd)
    shown = guest.link("eth0")
    assert shown is not None and "UP" in shown["flags"]
    assert guest.addresses("eth0") == {"192.0.2.2/24", "2001:db8::2/64"}
    assert [route["gateway"] for route in guest.ip("route", "show", "default")] == ["192.0.2.1"]
    assert os.readlink("/proc/thread-self/ns/net") == before


async def test_a_pair_in_its_bridge_forwards_as_soon_as_it_is_made(namespaces: Namespaces, lab: Lab) -> None:
    """The kernel finds out about a carrier that comes later when it has the time."""
    kernel, guest = await LinuxKernel.start(), lab.namespace("guest")
    bridge = CreateBridge("lower0", "52:54:00:00:00:09", 1500, stp=False, forward_delay=0, alias="x")
    await kernel.apply([bridge, SetLink("lower0", up=True)])
    fd = await namespaces.open(guest.name)
    for number in range(20):
        macs = f"52:54:00:00:01:{number:02x}", f"52:54:00:00:02:{number:02x}"
        pair = CreateVeth(f"p{number}", macs[0], f"e{number}", macs[1], fd, 1500, "x")
        await namespaces.make_pair(pair, placing=[SetLink(pair.name, master="lower0", up=True)])
        (shown,) = json.loads(run("bridge", "-json", "link", "show", "dev", pair.name).stdout)
        assert shown["state"] == "forwarding"
    os.close(fd)
    await kernel.close()


async def test_others_are_served_while_a_link_inside_is_deleted(
    namespaces: Namespaces, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, guest = await LinuxKernel.start(), lab.namespace("guest")
    fd = await namespaces.open(guest.name)
    number = await namespaces.number(fd)
    await kernel.apply([CreateVeth("vport", "52:54:00:00:00:01", "eth0", "52:54:00:00:00:02", fd, 1500, "x")])
    guest.run("ip", "link", "set", "eth0", "alias", "x")
    with lingering_deletions(monkeypatch) as lingering:
        deleting = asyncio.create_task(namespaces.delete(number, "eth0", "x"))
        await eventually(lambda: lingering.begun)
        os.close(await namespaces.open(guest.path))
        assert await namespaces.number(fd) == number and not deleting.done()
    await deleting
    assert guest.link("eth0") is None
    os.close(fd)
    await kernel.close()


async def test_a_peer_may_stay_down(namespaces: Namespaces, lab: Lab) -> None:
    guest = lab.namespace("guest")
    guest.run("ip", "link", "add", "eth0", "type", "bridge")
    fd = await namespaces.open(guest.name)
    await namespaces.configure_peer(fd, "eth0", up=False)
    await namespaces.configure_peer(fd, "eth0", rename="eth0", up=False)
    os.close(fd)
    shown = guest.link("eth0")
    assert shown is not None and "UP" not in shown["flags"]


async def test_errors_inside_name_what_failed(namespaces: Namespaces, lab: Lab, tmp_path: Path) -> None:
    guest = lab.namespace("guest")
    fd = await namespaces.open(guest.name)
    with pytest.raises(HostError, match="set up of eth0: No such device"):
        await namespaces.configure_peer(fd, "eth0")
    with pytest.raises(HostError, match="rename eth0 to eth1: No such device"):
        await namespaces.configure_peer(fd, "eth0", rename="eth1")
    os.close(fd)
    with (tmp_path / "file").open("w") as file, pytest.raises(HostError, match="enter namespace of eth0"):
        await namespaces.configure_peer(file.fileno(), "eth0")


async def test_the_daemon_stays_where_it_is(namespaces: Namespaces, lab: Lab) -> None:
    before = os.readlink("/proc/thread-self/ns/net")
    guest = lab.namespace("guest")
    guest.run("ip", "link", "add", "eth0", "type", "bridge")
    fd = await namespaces.open(guest.name)
    await namespaces.configure_peer(fd, "eth0")
    os.close(fd)
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert {name for _, name in socket.if_nameindex()} == {"lo"}
    assert subprocess.run(["ip", "link", "show", "eth0"], capture_output=True, check=False).returncode != 0


def visitors() -> set[threading.Thread]:
    """Threads that enter namespaces, or wait to."""
    return {thread for thread in threading.enumerate() if thread.name == VISITOR}


async def test_each_visit_has_a_thread_of_its_own_that_was_started_before(lab: Lab) -> None:
    namespaces = Namespaces([].append)
    guest = lab.namespace("guest")
    fd, before = await namespaces.open(guest.name), visitors()
    waiting: set[threading.Thread] = set()
    for _ in range(3):
        await namespaces.configure_peer(fd, "lo")
        os.close(await namespaces.open(guest.path))  # after the next visitor's start, on its thread
        await eventually(lambda: len(visitors() - before) == 1 and not visitors() & waiting, "another waits")  # noqa: B023
        waiting = visitors() - before
    await asyncio.gather(*(namespaces.configure_peer(fd, "lo") for _ in range(3)))
    await eventually(lambda: len(visitors() - before) == 1, "one waits however many were there")
    os.close(fd)
    await namespaces.close()
    await eventually(lambda: visitors() == before, "none is left")


async def test_a_namespace_belongs_to_the_user_who_made_its_user_namespace(namespaces: Namespaces, lab: Lab) -> None:
    guest = lab.namespace("guest")
    alone = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "--user", "--net", "sleep", "60"]
    process = subprocess.Popen(alone, cwd="/")
    try:
        wait_until(lambda: os.readlink(f"/proc/{process.pid}/ns/user") != os.readlink("/proc/self/ns/user"), "it is")
        for reference, owner in ((guest.name, 0), (str(process.pid), 65534), (os.getpid(), None)):
            fd = await namespaces.open(reference)
            assert await namespaces.owner(fd) == owner
            os.close(fd)
    finally:
        process.kill()
        process.wait()
