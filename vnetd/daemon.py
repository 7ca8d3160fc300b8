"""The composition root: joins the real host, the services and the bus, and lives until it is told to end.

A signal ends the daemon, never the networks: bridges, rules and dnsmasq stay, and the next run takes them over.
"""

import argparse
import asyncio
import ctypes
import gc
import logging
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from vnetd import __version__, notify
from vnetd.bus.server import BusServer
from vnetd.linux.host import LinuxHost
from vnetd.linux.threads import SWITCH_INTERVAL
from vnetd.model.errors import VnetError
from vnetd.probe import LagProbe
from vnetd.reconcile.desired import Surroundings
from vnetd.service.services import ServiceRoot

log = logging.getLogger("vnetd")

M_ARENA_MAX = -8
FULL_PASS = 300.0
"""Seconds between passes over everything, in case an event was lost."""


def main(arguments: list[str] | None = None) -> int:
    """Entry point: the exit status is 0 after a signal, 1 if the daemon could not start or lost its bus."""
    options = _parser().parse_args(arguments)
    _log_to(options.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL)
    _few_arenas()
    try:
        asyncio.run(_serve(options.bus, options.root))
    except VnetError as error:
        log.critical("%s", error)
        return 1
    return 0


async def _serve(bus: str, root: Path) -> None:
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _finish, end)
    async with AsyncExitStack() as stack:
        stack.callback(LagProbe(loop).close)
        host = await LinuxHost.open(root, bus)
        stack.push_async_callback(host.close)
        around = Surroundings(host.state_directory, host.run_directory)
        services = ServiceRoot(host, around)
        stack.push_async_callback(services.close)
        await services.start()
        server = BusServer(services, bus, lost=lambda error: _fail(end, error))
        stack.push_async_callback(server.stop)
        _settle_memory()
        await server.start()
        notifier = notify.Notifier(loop)
        stack.callback(notifier.close)
        notifier.ready(f"{len(services.networks.list())} networks")
        passes = loop.create_task(_full_passes(services))
        stack.callback(passes.cancel)
        log.info("vnetd %s is ready on %s", __version__, bus)
        await end


async def _full_passes(services: ServiceRoot) -> None:
    while True:
        await asyncio.sleep(FULL_PASS)
        await services.full_pass()


def _few_arenas() -> None:
    """One heap for all threads: each thread's own would hold on to what it once needed (mallopt(3))."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _settle_memory() -> None:
    """What was made so far lives as long as the daemon: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _finish(end: "asyncio.Future[None]") -> None:
    if not end.done():
        end.set_result(None)


def _fail(end: "asyncio.Future[None]", error: Exception) -> None:
    if not end.done():
        end.set_exception(error)


def _log_to(level: str) -> None:
    """Structured fields to the journal where systemd connected the daemon's output to it, else lines to stderr."""
    handler = notify.journal_handler() or logging.StreamHandler()
    if type(handler) is logging.StreamHandler:
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vnetd", description="Keeps the virtual networks of this host as desired.")
    parser.add_argument("--bus", default="system", help="system, session, or the address of a bus")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="directory above etc/vnetd, var/lib/vnetd, run/vnetd"
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--version", action="version", version=f"vnetd {__version__}")
    return parser
