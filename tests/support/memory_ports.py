"""Ports of each kind in a bridge, on a host in memory."""

from typing import Any

from support.memory_daemon import ROOT, Running

from vnetd.service.views import Attached

FILTER = {"filter": "no-mac-spoofing"}
KINDS: dict[str, dict[str, Any]] = {
    "veth": {"kind": "veth", "netns": "guest", **FILTER},
    "tap": {"kind": "tap", "owner": 107, "group": 36, **FILTER},
    "existing": {"kind": "existing", "device": "tap7", **FILTER},
    "tap-fd": {"queues": 2, **FILTER},
}


async def plug(daemon: Running, kind: str, network: str = "lab", **spec: Any) -> Attached:
    """A port of this kind; the existing device is made first."""
    if kind == "existing" and daemon.host.link("tap7") is None:
        daemon.host.links.create("tap7", "tun", "52:54:00:00:00:07")
    ports = daemon.services.ports
    if kind == "tap-fd":
        return await ports.open_tap(ROOT, network, {**KINDS[kind], **spec})
    return await ports.attach(ROOT, network, {**KINDS[kind], **spec})
