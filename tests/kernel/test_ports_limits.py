"""A daemon that may open no further file: ports are refused by name and leave nothing, and later ones are made."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, NETWORK, PORT, ROOT, Refused, plain, variant
from support.private_bus import client_of, method_call
from support.site import Administrator
from support.waiting import eventually

LAB = {"name": "lab", "mode": "isolated", "addresses": [{"address": "192.168.77.1/24"}], "dns": {"enable": False}}


@contextmanager
def spare_descriptors(pid: int, number: int) -> Iterator[None]:
    """A process may open this many files more than it has, and no more."""
    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    limit = 0
    while number >= 0:
        number -= limit not in used
        limit += 1
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit - 1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


async def open_and_close(admin: Administrator, queues: int) -> None:
    """Open a tap and let go of it. Raises ``Refused``."""
    async with client_of(admin.site.bus) as bus:
        spec = {"queues": variant(queues), "filter": variant("no-mac-spoofing")}
        reply = await bus.call(method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", spec))
        assert reply is not None
        if reply.signature != "oaha{sv}":
            raise Refused(str(reply.error_name), str(plain(reply.body)[0]))
        for fd in reply.unix_fds:
            os.close(fd)


async def attach_and_detach(admin: Administrator, spec: dict[str, Any]) -> None:
    """Attach a port and take it out. Raises ``Refused``."""
    await admin.call(await admin.attach("lab", spec), PORT, "Detach")


async def test_at_its_limit_of_descriptors_a_daemon_makes_a_port_whole_or_not_at_all(admin: Administrator) -> None:
    network = await admin.raise_network(LAB)
    guest = admin.vacant_guest()
    records = admin.site.root / "run/vnetd/ports"
    await open_and_close(admin, 4)
    refusals: set[str] = set()
    for number in (0, 1, 2, 3, 4, 6):
        for kind in ("tap-fd", "tap", "veth"):
            await eventually(lambda: admin.site.devices() == {"virbr0"}, "all before is gone")
            await eventually(lambda: not list(Path(records).glob("*")), "and forgotten")
            rules = admin.site.ruleset()
            with spare_descriptors(admin.site.daemon.pid, number):
                try:
                    if kind == "tap-fd":
                        await open_and_close(admin, 4)
                    else:
                        inside = {"netns": guest.name} if kind == "veth" else {"queues": 2}
                        await attach_and_detach(admin, {"kind": kind, **inside})
                except Refused as refused:
                    assert refused.name in {"org.vnetd1.Error.Host", "org.vnetd1.Error.NotFound"}, refused
                    refusals.add(str(refused))
            await eventually(lambda: admin.site.devices() == {"virbr0"}, f"{kind} with {number} leaves no device")
            await eventually(lambda: not list(Path(records).glob("*")), f"{kind} with {number} leaves no record")
            await eventually(lambda: admin.site.ruleset() == rules, "nor rules")  # noqa: B023
            assert await admin.get(network, NETWORK, "Ports") == []
    assert any("create tap" in text and "Too many open files" in text for text in refusals), refusals
    await open_and_close(admin, 4)
    assert await admin.state(network) == "active"


@pytest.mark.parametrize(
    ("device", "error"),
    [("sixteen-bytes-xx", "Invalid"), ("a%db%d", "Invalid"), ("virbr0", "Exists"), ("uplink0", "Exists")],
)
async def test_a_tap_of_an_impossible_or_taken_name_is_refused_and_leaves_nothing(
    admin: Administrator, device: str, error: str
) -> None:
    network = await admin.raise_network(LAB)
    for kind in ("tap", "macvlan"):
        guest = admin.vacant_guest()
        inside = {"netns": guest.name, "lower": "uplink0"} if kind == "macvlan" else {}
        with pytest.raises(Refused, match=rf"Error\.{error}"):
            await admin.attach("lab", {"kind": kind, "device": device, **inside})
        with pytest.raises(Refused, match=r"Error\.NotFound: .*'no-such'"):
            await admin.attach("no-such", {"kind": kind, **inside})
    assert admin.site.devices() == {"virbr0"}
    assert await admin.get(network, NETWORK, "Ports") == []
