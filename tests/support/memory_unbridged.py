"""Networks without a bridge and ports of each kind in them, on a host in memory."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from support.memory_daemon import ROOT, Running
from support.memory_host import MemoryHost, host_with_uplink

from vnetd.model.functions import VfState
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.functions import Function
from vnetd.service.views import Attached, Caller

USER = Caller(1000, name=":1.7", administrator=False)
MAC = "52:54:00:00:77:01"
NETWORKS: dict[str, dict[str, Any]] = {
    "bridge": {"mode": "macvtap", "macvtap_mode": "bridge", "devices": {"interfaces": ["eth1", "eth2"]}},
    "passthrough": {"mode": "macvtap", "macvtap_mode": "passthrough", "devices": {"interfaces": ["eth1", "eth2"]}},
    "hostdev": {"mode": "hostdev", "devices": {"pf": "eth1", "managed": True}},
    "user": {"mode": "user"},
}
KINDS = {
    "macvtap": ("bridge", {"kind": "macvtap", "owner": 107, "group": 36}),
    "macvtap-fd": ("bridge", {"queues": 2}),
    "passthrough": ("passthrough", {"kind": "macvtap"}),
    "filtered": ("bridge", {"queues": 2, "filter": "vnetd-guest"}),
    "hostdev": ("hostdev", {"kind": "hostdev", "spoof_check": False, "trust": True}),
    "passt": ("user", {"kind": "passt", "forwards": ["tcp:8022:22"]}),
}


def host() -> MemoryHost:
    """A host with two more cards, the first of which has two virtual functions."""
    made = host_with_uplink()
    made.rules.features = BridgeFeatures(unhooked="")
    for number in (1, 2):
        made.links.create(f"eth{number}", "", f"00:1b:21:00:00:0{number}", 9000)
    made.cards.cards["eth1"] = tuple(Function(f"0000:03:10.{n}", "eth1", n) for n in range(2))
    made.links.cards["eth1"] = {n: VfState(vlan=7, spoof_check=True, trust=False, link_state="auto") for n in range(2)}
    return made


async def raised(daemon: Running, mode: str, name: str = "lab", **fields: Any) -> UUID:
    """A network of this mode that runs."""
    document = json.dumps({"name": name, **NETWORKS[mode], **fields})
    network = await daemon.services.networks.define(ROOT, document, {})
    await daemon.services.networks.start(ROOT, network.uuid)
    return network.uuid


async def plug(daemon: Running, kind: str, network: str = "lab", caller: Caller = ROOT, **spec: Any) -> Attached:
    """A port of this kind."""
    ports, wanted = daemon.services.ports, {**KINDS[kind][1], **spec}
    if "kind" not in KINDS[kind][1]:
        return await ports.open_tap(caller, network, wanted)
    return await ports.attach(caller, network, wanted)


def lower_of(daemon: Running, device: str) -> str:
    """What a macvtap lies on."""
    link = daemon.host.link(device)
    assert link is not None
    return daemon.host.links.entries[link.lower].link.name


def mac_of(host: MemoryHost, device: str) -> str:
    """A device's MAC address."""
    link = host.link(device)
    assert link is not None
    return link.mac


def lasting(left: Mapping[str, Any]) -> dict[str, Any]:
    """Without the lower devices' having been raised, which stays."""
    return {key: value for key, value in left.items() if not key.startswith("link eth")}
