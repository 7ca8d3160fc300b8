"""Wherever a daemon is killed, the next one has what was under way whole or not at all."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from support.hasty_loop import hastily
from support.memory_calls import crash
from support.memory_daemon import ROOT, Running, defined, lab, raised, running, view
from support.memory_host import MemoryHost, changes, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import VnetError

VETH = {"kind": "veth", "netns": "guest"}


async def whole_or_nothing(host: MemoryHost, nothing: dict[str, object], whole: dict[str, object], when: str) -> None:
    """A second daemon finds the network as it should be, or nothing of it."""
    async with running(host) as daemon:
        state = view(daemon).state
        assert state in {"active", "inactive"}, when
        assert not difference(whole if state == "active" else nothing, comparable(host)), f"{state} {when}"
        seen = len(host.calls)
        await daemon.services.reconcile(ROOT)
        assert changes(host, seen) == []
        if state == "inactive":
            await daemon.services.networks.start(ROOT, view(daemon).uuid)
        await daemon.services.networks.stop(ROOT, view(daemon).uuid)
        assert not difference(nothing, comparable(host)), when


def comparable(host: MemoryHost) -> dict[str, object]:
    """The host's state but for numbers the kernel gives and what is only bookkeeping."""
    state = {key: value for key, value in host.state().items() if not key.startswith("document run/host")}
    for entry in host.links.entries.values():
        rest = frozenset(entry.addresses), frozenset(entry.routes)
        state[f"link {entry.link.name}"] = (replace(entry.link, index=0), *rest)
    return state


SAME: dict[str, Any] = {"uuid": str(uuid4()), "mac": "52:54:00:00:00:01"}


async def define_it(daemon: Running) -> None:
    await defined(daemon, lab(**SAME))


async def raise_it(daemon: Running) -> None:
    await define_it(daemon)
    await start_it(daemon)


async def left_by(killed_at: int | None, begin: Any, act: Any) -> tuple[MemoryHost, dict[str, object], int]:
    """A host on which a daemon did ``begin``, then ``act`` up to the call of this number; how many calls it took."""
    host = host_with_uplink()
    async with running(host) as daemon:
        await begin(daemon)
        host.deafen()
        before, seen = comparable(host), len(host.calls)
        if killed_at is not None:
            host.before = crash(killed_at)
        try:
            await act(daemon)
        except VnetError:
            assert killed_at is not None
        return host, before, len([call for call in host.calls[seen:] if call.verb != "nft.chain"])


async def start_it(daemon: Running) -> None:
    await daemon.services.networks.start(ROOT, view(daemon).uuid)


async def stop_it(daemon: Running) -> None:
    await daemon.services.networks.stop(ROOT, view(daemon).uuid)


@hastily
async def test_whenever_a_daemon_dies_in_a_start_the_next_completes_it_or_leaves_nothing() -> None:
    host, nothing, calls = await left_by(None, define_it, start_it)
    whole = comparable(host)
    assert calls > 10
    for number in range(calls):
        host, *_ = await left_by(number, define_it, start_it)
        await whole_or_nothing(host, nothing, whole, f"after a start killed at call {number}")


@hastily
async def test_whenever_a_daemon_dies_in_a_stop_the_next_completes_it_or_everything_runs() -> None:
    host, whole, calls = await left_by(None, raise_it, stop_it)
    nothing = comparable(host)
    assert calls > 5
    for number in range(calls):
        host, *_ = await left_by(number, raise_it, stop_it)
        await whole_or_nothing(host, nothing, whole, f"after a stop killed at call {number}")


async def attach_it(daemon: Running) -> None:
    await daemon.services.ports.attach(ROOT, "lab", {**VETH, "filter": "no-mac-spoofing", "mac": "52:54:00:00:00:07"})


async def raise_and_attach(daemon: Running) -> None:
    await raised(daemon)
    await attach_it(daemon)


async def detach_it(daemon: Running) -> None:
    await daemon.services.ports.detach(ROOT, daemon.services.ports.list()[0].uuid)


@pytest.mark.parametrize("act", [attach_it, detach_it])
@hastily
async def test_whenever_a_daemon_dies_with_a_port_half_made_the_next_has_it_whole_or_not_at_all(act: Any) -> None:
    begin = raised if act is attach_it else raise_and_attach
    _, _, calls = await left_by(None, begin, act)
    assert calls > 2
    for number in range(calls):
        host, *_ = await left_by(number, begin, act)
        async with running(host) as daemon:
            await eventually(lambda: consistent(host, daemon), f"killed at call {number}", deadline=5)  # noqa: B023
            ports = daemon.services.ports.list()
            for port in ports:
                await daemon.services.ports.detach(ROOT, port.uuid)
            assert host.devices() == {"eth0", "virbr0"}
            assert not host.files.files.get("run/ports")
            assert not [key for key, members in host.ruleset().items() if key.startswith("set bridge") and members]


def consistent(host: MemoryHost, daemon: Running) -> bool:
    """Whether devices, records and ports are the same."""
    devices = host.devices() - {"eth0", "virbr0"}
    return devices == {port.device for port in daemon.services.ports.list()} and len(devices) == len(
        host.files.files.get("run/ports", {})
    )
