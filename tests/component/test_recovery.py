"""What a daemon makes of what the one before it left, however that one ended."""

import json
from ipaddress import ip_interface
from uuid import uuid4

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call
from support.memory_daemon import ROOT, defined, lab, raised, running, view
from support.memory_host import changes, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import HostError, NotFound
from vnetd.plan.dnsmasq import Instance
from vnetd.plan.kernel import AddAddress, CreateBridge, DeleteAddress, DeleteLink, SetLink
from vnetd.service.views import Healed

VETH = {"kind": "veth", "netns": "guest"}


@hastily
async def test_a_restart_changes_nothing_on_the_host() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        await daemon.services.ports.attach(ROOT, "lab", {**VETH, "filter": "no-mac-spoofing"})
        await daemon.services.filters.bind(ROOT, "tap7", "no-mac-spoofing", {"MAC": ["52:54:00:00:00:07"]})
        views = daemon.services.networks.list(), daemon.services.ports.list(), daemon.services.filters.bindings()
    before, seen = host.state(), len(host.calls)
    async with running(host) as daemon:
        assert changes(host, seen) == []
        assert not difference(before, host.state())
        assert views == (
            daemon.services.networks.list(),
            daemon.services.ports.list(),
            daemon.services.filters.bindings(),
        )
        assert not daemon.told(Healed)


@hastily
async def test_what_drifted_while_no_daemon_ran_is_repaired() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = str(await raised(daemon))
    before = host.state()
    host.perform(DeleteAddress("virbr0", ip_interface("192.168.77.1/24")))
    host.rules.flush_ruleset()
    del host.processes.running[uuid]
    async with running(host) as daemon:
        assert not difference(before, host.state())
        assert view(daemon).state == "active"


@hastily
async def test_networks_that_boot_are_started_once_a_boot() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        boots, other = await defined(daemon), await defined(daemon, lab("other", 78))
        await daemon.services.networks.set_autostart(ROOT, boots.uuid, True)
        assert view(daemon).state == "inactive"
    async with running(host) as daemon:
        assert view(daemon).state == "inactive", "a restart of the daemon is no boot"
    host.boot()
    async with running(host) as daemon:
        assert (view(daemon).state, view(daemon, "other").state) == ("active", "inactive")
        assert view(daemon, "other").uuid == other.uuid
        await daemon.services.networks.stop(ROOT, boots.uuid)
    async with running(host) as daemon:
        assert view(daemon).state == "inactive", "what the user stopped stays stopped"


@hastily
async def test_a_network_that_cannot_boot_does_not_keep_the_others_from_it() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        for name, net in (("a", 1), ("b", 2)):
            network = await defined(daemon, lab(name, net, bridge={"name": f"br-{name}"}))
            await daemon.services.networks.set_autostart(ROOT, network.uuid, True)
    host.boot()
    host.links.create("br-a", "bridge")
    async with running(host) as daemon:
        assert (view(daemon, "a").state, view(daemon, "b").state) == ("failed", "active")
        assert "br-a" in view(daemon, "a").problems[0]


@hastily
async def test_a_transient_network_outlives_the_daemon_but_not_a_boot() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await daemon.services.networks.create(ROOT, lab(), {})
    async with running(host) as daemon:
        assert (view(daemon).state, view(daemon).persistent) == ("active", False)
    host.boot()
    async with running(host) as daemon:
        assert not daemon.services.networks.list()
        assert host.devices() == {"eth0"}


@hastily
async def test_an_undefined_network_that_runs_stays_transient_over_a_restart() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await daemon.services.networks.undefine(ROOT, await raised(daemon))
    async with running(host) as daemon:
        assert (view(daemon).state, view(daemon).persistent) == ("active", False)


@hastily
async def test_what_runs_and_what_is_kept_stay_two_forms_over_a_restart() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = await raised(daemon)
        record = json.loads(host.files.files["etc/networks"]["lab"])
        record["network"]["mtu"] = 1400
        host.files.files["etc/networks"]["lab"] = json.dumps(record)
    async with running(host) as daemon:
        described = daemon.services.networks.describe
        assert "mtu" not in json.loads(described(uuid, "json", {}))
        assert json.loads(described(uuid, "json", {"inactive": True}))["mtu"] == 1400
        link = host.link("virbr0")
        assert link is not None and link.mtu == 1500


@hastily
async def test_leftovers_of_networks_that_are_not_active_are_removed_and_nothing_else() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        known = str((await defined(daemon)).uuid)
    for name, alias in (
        ("virbr0", f"vnetd:network:{known}"),
        ("virbr1", f"vnetd:network:{uuid4()}"),
        ("virbr2", f"mine:{known}"),
        ("virbr3", ""),
        ("virbr4", known),
    ):
        host.perform(CreateBridge(name, "52:54:00:00:00:01", 1500, stp=False, forward_delay=0, alias=alias))
    for uuid in (known, str(uuid4())):
        await host.processes.start(Instance(uuid, "virbr0", {"dnsmasq.conf": ""}))
    async with running(host):
        assert host.devices() == {"eth0", "virbr1", "virbr2", "virbr3", "virbr4"}
        assert known not in host.processes.running


@hastily
async def test_ports_of_a_network_that_is_not_active_any_more_are_removed() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = await raised(daemon)
        await daemon.services.ports.attach(ROOT, "lab", {**VETH, "filter": "no-mac-spoofing"})
    del host.files.files["run/networks"][str(uuid)]
    async with running(host) as daemon:
        assert (host.devices(), host.files.files["run/ports"]) == ({"eth0"}, {})
        assert (daemon.services.ports.list(), view(daemon).ports) == ((), ())


@hastily
async def test_a_port_whose_device_went_while_no_daemon_ran_goes_too() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        attached = await daemon.services.ports.attach(ROOT, "lab", {**VETH, "filter": "no-mac-spoofing"})
    host.perform(DeleteLink(attached.port.device, ""))
    async with running(host) as daemon:
        await eventually(lambda: not daemon.services.ports.list(), "the port goes")
        await eventually(lambda: not host.files.files["run/ports"], "and its record")
        assert not [key for key, members in host.ruleset().items() if key.startswith("set bridge") and members]


@hastily
async def test_a_port_taken_out_while_no_daemon_ran_is_put_back() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        attached = await daemon.services.ports.attach(ROOT, "lab", VETH)
    before = host.state()
    host.perform(SetLink(attached.port.device, master="", up=False))
    async with running(host):
        assert not difference(before, host.state())


@hastily
async def test_a_host_that_cannot_be_read_is_an_error_at_start_and_changes_nothing() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
    before = host.state()

    async def unreadable(call: Call) -> None:
        if call.verb == "nft.table":
            raise HostError("list", "table", "Operation not permitted")

    host.before = unreadable
    with pytest.raises(HostError, match="Operation not permitted"):
        async with running(host):
            pass
    assert not difference(before, host.state())


@hastily
async def test_a_network_whose_uplink_comes_late_boots_all_the_same_but_is_refused_to_a_user() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        late = await defined(daemon, lab(devices={"interfaces": ["wwan0"]}))
        await daemon.services.networks.set_autostart(ROOT, late.uuid, True)
        before = host.state()
        with pytest.raises(NotFound, match="wwan0"):
            await daemon.services.networks.start(ROOT, late.uuid)
        with pytest.raises(NotFound, match="wwan0"):
            await daemon.services.networks.create(ROOT, lab("other", 78, devices={"interfaces": ["wwan0"]}), {})
        assert not difference(before, host.state())
    host.boot()
    async with running(host) as daemon:
        assert view(daemon).state == "active"
        host.links.create("wwan0", "")
        host.perform(SetLink("wwan0", up=True), AddAddress("wwan0", ip_interface("100.64.0.2/24")))
        path = ("net", "ipv4", "conf", "wwan0", "forwarding")
        await eventually(lambda: host.links.values[path] == "1", "it forwards as soon as it is there")
