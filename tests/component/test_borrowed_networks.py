"""Networks over devices of the host's: watched and joined, never made, changed or deleted."""

import json
from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, Running, running, view
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Busy, Invalid, NotFound, Unsupported
from vnetd.plan.kernel import DeleteLink, SetLink
from vnetd.service.views import Healed

BRIDGED = {"name": "lab", "mode": "bridge", "bridge": {"name": "br0"}}


def host_with_bridge(mtu: int = 1500) -> MemoryHost:
    """A host with a bridge of its own."""
    host = host_with_uplink()
    host.links.create("br0", "bridge", "52:54:00:00:00:b0", mtu)
    host.perform(SetLink("br0", up=True))
    return host


async def started(daemon: Running, document: dict[str, Any]) -> None:
    """A network of this document, running."""
    network = await daemon.services.networks.define(ROOT, json.dumps(document), {})
    await daemon.services.networks.start(ROOT, network.uuid)


@hastily
async def test_a_network_on_a_bridge_of_the_hosts_changes_nothing_on_it() -> None:
    async with running(host_with_bridge()) as daemon:
        before = daemon.host.state()
        await started(daemon, BRIDGED)
        network = view(daemon)
        assert (network.state, network.bridge, network.mode) == ("active", "br0", "bridge")
        assert not [key for key in difference(before, daemon.host.state()) if not key.startswith("document ")]
        await daemon.services.networks.stop(ROOT, network.uuid)
        await daemon.services.networks.undefine(ROOT, network.uuid)
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_network_on_a_bridge_that_is_not_there_or_none_does_not_start() -> None:
    async with running(host_with_uplink()) as daemon:
        with pytest.raises(NotFound, match="network lab is on bridge br0, but there is no such"):
            await started(daemon, BRIDGED)
        assert view(daemon).state in {"inactive", "failed"}
        daemon.host.links.create("br0", "dummy")
        with pytest.raises(Invalid, match="br0 is no bridge"):
            await daemon.services.networks.start(ROOT, view(daemon).uuid)
        assert not view(daemon).active


@hastily
async def test_ports_join_the_bridge_with_its_mtu_their_filter_and_isolation() -> None:
    async with running(host_with_bridge(mtu=9000)) as daemon:
        await started(daemon, {**BRIDGED, "isolated_ports": True})
        spec = {"kind": "tap", "filter": "no-mac-spoofing"}
        port = (await daemon.services.ports.attach(ROOT, "lab", spec)).port
        link, bridge = daemon.host.link(port.device), daemon.host.link("br0")
        assert link and bridge
        assert (link.master, link.mtu, link.isolated, link.up) == (bridge.index, 9000, True, True)
        assert any("set bridge" in key and members for key, members in daemon.host.ruleset().items())
        await daemon.services.ports.detach(ROOT, port.uuid)
        assert daemon.host.link(port.device) is None and daemon.host.link("br0") == bridge


@hastily
async def test_while_the_bridge_is_away_the_network_is_degraded_and_its_ports_return_with_it() -> None:
    async with running(host_with_bridge()) as daemon:
        await started(daemon, BRIDGED)
        port = (await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap"})).port
        daemon.host.perform(DeleteLink("br0", ""))
        await eventually(lambda: view(daemon).state == "degraded")
        assert view(daemon).problems == ("bridge br0 is not there: its ports wait for it",)
        link = daemon.host.link(port.device)
        assert link and link.master == 0
        daemon.host.links.create("br0", "bridge")
        await eventually(lambda: view(daemon).state == "active")
        bridge = daemon.host.link("br0")

        def joined() -> bool:
            again = daemon.host.link(port.device)
            return bool(again and bridge and again.master == bridge.index)

        await eventually(joined)
        assert [one.what for one in daemon.told(Healed)] == [f"port {port.device}"]


@hastily
async def test_a_restart_of_the_daemon_takes_the_network_and_its_ports_over_and_changes_nothing() -> None:
    host = host_with_bridge()
    async with running(host) as daemon:
        await started(daemon, BRIDGED)
        port = (await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap"})).port
        before = host.state()
    async with running(host) as daemon:
        assert not difference(before, host.state())
        assert (view(daemon).state, view(daemon).ports) == ("active", (port.uuid,))
        host.perform(SetLink(port.device, master=""))
        bridge = host.link("br0")
        await eventually(lambda: bool((link := host.link(port.device)) and bridge and link.master == bridge.index))


@hastily
async def test_at_boot_a_network_waits_for_its_bridge() -> None:
    host = host_with_bridge()
    async with running(host) as daemon:
        network = await daemon.services.networks.define(ROOT, json.dumps(BRIDGED), {})
        await daemon.services.networks.set_autostart(ROOT, network.uuid, True)
    host.boot()
    async with running(host) as daemon:
        await eventually(lambda: view(daemon).state == "degraded")
        host.links.create("br0", "bridge")
        await eventually(lambda: view(daemon).state == "active")


@hastily
async def test_a_running_network_keeps_its_bridge_and_mode() -> None:
    async with running(host_with_bridge()) as daemon:
        await started(daemon, BRIDGED)
        uuid = str(view(daemon).uuid)
        daemon.host.links.create("br1", "bridge")
        other: dict[str, Any] = {**BRIDGED, "uuid": uuid, "bridge": {"name": "br1"}}
        with pytest.raises(Busy, match="stop it to change its bridge name"):
            await daemon.services.networks.define(ROOT, json.dumps(other), {})
        with pytest.raises(Busy, match="mode isolated"):
            await daemon.services.networks.define(ROOT, json.dumps({"name": "lab", "uuid": uuid}), {})
        await daemon.services.networks.define(ROOT, json.dumps({**BRIDGED, "uuid": uuid, "isolated_ports": True}), {})
        assert view(daemon).state == "active"


@hastily
async def test_a_plan_of_such_a_network_has_no_steps() -> None:
    async with running(host_with_bridge()) as daemon:
        plan = json.loads(await daemon.services.networks.plan(ROOT, json.dumps(BRIDGED), {}))
        assert (plan["steps"], plan["active"], plan["disturbs_guests"]) == ([], False, False)


@hastily
async def test_a_virtual_port_is_refused_by_name() -> None:
    async with running(host_with_bridge()) as daemon:
        document = {**BRIDGED, "virtualport": {"type": "openvswitch"}}
        network = await daemon.services.networks.define(ROOT, json.dumps(document), {})
        with pytest.raises(Unsupported, match=r"network lab: a virtual port \(<virtualport>\)"):
            await daemon.services.networks.start(ROOT, network.uuid)
        group = {"name": "g", "virtualport": {"profileid": "p"}}
        document = {**BRIDGED, "uuid": str(network.uuid), "portgroups": [group]}
        await daemon.services.networks.define(ROOT, json.dumps(document), {})
        with pytest.raises(Unsupported, match="a virtual port"):
            await daemon.services.networks.start(ROOT, network.uuid)


@hastily
async def test_the_bridge_may_be_one_of_vnetds_switches() -> None:
    async with running(host_with_uplink()) as daemon:
        switches = daemon.services.switches
        switch = await switches.define(ROOT, json.dumps({"name": "sw", "bridge": "br0"}), {})
        await switches.start(ROOT, switch.uuid, {})
        await started(daemon, BRIDGED)
        port = (await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap"})).port
        await switches.stop(ROOT, switch.uuid)
        await eventually(lambda: view(daemon).state == "degraded")
        await switches.start(ROOT, switch.uuid, {})
        await eventually(lambda: view(daemon).state == "active")

        def joined() -> bool:
            link, bridge = daemon.host.link(port.device), daemon.host.link("br0")
            return bool(link and bridge and link.master == bridge.index)

        await eventually(joined)
        await daemon.services.networks.stop(ROOT, view(daemon).uuid)
        assert daemon.host.link("br0") is not None, "it is the switch's"


@hastily
async def test_a_network_that_leaves_the_hosts_bridge_is_given_one_of_its_own() -> None:
    async with running(host_with_bridge()) as daemon:
        networks = daemon.services.networks
        network = await networks.define(ROOT, json.dumps(BRIDGED), {})
        await networks.define(ROOT, json.dumps({"name": "lab", "uuid": str(network.uuid)}), {})
        await networks.start(ROOT, network.uuid)
        assert (view(daemon).state, view(daemon).bridge) == ("active", "virbr0")
