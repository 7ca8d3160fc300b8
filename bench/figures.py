"""vnetd's own figures: those libvirt has no counterpart to, or that compare vnetd with the kernel or with itself."""

import asyncio
import itertools
import json
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from support.client import MANAGER, ROOT
from support.events import ADDRESS_GONE, LINK_GONE, ROUTE_GONE, RULE_GONE, Event, EventClock, arrival
from support.netns import Guest, Lab, Namespace, run
from support.waiting import eventually

from bench.job import BRIDGE, NETWORK, Job
from bench.process import resident, wake_ups
from bench.vnetd_peer import PIPELINE, Deletions, Running, reads, running, seconds, start_and_stop

MANY = 100
CROWD = 300
HEALED, LEASED = 900, 901
"""Numbers of subnets beyond those of the crowd."""
HEALS = 9
LEASES = 5
RESTARTS = 5
IDLE = 5.0
"""Seconds of watching an idle daemon."""
LAG_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Figure:
    """One value and what it must not exceed; ``aim`` ``None`` if nothing is asked of it."""

    what: str
    value: float
    unit: str
    aim: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the aim, if there is one, is kept."""
        return self.aim is None or self.value <= self.aim


def milliseconds(what: str, took: list[float], aim: float | None = None, note: str = "") -> Figure:
    """A median."""
    return Figure(what, median(took) * 1000, "ms", aim, note or f"median of {len(took)}")


def subnet(number: int) -> str:
    """The first three octets of a subnet nobody else has."""
    return f"10.{100 + number // 250}.{number % 250}"


def native(name: str, number: int, **more: Any) -> str:
    """A NAT network with DHCP as native JSON, on a subnet of its own."""
    prefix = subnet(number)
    ranges = [{"start": f"{prefix}.10", "end": f"{prefix}.99"}]
    addresses = [{"address": f"{prefix}.1/24", "dhcp": {"ranges": ranges}}]
    return json.dumps({"name": name, "mode": "nat", "addresses": addresses} | more)


def against_the_kernel(took: Deletions) -> list[Figure]:
    """Start and stop, the latter compared with what the kernel itself needs."""
    kernel = median(took.kernel)
    return [
        milliseconds("start a NAT network with DHCP", took.start, 10),
        milliseconds("stop it", took.stop, 1300 * kernel, f"1.3 x the kernel's own {kernel * 1000:.1f} ms"),
    ]


async def own_figures(job: Job, running_now: Running, lab: Lab) -> list[Figure]:
    """Everything but start, stop, bind and unbind, in the daemon that was already measured for these."""
    figures = [
        Figure("read calls, one after another", await reads(running_now, job.seconds), "1/s"),
        Figure(f"read calls, {PIPELINE} under way", await reads(running_now, job.seconds, PIPELINE), "1/s"),
    ]
    figures += await _heals(running_now)
    figures.append(await _first_lease(running_now, lab))
    figures.append(await _wake_ups(running_now))
    figures += await _many(running_now)
    figures.append(await _start_in_a_crowd(job, running_now))
    figures.append(await _ready(running_now))
    return figures


async def _heals(run_: Running) -> list[Figure]:
    """From the event that reports the damage to the signal that says that all is repaired and verified."""
    bridge = "virbr40"
    prefix = subnet(HEALED)
    route = {"destination": "192.168.199.0/24", "gateway": f"{prefix}.9"}
    network = await run_.client.define_network(native("healed", HEALED, routes=[route], bridge={"name": bridge}))
    shell, rounds = run_.host, itertools.count()
    damages: dict[str, tuple[Event, Callable[[], object]]] = {
        "address": (ADDRESS_GONE, lambda: shell.run("ip", "address", "del", f"{prefix}.1/24", "dev", bridge)),
        "route": (ROUTE_GONE, lambda: shell.run("ip", "route", "del", "192.168.199.0/24", "dev", bridge)),
        "rule": (RULE_GONE, lambda: _delete_a_rule(shell, next(rounds))),
        "bridge": (LINK_GONE, lambda: shell.run("ip", "link", "del", bridge)),
    }
    figures = []
    for what, (event, damage) in damages.items():
        if what == "rule" and await _owned(run_, network):
            figures.append(Figure("heal a deleted rule", 0, "ms", 20, "nobody else can: vnetd owns its tables"))
            continue
        took = [await _heal(run_, network, event, damage) for _ in range(HEALS)]
        figures.append(milliseconds(f"heal a deleted {what}", took, 20, f"kernel event to signal, median of {HEALS}"))
    return figures


async def _heal(run_: Running, network: str, event: Event, damage: Callable[[], object]) -> float:
    """One repair, of a network started just for it: a daemon that repairs the same again and again suspects a fight."""
    await run_.client.start(network)
    await run_.client.call(ROOT, MANAGER, "Reconcile")  # nothing of the start is left to be looked at
    healed = await run_.client.listen("Healed", network)
    with EventClock(run_.host, event) as clock:
        gone, (repaired, _) = await asyncio.gather(clock.heard(damage), arrival(healed))
        took: float = repaired - gone
    await run_.client.stop(network)
    return took


async def _owned(run_: Running, network: str) -> bool:
    """Whether nobody else can change the daemon's tables."""
    await run_.client.start(network)
    tables = [entry["table"] for entry in run_.host.nft("tables") if "table" in entry]
    await run_.client.stop(network)
    return any("owner" in table.get("flags", ()) for table in tables if table["name"] == "vnetd")


def _delete_a_rule(host: Namespace, number: int) -> None:
    """The last rule of another chain each time: chains outlive their network, and what is repaired too often waits."""
    rules = [entry["rule"] for entry in host.nft("table", "inet", "vnetd") if "rule" in entry]
    last = list({rule["chain"]: rule for rule in rules}.values())
    rule = last[number % len(last)]
    host.run("nft", "delete", "rule", "inet", "vnetd", rule["chain"], "handle", str(rule["handle"]))


async def _first_lease(run_: Running, lab: Lab) -> Figure:
    """udhcpc from exec to exit, each time a client the server has never seen."""
    network = await run_.client.define_network(native("leases", LEASED, bridge={"name": "virbr41"}))
    await run_.client.start(network)
    took = []
    for number in range(LEASES):
        guest = Guest(lab.namespace(f"guest{number}").name)
        await run_.client.attach("leases", {"kind": "veth", "netns": guest.name})
        took.append(await seconds(asyncio.to_thread(guest.lease)))
    await run_.client.stop(network)
    return milliseconds("a client's first DHCP lease", took, 1000)


async def _wake_ups(run_: Running) -> Figure:
    """Of all the daemon's threads while it looks after a network and nothing happens."""
    network = str(await run_.client.call(ROOT, MANAGER, "GetNetwork", "s", NETWORK))
    await run_.client.start(network)
    await asyncio.sleep(2)  # what the last calls left to be done is done
    before = wake_ups(run_.daemon.pid)
    await asyncio.sleep(IDLE)
    idle = wake_ups(run_.daemon.pid) - before
    await run_.client.stop(network)
    return Figure("wake-ups when idle", idle / IDLE, "1/s", 1, f"all threads, in {IDLE:.0f} s")


async def _defined(run_: Running, first: int, last: int) -> list[str]:
    return [await run_.client.define_network(native(f"many{i}", i)) for i in range(first, last)]


async def _many(run_: Running) -> list[Figure]:
    """A hundred networks at once."""
    networks = await _defined(run_, 0, MANY)
    began = time.perf_counter()
    for network in networks:
        await run_.client.start(network)
    started = time.perf_counter() - began
    memory = resident(run_.daemon.pid)
    stopped = await seconds(asyncio.gather(*(run_.client.stop(network) for network in networks)))
    return [
        Figure(f"start {MANY} networks, one after another", started, "s"),
        Figure(f"resident with {MANY} networks", memory / 1e6, "MB", 60),
        Figure(f"stop {MANY} networks together", stopped, "s", 2.5),
    ]


async def _start_in_a_crowd(job: Job, run_: Running) -> Figure:
    """What a start costs beside many others, compared with one alone, both measured now."""
    ours = str(await run_.client.call(ROOT, MANAGER, "GetNetwork", "s", NETWORK))
    alone = await start_and_stop(run_, ours, job.rounds // 2)
    networks = await _defined(run_, MANY, MANY + CROWD)
    for network in networks:
        await run_.client.start(network)
    crowded = await start_and_stop(run_, ours, job.rounds // 2)
    await asyncio.gather(*(run_.client.stop(network) for network in networks))
    ratio = median(crowded.start) / median(alone.start)
    note = f"{median(crowded.start) * 1000:.1f} ms beside {CROWD}, {median(alone.start) * 1000:.1f} ms alone"
    return Figure(f"start beside {CROWD} networks / alone", ratio, "x", 1.25, note)


async def _ready(run_: Running) -> Figure:
    """From exec to READY=1, with everything defined that was measured above."""
    took = []
    for _ in range(RESTARTS):
        run_.daemon.stop()
        await asyncio.to_thread(run_.daemon.start)
        took.append(run_.daemon.ready_after)
    return milliseconds("ready after exec", took, 1000, f"median of {RESTARTS}, {MANY + CROWD} networks defined")


_BLOCKED = re.compile(r"event loop blocked for at most ([0-9.]+) ms")


async def loop_lag(job: Job, lab: Lab) -> Figure:
    """The longest time the event loop was blocked while networks start, stop and are healed, by its own probe."""
    async with running(lab, {"VNETD_LAG_PROBE": "1"}) as run_:
        network = await run_.client.define_network(job.network)
        await run_.client.start(network)
        await run_.client.stop(network)
        await _reported(run_, 1)  # what came before, start-up above all, is not asked for
        reading = asyncio.ensure_future(reads(run_, job.seconds + 1))
        for _ in range(LAG_ROUNDS):
            await run_.client.start(network)
            await asyncio.to_thread(run, *run_.host.argv("ip", "address", "flush", "dev", BRIDGE))
            await run_.client.stop(network)
        await reading
        worst = await _reported(run_, 2)
    return Figure("event loop blocked at most", worst, "ms", 5, f"{LAG_ROUNDS} starts and stops under reads")


async def _reported(run_: Running, times: int) -> float:
    """The worst lag since the last report, in milliseconds."""
    run_.daemon.send(signal.SIGUSR1)
    await eventually(lambda: len(_BLOCKED.findall(run_.daemon.log.read_text())) >= times, "the probe reports")
    return float(_BLOCKED.findall(run_.daemon.log.read_text())[-1])
