"""Until what was changed on a host in memory is put right, and all is quiet."""

import asyncio
from typing import Any

from support.memory_daemon import Running, raised
from support.memory_host import difference
from support.waiting import eventually


async def settled(daemon: Running, name: str = "lab", net: int = 77, **fields: Any) -> str:
    """A network that runs and is not looked at any more, and its UUID."""
    uuid = await raised(daemon, name, net, **fields)
    await quiet(daemon)
    return str(uuid)


async def quiet(daemon: Running) -> None:
    """Return when all that was touched has been looked at and no look causes another."""
    await asyncio.sleep(1)


async def heals(daemon: Running, before: dict[str, object]) -> None:
    """Until the host is again as it was."""
    await eventually(lambda: not difference(before, daemon.host.state()), "all is as it was", deadline=4)
    await quiet(daemon)
