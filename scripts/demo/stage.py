"""Where the show takes place: a host with an uplink, a world outside, a bus, a daemon and room for guests."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.client import Client
from support.daemon import Daemon
from support.netns import Guest, Lab, Namespace
from support.outside import Outside, outside_of
from support.private_bus import private_bus


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything the steps need. ``bus`` is the address of the private bus."""

    host: Namespace
    outside: Outside
    guest: Guest
    daemon: Daemon
    client: Client
    bus: str


@asynccontextmanager
async def raised_stage() -> AsyncIterator[Stage]:
    """Set everything up; everything is gone afterwards, however the block ends."""
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vnetd-demo-")))
        root.chmod(0o755)  # dnsmasq's user must be able to pass
        lab = stack.enter_context(Lab())
        bus = stack.enter_context(private_bus())
        host = lab.namespace("host")
        outside = outside_of(lab, host)
        guest = Guest(lab.namespace("guest").name)
        daemon = stack.enter_context(Daemon(host, bus.address, root))
        client = await stack.enter_async_context(Client(bus.address))
        yield Stage(host, outside, guest, daemon, client, bus.address)
