"""vnetd's own share of the host's boot: from exec until all networks that start with the host are up."""

import asyncio
import shutil

from support.client import NETWORK, PROPERTIES, variant
from support.netns import Lab

from bench.figures import Figure, milliseconds, native
from bench.vnetd_peer import Running, running

AUTOSTARTED = 50
BOOTS = 5


async def boot_figure(lab: Lab) -> Figure:
    """READY=1 is said when autostart is done, so that is how long ``After=vnetd.service`` waits."""
    async with running(lab) as run:
        networks = [await run.client.define_network(native(f"auto{i}", i)) for i in range(AUTOSTARTED)]
        for network in networks:
            await run.client.call(network, PROPERTIES, "Set", "ssv", NETWORK, "Autostart", variant(True))
        took = [await _boot(run, networks) for _ in range(BOOTS)]
    what = f"ready after exec, {AUTOSTARTED} networks to start"
    return milliseconds(what, took, 2000, f"median of {BOOTS}, nothing there as after a boot")


async def _boot(run: Running, networks: list[str]) -> float:
    """Seconds of a start that finds definitions, but nothing in the kernel and nothing on record of what ran."""
    run.daemon.stop()
    shutil.rmtree(run.daemon.root / "run/vnetd")
    await asyncio.to_thread(run.daemon.start)
    states = [await run.client.get(network, NETWORK, "State") for network in networks]
    if set(states) != {"active"}:
        raise RuntimeError(f"not all networks are up when the daemon says it is ready: {states}")
    await asyncio.gather(*(run.client.stop(network) for network in networks))
    return run.daemon.ready_after
