"""vnetd, doing the job libvirt does beside it: from call to reply over D-Bus, dnsmasq included."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2.iproute.linux import IPRoute
from support.client import BINDING, MANAGER, ROOT, Client
from support.daemon import Daemon
from support.netns import Lab, Namespace
from support.private_bus import private_bus

from bench.job import ADDRESS, DEVICE, FILTER, MAC, NETWORK, Job, Measured
from bench.process import resident

PIPELINE = 50
"""Calls under way at once where answers are not awaited one by one."""
SETTLED = 0.03
"""Seconds after which the kernel has freed what vnetd has deleted: longer its own deletions would take meanwhile."""


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon with a client."""

    host: Namespace
    daemon: Daemon
    client: Client

    @property
    def daemon_bus(self) -> str:
        """Address of the bus the daemon is on."""
        return self.daemon.bus


@asynccontextmanager
async def running(lab: Lab, environment: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """A daemon in a fresh namespace on a bus of its own, with nothing defined."""
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vnetd-bench-")))
        root.chmod(0o755)
        stack.enter_context(in_memory(root / "run"))
        bus = stack.enter_context(private_bus())
        host = lab.namespace("vnetd")
        # Not at level debug: what a user runs is what is measured.
        daemon = stack.enter_context(Daemon(host, bus.address, root, environment=environment, log_level="info"))
        client = await stack.enter_async_context(Client(bus.address))
        yield Running(host, daemon, client)


@contextmanager
def in_memory(directory: Path) -> Iterator[None]:
    """A directory kept in memory, as /run is on every host, and is for libvirt here."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


async def seconds(action: Awaitable[object]) -> float:
    """How long an action takes."""
    began = time.perf_counter()
    await action
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Deletions:
    """Seconds of each start and stop, and of the kernel's own deletion of such a bridge in between."""

    start: list[float]
    stop: list[float]
    kernel: list[float]


async def start_and_stop(run: Running, network: str, rounds: int) -> Deletions:
    """Start and stop the network at this path; in each round the kernel deletes a bridge of somebody else's.

    That is before the stop it is compared with: the daemon looks at the news of a foreign bridge, which is no part of
    a start.
    """
    took = Deletions([], [], [])
    for _ in range(rounds):
        took.start.append(await seconds(run.client.start(network)))
        took.kernel.append(await asyncio.to_thread(kernel_deletion, run.host))
        took.stop.append(await seconds(run.client.stop(network)))
    return took


def kernel_deletion(host: Namespace) -> float:
    """Seconds the kernel takes to delete a bridge that is up and has an address."""
    time.sleep(SETTLED)
    with host.entered(), IPRoute() as kernel:
        kernel.link("add", ifname="compare0", kind="bridge")
        index = kernel.link_lookup(ifname="compare0")[0]
        kernel.addr("add", index=index, address="198.51.100.1", prefixlen=24)
        kernel.link("set", index=index, state="up")
        began = time.perf_counter()
        kernel.link("del", index=index)
        return time.perf_counter() - began


async def bind_and_unbind(run: Running, job: Job) -> tuple[list[float], list[float]]:
    """Bind the job's filter to a tap vnetd did not make, and remove the binding."""
    run.host.run("ip", "tuntap", "add", DEVICE, "mode", "tap")
    run.host.run("ip", "link", "set", DEVICE, "address", f"fe{MAC[2:]}", "up")
    for document in job.filters:
        await run.client.define_filter(document)
    bind, unbind = [], []
    for _ in range(job.rounds):
        began = time.perf_counter()
        binding = await run.client.bind(DEVICE, FILTER, {"MAC": MAC, "IP": ADDRESS})
        bind.append(time.perf_counter() - began)
        unbind.append(await seconds(run.client.call(binding, BINDING, "Delete")))
    return bind, unbind


async def reads(run: Running, length: float, pipelined: int = 1) -> float:
    """Look a network up by its name for ``length`` seconds; calls a second, by a client in Python."""
    done = 0
    end = time.perf_counter() + length

    async def one_after_another() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await _look_up(run.client)
            done += 1

    await asyncio.gather(*(one_after_another() for _ in range(pipelined)))
    return done / length


async def _look_up(client: Client) -> Any:
    return await client.call(ROOT, MANAGER, "GetNetwork", "s", NETWORK)


async def measure(job: Job, run: Running) -> tuple[Measured, Deletions]:
    """Do the job."""
    took = await start_and_stop(run, await run.client.define_network(job.network), job.rounds)
    bind, unbind = await bind_and_unbind(run, job)
    measured = Measured(
        start=took.start,
        stop=took.stop,
        bind=bind,
        unbind=unbind,
        reads=await reads(run, job.seconds),
        resident=resident(run.daemon.pid),
    )
    return measured, took
