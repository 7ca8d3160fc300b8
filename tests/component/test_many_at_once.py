"""Many callers at once, in any order the host's pace allows: in the end all is consistent, nothing half-made."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from uuid import UUID, uuid4

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call
from support.memory_daemon import ROOT, Running, defined, lab, running, view
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Busy, Exists, HostError, InUse, NotFound, VnetError

SEEDS = range(6)


def uneven(seed: int, failing: float = 0.0) -> Callable[[Call], Awaitable[None]]:
    """A host whose calls take longer or shorter, by chance; some of those that change something may fail."""
    chance = random.Random(seed)

    async def wait(call: Call) -> None:
        await asyncio.sleep(chance.choice((0, 0, 0.001, 0.005)))
        if call.changes and chance.random() < failing:
            raise HostError(call.verb, call.words, 5)

    return wait


async def all_of(calls: Iterable[Awaitable[Any]]) -> list[BaseException | Any]:
    """Results and errors; an error nobody may see fails the test."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, VnetError):
            raise result
    return results


def done(results: list[BaseException | Any]) -> int:
    """How many succeeded."""
    return sum(not isinstance(result, BaseException) for result in results)


async def settled(daemon: Running) -> None:
    """What is listed is what is there: links, processes, records and rules; and looking again changes nothing."""
    await asyncio.sleep(30)
    host, networks = daemon.host, daemon.services.networks.list()
    active = [network for network in networks if network.active]
    ports = daemon.services.ports.list()
    assert {network.state for network in networks} <= {"active", "inactive", "failed"}
    assert host.devices() == {"eth0"} | {network.bridge for network in active} | {port.device for port in ports}
    assert set(host.processes.running) == {str(network.uuid) for network in active}
    assert set(host.files.files.get("run/networks", {})) == {str(network.uuid) for network in active}
    assert set(host.files.files.get("etc/networks", {})) == {one.name for one in networks if one.persistent}
    assert set(host.files.files.get("run/ports", {})) == {str(port.uuid) for port in ports}
    assert {port for network in networks for port in network.ports} == {port.uuid for port in ports}
    assert bool(host.ruleset()) == bool(active or ports or daemon.services.filters.bindings())
    before, seen = host.state(), len(host.calls)
    await daemon.services.reconcile(ROOT)
    assert [call for call in host.calls[seen:] if call.changes] == []
    assert not difference(before, host.state())


async def emptied(daemon: Running, before: dict[str, object]) -> None:
    """Everything can be stopped, and then the host is as it was."""
    daemon.host.before = uneven(0)
    await all_of(daemon.services.networks.stop(ROOT, one.uuid) for one in daemon.services.networks.list() if one.active)
    await asyncio.sleep(1)
    links = {key: value for key, value in difference(before, daemon.host.state()).items() if "document" not in key}
    assert not links


async def some(daemon: Running, count: int = 20) -> list[UUID]:
    """Networks that are defined."""
    return [(await defined(daemon, lab(f"n{number}", number + 1))).uuid for number in range(count)]


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_twenty_networks_start_and_stop_at_once(seed: int) -> None:
    async with running(host_with_uplink()) as daemon:
        networks, uuids = daemon.services.networks, await some(daemon)
        before = daemon.host.state()
        daemon.host.before = uneven(seed)
        assert done(await all_of(networks.start(ROOT, uuid) for uuid in uuids)) == 20
        await settled(daemon)
        assert done(await all_of(networks.stop(ROOT, uuid) for uuid in uuids)) == 20
        assert not difference(before, daemon.host.state())


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_of_twenty_starts_and_stops_of_one_network_as_many_succeed_as_can(seed: int) -> None:
    async with running(host_with_uplink()) as daemon:
        networks, uuid = daemon.services.networks, (await defined(daemon)).uuid
        daemon.host.before = uneven(seed)
        results = await all_of([networks.start(ROOT, uuid) for _ in range(20)])
        assert done(results) == 1
        assert {type(result) for result in results} == {type(None), Busy}
        results = await all_of([networks.stop(ROOT, uuid) for _ in range(20)])
        assert done(results) == 1
        mixed = [call(ROOT, uuid) for _ in range(10) for call in (networks.start, networks.stop)]
        assert done(await all_of(mixed)) % 2 == view(daemon).active
        await settled(daemon)


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_of_twenty_networks_with_one_subnet_exactly_one_starts(seed: int) -> None:
    async with running(host_with_uplink()) as daemon:
        networks = daemon.services.networks
        uuids = [(await defined(daemon, lab(f"n{number}"))).uuid for number in range(20)]
        daemon.host.before = uneven(seed)
        results = await all_of(networks.start(ROOT, uuid) for uuid in uuids)
        assert done(results) == 1
        assert {type(result) for result in results} == {type(None), InUse}
        await settled(daemon)
        results = await all_of(networks.create(ROOT, lab(f"m{number}", 99), {}) for number in range(20))
        assert done(results) == 1
        await settled(daemon)


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_of_twenty_definitions_of_one_name_one_makes_it_and_bridges_get_names_of_their_own(seed: int) -> None:
    async with running(host_with_uplink()) as daemon:
        networks = daemon.services.networks
        daemon.host.before = uneven(seed)
        results = await all_of(networks.define(ROOT, lab(), {}) for _ in range(20))
        assert done(results) == 1
        assert {type(result) for result in results if isinstance(result, BaseException)} == {Exists}
        results = await all_of(networks.define(ROOT, lab(f"n{number}", number + 1), {}) for number in range(20))
        assert done(results) == 20
        assert len({one.bridge for one in networks.list()}) == 21
        await settled(daemon)


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_a_network_removed_while_others_use_it_is_gone_for_all_of_them(seed: int) -> None:
    async with running(host_with_uplink()) as daemon:
        networks, document = daemon.services.networks, lab(uuid=str(uuid4()))
        before = daemon.host.state()
        for _ in range(5):
            uuid = (await networks.define(ROOT, document, {})).uuid
            daemon.host.before = uneven(seed)
            results = await all_of(
                [
                    networks.undefine(ROOT, uuid),
                    networks.start(ROOT, uuid),
                    networks.set_autostart(ROOT, uuid, True),
                    networks.define(ROOT, document, {}),
                    networks.stop(ROOT, uuid),
                    networks.undefine(ROOT, uuid),
                    networks.create(ROOT, document, {}),
                ]
            )
            errors = {type(result) for result in results if isinstance(result, BaseException)}
            assert errors <= {Busy, NotFound, InUse, Exists}
            await settled(daemon)
            for one in networks.list():
                if one.active:
                    await networks.stop(ROOT, one.uuid)
            for one in networks.list():
                await networks.undefine(ROOT, one.uuid)
            assert not difference(before, daemon.host.state())


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_guests_come_and_go_while_their_network_does(seed: int) -> None:
    async with running(host_with_uplink()) as daemon:
        services, uuid = daemon.services, (await defined(daemon)).uuid
        before = daemon.host.state()
        await services.networks.start(ROOT, uuid)
        daemon.host.before = uneven(seed)
        spec = {"kind": "veth", "netns": "guest", "filter": "no-mac-spoofing"}

        async def visit() -> None:
            port = (await services.ports.attach(ROOT, "lab", spec)).port
            await all_of(
                [
                    services.ports.set_filter(ROOT, port.uuid, "", {}),
                    services.ports.detach(ROOT, port.uuid),
                    services.ports.set_filter(ROOT, port.uuid, "no-mac-spoofing", {}),
                ]
            )

        results = await all_of(
            [*[visit() for _ in range(10)], services.networks.stop(ROOT, uuid), *[visit() for _ in range(10)]]
        )
        assert {type(result) for result in results} <= {type(None), Busy, NotFound}
        assert services.ports.list() == ()
        await settled(daemon)
        assert not difference(before, daemon.host.state())


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_of_twenty_guests_that_want_one_device_name_one_gets_it(seed: int) -> None:
    async with running(host_with_uplink()) as daemon:
        await daemon.services.networks.start(ROOT, (await defined(daemon)).uuid)
        daemon.host.before = uneven(seed)
        attach = daemon.services.ports.attach
        assert done(await all_of(attach(ROOT, "lab", {"kind": "tap", "device": "web"}) for _ in range(20))) == 1
        assert done(await all_of(attach(ROOT, "lab", {"kind": "tap"}) for _ in range(20))) == 20
        daemon.host.links.create("tap7", "tun")
        existing = {"kind": "existing", "device": "tap7"}
        assert done(await all_of(attach(ROOT, "lab", existing) for _ in range(20))) == 1
        bind = daemon.services.filters.bind
        mac = {"MAC": ["52:54:00:00:00:07"]}
        assert done(await all_of(bind(ROOT, "tap8", "no-mac-spoofing", mac) for _ in range(20))) == 1
        bridge = daemon.host.link("virbr0")
        assert bridge is not None
        for port in daemon.services.ports.list():
            link = daemon.host.link(port.device)
            assert link is not None and link.master == bridge.index


async def life(daemon: Running, chance: random.Random, number: int, uuid: UUID) -> None:
    """What may happen to a network; ends with the first thing that goes wrong."""
    networks, ports = daemon.services.networks, daemon.services.ports
    for _ in range(6):
        match chance.choice(("start", "stop", "redefine", "attach", "detach")):
            case "start":
                await networks.start(ROOT, uuid)
            case "stop":
                await networks.stop(ROOT, uuid)
            case "redefine":
                fields = {"uuid": str(uuid), "mtu": chance.choice((1400, 1500))}
                await networks.define(ROOT, lab(f"n{number}", number + 1, **fields), {})
            case "attach":
                await ports.attach(ROOT, f"n{number}", {"kind": "veth", "netns": "guest"})
            case "detach":
                await all_of(ports.detach(ROOT, port) for port in networks.get(str(uuid)).ports)


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_a_host_that_fails_now_and_then_never_ends_up_half_made(seed: int) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        services, uuids = daemon.services, await some(daemon, 8)
        before = host.state()
        daemon.host.before = uneven(seed, failing=0.04)
        for _ in range(4):
            await all_of([life(daemon, random.Random(seed + at), at, uuid) for at, uuid in enumerate(uuids)])
        daemon.host.before = uneven(seed)
        await asyncio.sleep(120)  # what failed is tried again
        for one in services.networks.list():
            if one.state == "failed" and one.active:
                await services.networks.stop(ROOT, one.uuid)
    async with running(host) as daemon:  # what could not be undone either was left on record
        await eventually(lambda: consistent(host, daemon), "ports that were half made are gone", deadline=5)
        await settled(daemon)
        await emptied(daemon, before)


@pytest.mark.parametrize("seed", SEEDS)
@hastily
async def test_a_restart_in_the_middle_of_much_work_ends_in_a_consistent_host(seed: int) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuids = await some(daemon, 10)
        before = host.state()
        await all_of(daemon.services.networks.start(ROOT, uuid) for uuid in uuids[:5])
        dead = asyncio.Event()

        async def until_dead(call: Call) -> None:
            await uneven(seed)(call)
            if dead.is_set():
                raise HostError("act", "on anything", "the daemon was killed")

        host.before = until_dead
        asyncio.get_running_loop().call_later(random.Random(seed).uniform(0.001, 0.06), dead.set)
        veth = {"kind": "veth", "netns": "guest"}
        await all_of(
            [
                *[daemon.services.networks.stop(ROOT, uuid) for uuid in uuids[:3]],
                *[daemon.services.networks.start(ROOT, uuid) for uuid in uuids[5:]],
                *[daemon.services.ports.attach(ROOT, name, veth) for name in ("n3", "n4") for _ in range(5)],
            ]
        )
    async with running(host) as daemon:
        await eventually(lambda: consistent(host, daemon), "ports that were half made are gone", deadline=5)
        await settled(daemon)
        await emptied(daemon, before)


def consistent(host: MemoryHost, daemon: Running) -> bool:
    """Whether every port has a device and a record."""
    records = host.files.files.get("run/ports", {})
    devices = {json.loads(text)["device"] for text in records.values()}
    return devices == {port.device for port in daemon.services.ports.list()} <= host.devices()
