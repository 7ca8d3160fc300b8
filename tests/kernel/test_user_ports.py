"""Guests of mode user behind a real passt: unprivileged, watched, and gone with their port."""

import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, PORT, ROOT, plain, variant
from support.netns import run
from support.passt_guest import PasstGuest
from support.private_bus import client_of, method_call
from support.site import Administrator
from support.traffic import PORT as SERVED
from support.traffic import serving
from support.waiting import eventually

NOBODY = 65534


@pytest.fixture
async def network(admin: Administrator) -> AsyncIterator[str]:
    yield await admin.raise_network({"name": "lab", "mode": "user"})


async def attach(admin: Administrator, **spec: Any) -> tuple[str, str]:
    """A port's path and the socket of its passt."""
    values = {key: variant(value) for key, value in {"kind": "passt", **spec}.items()}
    async with client_of(admin.site.bus) as bus:
        reply = await bus.call(method_call(ROOT, MANAGER, "Attach", "sa{sv}", "lab", values))
    assert reply is not None and reply.signature == "oa{sv}", reply and reply.body
    port, result = plain(reply.body)
    return str(port), str(result["socket"])


def passts(admin: Administrator) -> dict[int, int]:
    """Users of the passt processes below the daemon's root, by process id."""
    found = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(word.startswith(os.fsencode(admin.site.root)) and word.endswith(b"/socket") for word in words):
                found[pid] = int(Path(f"/proc/{pid}/status").read_text().partition("Uid:")[2].split()[1])
    return found


@contextmanager
def plugged(path: str) -> Iterator[PasstGuest]:
    """A guest for the length of the block."""
    guest = PasstGuest(path)
    try:
        yield guest
    finally:
        guest.close()


async def test_a_guest_gets_a_lease_and_reaches_a_server_beyond_the_host(admin: Administrator, network: str) -> None:
    _, path = await attach(admin)
    assert set(passts(admin).values()) == {NOBODY}
    outside = admin.site.outside
    with plugged(path) as guest, serving(outside, f"tcp:{SERVED}"):
        address = guest.offered()
        assert address == outside.host_ipv4, "passt gives the guest the host's own address"
        assert guest.connects(address, outside.ipv4, outside.ipv4, SERVED)


@pytest.mark.parametrize("listen", [8022, 22])
async def test_a_forwarded_port_of_the_host_leads_to_the_guest(admin: Administrator, network: str, listen: int) -> None:
    _, path = await attach(admin, forwards=[f"tcp:{listen}:22"])
    outside = admin.site.outside
    with plugged(path) as guest:
        address = guest.offered()
        guest.announce(address, outside.ipv4)
        with outside.entered():
            client = socket.socket()
        client.settimeout(10)

        def call() -> None:
            with suppress(OSError):
                client.connect((outside.host_ipv4, listen))

        caller = threading.Thread(target=call)
        caller.start()
        assert guest.called() == 22
        client.close()
        guest.close()
        caller.join()


async def test_passt_is_started_again_when_it_dies_and_ends_with_its_port(admin: Administrator, network: str) -> None:
    port, path = await attach(admin)
    (first,) = passts(admin)
    run("kill", "-KILL", str(first))
    await eventually(lambda: passts(admin) and first not in passts(admin))
    ready = Path(path).with_name("pid")
    await eventually(lambda: ready.exists() and ready.read_text(), "it has everything prepared")
    with plugged(path) as guest:
        assert guest.offered()
    await admin.call(port, PORT, "Detach")
    assert not passts(admin) and not os.path.exists(os.path.dirname(path))


async def test_a_guest_notices_nothing_of_a_restart_of_the_daemon(admin: Administrator, network: str) -> None:
    _, path = await attach(admin)
    before = passts(admin)
    with plugged(path) as guest:
        assert guest.offered()
        admin.site.daemon.kill()
        admin.site.daemon.start()
        assert passts(admin) == before
        assert guest.offered()
    (pid,) = before
    run("kill", str(pid))
    await eventually(lambda: passts(admin) and pid not in passts(admin), "one of an earlier daemon is watched too")
    await admin.stop(network)
    assert not passts(admin)


async def test_a_port_whose_forward_is_taken_is_refused_with_passts_own_words(
    admin: Administrator, network: str
) -> None:
    await attach(admin, forwards=["tcp:8022:22"])
    with pytest.raises(AssertionError, match="8022"):
        await attach(admin, forwards=["tcp:8022:22"])
    assert len(passts(admin)) == 1
