"""A daemon without a front end on a host in memory, and the network most tests start from."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from support.memory_calls import nothing
from support.memory_host import MemoryHost
from support.waiting import eventually

from vnetd.reconcile.desired import Surroundings
from vnetd.service.services import ServiceRoot
from vnetd.service.views import Caller, NetworkView, Notice

ROOT = Caller(0, name=":1.1", administrator=True)
RUN, STATE = Path("/run/vnetd"), Path("/var/lib/vnetd")


class Running:
    """A daemon without a front end, and what it told."""

    def __init__(self, host: MemoryHost) -> None:
        self.host = host
        self.services = ServiceRoot(host, Surroundings(STATE, RUN))
        self.notices: list[Notice] = []
        self.services.subscribe(self.notices.append)

    def told(self, kind: type) -> list[Any]:
        """Notices of a kind."""
        return [notice for notice in self.notices if isinstance(notice, kind)]

    async def looked(self) -> None:
        """Return when everything that was touched has been looked at."""
        healer = self.services._loop.healer
        await eventually(lambda: not healer._timers and not healer._looks, "all looks are done")


@asynccontextmanager
async def running(host: MemoryHost) -> AsyncIterator[Running]:
    """A daemon on this host for as long as the block lasts; what it made stays."""
    daemon = Running(host)
    try:
        await daemon.services.start()
        yield daemon
    finally:
        host.deafen()
        await daemon.services.close()
        host.before = nothing


def lab(name: str = "lab", net: int = 77, **fields: Any) -> str:
    """A NAT network of both families with all that takes a step of its own."""
    addresses = [
        {
            "address": f"192.168.{net}.1/24",
            "dhcp": {"ranges": [{"start": f"192.168.{net}.10", "end": f"192.168.{net}.99"}]},
        },
        {"address": f"fd{net}::1/64"},
    ]
    routes = [{"destination": f"10.{net}.0.0/16", "gateway": f"192.168.{net}.2"}]
    return json.dumps({"name": name, "mode": "nat", "addresses": addresses, "routes": routes, **fields})


async def defined(daemon: Running, document: str = "") -> NetworkView:
    """A network that is defined and not started."""
    return await daemon.services.networks.define(ROOT, document or lab(), {})


async def raised(daemon: Running, name: str = "lab", net: int = 77, **fields: Any) -> UUID:
    """A network that runs, as ``lab`` makes it."""
    network = await defined(daemon, lab(name, net, **fields))
    await daemon.services.networks.start(ROOT, network.uuid)
    return network.uuid


def view(daemon: Running, name: str = "lab") -> NetworkView:
    """A network as callers see it."""
    return daemon.services.networks.get(name)
