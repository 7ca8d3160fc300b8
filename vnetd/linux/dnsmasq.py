"""The supervised dnsmasq processes, one a network: ``vnetd.host.protocols.Dnsmasq`` on the real host.

A dnsmasq runs on when the daemon ends, and is found again by ``adopt``. Its end is seen through its pidfd and
reported as ``ProcessEvent``, changes of its files as ``FileEvent``. Files and processes are dealt with on a worker
thread; waiting is done on the event loop.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from vnetd.dnsmasq.servers import nameservers
from vnetd.host.events import HostEvent, ProcessEvent
from vnetd.linux import dnsmasq_files as files
from vnetd.linux import dnsmasq_process as process
from vnetd.linux.dnsmasq_files import Paths, paths_of
from vnetd.linux.dnsmasq_launcher import Launcher, Running, failed
from vnetd.linux.dnsmasq_process import Launched
from vnetd.linux.processes import reap, send
from vnetd.linux.supervised import Supervised, ended
from vnetd.linux.threads import Worker
from vnetd.linux.watch import Watch
from vnetd.model.errors import VnetError
from vnetd.plan.dnsmasq import DnsmasqState, Instance

START_TIMEOUT = 10.0
"""Seconds dnsmasq has to serve; it takes milliseconds unless the machine is swamped."""
STOP_TIMEOUT = 2.0
"""Seconds dnsmasq has to end after SIGTERM, and again after SIGKILL."""
REFILL = 0.03
"""Seconds that leave a start the processor for itself."""
SETTLE_ATTEMPTS = 25
"""How often a lease file is read that is being written."""

T = TypeVar("T")
Args = TypeVarTuple("Args")


class DnsmasqHost:
    """dnsmasq processes below ``root``. Make it on the running event loop; ``emit`` is called there.

    One call at a time for each network, except ``observe`` and ``leases``. Call ``adopt`` once before all else.
    """

    def __init__(
        self,
        root: Path,
        emit: Callable[[HostEvent], None],
        *,
        binary: str = "dnsmasq",
        user: str = "dnsmasq",
        resolv_conf: Path = Path("/etc/resolv.conf"),
        refill: float = REFILL,
    ) -> None:
        """``refill`` are the seconds from a start to loading a dnsmasq that waits for the next one."""
        self._root = root.absolute()
        self._emit = emit
        self._resolv_conf = resolv_conf
        self._account = files.find_account(user)
        self._launcher = Launcher(self._root, binary, self._account)
        self._worker, self._reader = Worker("dnsmasq"), Worker("dnsmasq-read")
        self._running: Supervised[Running] = Supervised(self._ended_by_itself)
        self._waiting: dict[str, tuple[Instance, asyncio.Task[Launched | Running]]] = {}
        self._refill_after = refill
        self._refill: asyncio.TimerHandle | None = None
        self._watch = Watch(emit)

    async def adopt(self) -> tuple[str, ...]:
        """Look after every dnsmasq an earlier daemon left running below this root; returns their networks."""
        self._watch.watch_resolv_conf(self._resolv_conf)
        for network, running in (await self._worker.run(self._launcher.find_all)).items():
            self._supervise(self._paths(network), running)
        self._refill_soon()
        return tuple(sorted(self._running))

    async def upstream(self) -> tuple[str, ...]:
        """Addresses of the host's name servers, from its resolv.conf. A change is a ``FileEvent`` of network ""."""
        return nameservers(await self._worker.run(_read_resolv_conf, self._resolv_conf))

    def prepare(self, instance: Instance) -> None:
        """Begin to write the files and to load the program; ``start`` waits for that, and raises what it raised.

        What is prepared already stays; while one runs, which has to be ended first, there is nothing to prepare.
        """
        paths = self._paths(instance.network)
        if paths.network not in self._running and paths.network not in self._waiting:
            self._waiting[paths.network] = instance, asyncio.create_task(self._launched(paths, instance))

    async def start(self, instance: Instance) -> DnsmasqState:
        """Write the files, start dnsmasq, return what is there once it serves. Ends one that runs already first.

        Raises ``Unsupported`` if dnsmasq is not installed, ``HostError`` with dnsmasq's own words if it does not
        start; then nothing of it is left but leases that were there before. A start that is cancelled comes to
        its end first: what runs then is looked after, and ended by ``stop``.
        """
        task = asyncio.create_task(self._start(self._paths(instance.network), instance))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def observe(self, network: str) -> DnsmasqState:
        """What runs and what its files hold now.

        A process whose lease file was taken away counts as started with nothing known: it must be started anew.
        """
        paths, running = self._paths(network), self._running.get(network)
        state, found = await self._reader.run(self._launcher.read_state, paths, running, discard=_close_found)
        if found is not None:
            self._supervise(paths, found)
        return state

    async def reload(self, instance: Instance) -> None:
        """Write the files that differ and have the running process read hosts and servers again (SIGHUP)."""
        paths = self._paths(instance.network)
        running = await self._current(paths)
        if running is None:
            raise failed("reload", paths, "it does not run")
        await self._run("reload", paths, files.write, paths, instance.files, self._account)
        self._watch.watch_network(paths.network, paths.data)
        send(running.pidfd, signal.SIGHUP)

    async def stop(self, network: str, *, forget: bool) -> None:
        """End the process and remove its files but the leases; with ``forget`` those too. None is no error."""
        paths = self._paths(network)
        await self._abandon(paths)
        await self._end(paths)
        self._watch.forget_network(network)
        await self._run("stop", paths, files.remove, paths, forget)

    async def give_leases(self, network: str, text: str) -> None:
        """Make ``text`` the lease file of a network that nobody serves now. Raises ``HostError``."""
        paths = self._paths(network)
        await self._run("give leases to", paths, files.give_leases, paths, text, self._account)

    async def leases(self, network: str) -> str | None:
        """Text of the lease file once it is complete and stable; ``None`` if there is none.

        What is still being written after half a second is given as far as its lines are complete.
        """
        path = self._paths(network).leases
        text, settled = await self._worker.run(files.read_leases, path)
        for _ in range(SETTLE_ATTEMPTS):
            if text is None or settled:
                return text
            await asyncio.sleep(files.SETTLE)
            text, settled = await self._worker.run(files.read_leases, path)
        return None if text is None else text[: text.rfind("\n") + 1]

    async def close(self) -> None:
        """Let go of all processes, which run on, and stop reporting."""
        self._watch.close()
        for network in tuple(self._waiting):
            await self._abandon(self._paths(network))
        self._running.close()
        if self._refill is not None:
            self._refill.cancel()
        await self._worker.close(self._launcher.spare.drop)
        await self._reader.close()

    async def _start(self, paths: Paths, instance: Instance) -> DnsmasqState:
        """End what runs, let go what was prepared; if it does not serve, remove what was written."""
        orphaned = None
        if (running := self._running.get(paths.network)) is not None:
            orphaned = await self._worker.run(files.orphaned_leases, paths, running.live.pid)
            await self._end(paths)
        try:
            begun = await self._prepared(paths, instance, orphaned)
            if isinstance(begun, Launched):
                process.release(begun)
                return await self._come_up(paths, instance, begun)
        except BaseException:
            await self._run("start", paths, files.remove, paths)
            raise
        self._supervise(paths, begun)
        return await self._start(paths, instance)

    async def _prepared(self, paths: Paths, instance: Instance, orphaned: str | None) -> Launched | Running:
        """What ``prepare`` launched, or another one if that is not what shall run now."""
        prepared, launching = self._waiting.get(paths.network, (None, None))
        if launching is None or prepared != instance or orphaned is not None:
            await self._abandon(paths)
            return await self._launched(paths, instance, orphaned)
        del self._waiting[paths.network]
        return await launching

    async def _launched(self, paths: Paths, instance: Instance, orphaned: str | None = None) -> Launched | Running:
        self._refill_soon()
        return await self._run("start", paths, self._launcher.launch, paths, instance, orphaned, discard=_drop)

    def _refill_soon(self) -> None:
        """Have a dnsmasq wait for the next start, once this one is over."""
        if self._refill is None:
            self._refill = asyncio.get_running_loop().call_later(self._refill_after, self._refill_now)

    def _refill_now(self) -> None:
        self._refill = None
        self._worker.submit(self._launcher.spare.refill)

    async def _abandon(self, paths: Paths) -> None:
        """End one that was prepared and not started."""
        _, launching = self._waiting.pop(paths.network, (None, None))
        if launching is not None:
            with contextlib.suppress(VnetError):  # nobody is interested in why it could not be launched
                await self._worker.run(_drop, await launching)

    async def _come_up(self, paths: Paths, instance: Instance, launched: Launched) -> DnsmasqState:
        """Wait until dnsmasq serves, and read meanwhile what its files hold."""
        self._watch.watch_network(paths.network, paths.data)
        texts = await self._reader.run(files.read_rendered, paths)
        if not await ended(launched.ready, START_TIMEOUT):
            send(launched.pidfd, signal.SIGKILL)
            await ended(launched.pidfd, STOP_TIMEOUT)
        started, state = await self._run("start", paths, self._launcher.started, paths, launched, instance, texts)
        self._supervise(paths, started)
        return state

    def _paths(self, network: str) -> Paths:
        return paths_of(self._root, network)

    async def _run(
        self,
        operation: str,
        paths: Paths,
        function: Callable[[*Args], T],
        *args: *Args,
        discard: Callable[[T], object] | None = None,
    ) -> T:
        """Work on the worker thread; what the host refuses becomes a ``HostError``."""
        try:
            return await self._worker.run(function, *args, discard=discard)
        except OSError as error:
            words = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise failed(operation, paths, words) from error

    async def _current(self, paths: Paths) -> Running | None:
        """The running process, also one that was not adopted."""
        if paths.network not in self._running:
            found = await self._worker.run(self._launcher.find, paths, discard=_close_found)
            if found is not None:
                self._supervise(paths, found)
        return self._running.get(paths.network)

    def _supervise(self, paths: Paths, running: Running) -> None:
        self._running.add(paths.network, running)
        self._watch.watch_run_directory(paths.run)
        self._watch.watch_network(paths.network, paths.data)

    def _ended_by_itself(self, network: str, _: Running) -> None:
        self._emit(ProcessEvent(network))

    async def _end(self, paths: Paths) -> None:
        await self._current(paths)
        running = self._running.take(paths.network)
        if running is None:
            return
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                send(running.pidfd, number)
                if await ended(running.pidfd, STOP_TIMEOUT):
                    reap(running.pidfd)
                    return
            raise failed("stop", paths, f"process {running.live.pid} does not end")
        finally:
            os.close(running.pidfd)


def _read_resolv_conf(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # none, or a link whose service does not run: no upstream servers
        return ""


def _drop(begun: Launched | Running) -> None:
    """What was begun is not wanted any more; what ran before goes on."""
    if isinstance(begun, Launched):
        process.abandon(begun)
    else:
        os.close(begun.pidfd)


def _close_found(result: Running | tuple[DnsmasqState, Running | None] | None) -> None:
    """Close the pidfd of what was found for a caller that was cancelled."""
    running = result[1] if isinstance(result, tuple) else result
    if running is not None:
        os.close(running.pidfd)
