"""What a daemon makes of what the one before it left, however that one ended."""

import json
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any
from uuid import UUID, uuid4

import pytest
from support.hasty_loop import hastily
from support.memory_host import (
    ROOT,
    Call,
    MemoryHost,
    Running,
    crash,
    defined,
    difference,
    host_with_uplink,
    lab,
    running,
    view,
)
from support.waiting import eventually

from vnetd.model.errors import HostError, NotFound, VnetError
from vnetd.plan.dnsmasq import Instance
from vnetd.plan.kernel import AddAddress, CreateBridge, DeleteAddress, DeleteLink, SetLink
from vnetd.service.views import Healed

VETH = {"kind": "veth", "netns": "guest"}


async def raised(daemon: Running, name: str = "lab", net: int = 77) -> UUID:
    """A network that runs."""
    network = await defined(daemon, lab(name, net))
    await daemon.services.networks.start(ROOT, network.uuid)
    return network.uuid


def changes(host: MemoryHost, since: int = 0) -> list[Call]:
    """What was asked to be changed."""
    return [call for call in host.calls[since:] if call.changes]


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


async def whole_or_nothing(host: MemoryHost, nothing: dict[str, object], whole: dict[str, object], when: str) -> None:
    """A second daemon finds the network as it should be, or nothing of it."""
    async with running(host) as daemon:
        state = view(daemon).state
        assert state in {"active", "inactive"}, when
        assert not difference(whole if state == "active" else nothing, comparable(host)), f"{state} {when}"
        seen = len(host.calls)
        await daemon.services.reconcile(ROOT)
        assert changes(host, seen) == []
        if state == "inactive":
            await daemon.services.networks.start(ROOT, view(daemon).uuid)
        await daemon.services.networks.stop(ROOT, view(daemon).uuid)
        assert not difference(nothing, comparable(host)), when


def comparable(host: MemoryHost) -> dict[str, object]:
    """The host's state but for numbers the kernel gives and what is only bookkeeping."""
    state = {key: value for key, value in host.state().items() if not key.startswith("document run/host")}
    for entry in host.links.entries.values():
        rest = frozenset(entry.addresses), frozenset(entry.routes)
        state[f"link {entry.link.name}"] = (replace(entry.link, index=0), *rest)
    return state


SAME: dict[str, Any] = {"uuid": str(uuid4()), "mac": "52:54:00:00:00:01"}


async def define_it(daemon: Running) -> None:
    await defined(daemon, lab(**SAME))


async def raise_it(daemon: Running) -> None:
    await define_it(daemon)
    await start_it(daemon)


async def left_by(killed_at: int | None, begin: Any, act: Any) -> tuple[MemoryHost, dict[str, object], int]:
    """A host on which a daemon did ``begin``, then ``act`` up to the call of this number; how many calls it took."""
    host = host_with_uplink()
    async with running(host) as daemon:
        await begin(daemon)
        host.deafen()
        before, seen = comparable(host), len(host.calls)
        if killed_at is not None:
            host.before = crash(killed_at)
        try:
            await act(daemon)
        except VnetError:
            assert killed_at is not None
        return host, before, len([call for call in host.calls[seen:] if call.verb != "nft.chain"])


async def start_it(daemon: Running) -> None:
    await daemon.services.networks.start(ROOT, view(daemon).uuid)


async def stop_it(daemon: Running) -> None:
    await daemon.services.networks.stop(ROOT, view(daemon).uuid)


@hastily
async def test_whenever_a_daemon_dies_in_a_start_the_next_completes_it_or_leaves_nothing() -> None:
    host, nothing, calls = await left_by(None, define_it, start_it)
    whole = comparable(host)
    assert calls > 10
    for number in range(calls):
        host, *_ = await left_by(number, define_it, start_it)
        await whole_or_nothing(host, nothing, whole, f"after a start killed at call {number}")


@hastily
async def test_whenever_a_daemon_dies_in_a_stop_the_next_completes_it_or_everything_runs() -> None:
    host, whole, calls = await left_by(None, raise_it, stop_it)
    nothing = comparable(host)
    assert calls > 5
    for number in range(calls):
        host, *_ = await left_by(number, raise_it, stop_it)
        await whole_or_nothing(host, nothing, whole, f"after a stop killed at call {number}")


async def attach_it(daemon: Running) -> None:
    await daemon.services.ports.attach(ROOT, "lab", {**VETH, "filter": "no-mac-spoofing", "mac": "52:54:00:00:00:07"})


async def raise_and_attach(daemon: Running) -> None:
    await raised(daemon)
    await attach_it(daemon)


async def detach_it(daemon: Running) -> None:
    await daemon.services.ports.detach(ROOT, daemon.services.ports.list()[0].uuid)


@pytest.mark.parametrize("act", [attach_it, detach_it])
@hastily
async def test_whenever_a_daemon_dies_with_a_port_half_made_the_next_has_it_whole_or_not_at_all(act: Any) -> None:
    begin = raised if act is attach_it else raise_and_attach
    _, _, calls = await left_by(None, begin, act)
    assert calls > 2
    for number in range(calls):
        host, *_ = await left_by(number, begin, act)
        async with running(host) as daemon:
            await eventually(lambda: consistent(host, daemon), f"killed at call {number}", deadline=5)  # noqa: B023
            ports = daemon.services.ports.list()
            for port in ports:
                await daemon.services.ports.detach(ROOT, port.uuid)
            assert host.devices() == {"eth0", "virbr0"}
            assert not host.files.files.get("run/ports")
            assert not [key for key, members in host.ruleset().items() if key.startswith("set bridge") and members]


def consistent(host: MemoryHost, daemon: Running) -> bool:
    """Whether devices, records and ports are the same."""
    devices = host.devices() - {"eth0", "virbr0"}
    return devices == {port.device for port in daemon.services.ports.list()} and len(devices) == len(
        host.files.files.get("run/ports", {})
    )


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


def damage(host: MemoryHost, kind: str, name: str, how: str) -> None:
    """Make a document unreadable."""
    texts = host.files.files[kind]
    if how == "cut off":
        texts[name] = texts[name][:-5]
    elif how == "of another version":
        document = json.loads(texts[name])
        (document["network"] if "network" in document and kind != "run/ports" else document)["invented"] = 1
        texts[name] = json.dumps(document)
    else:
        texts[name] = json.dumps(["something", "else"])


@pytest.mark.parametrize("how", ["cut off", "of another version", "something else"])
@hastily
async def test_a_running_network_whose_record_cannot_be_read_is_not_torn_down(how: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = await raised(daemon)
        await raised(daemon, "other", 78)
    damage(host, "run/networks", str(uuid), how)
    before = without_documents(host)
    async with running(host) as daemon:
        assert not difference(before, without_documents(host))
        assert view(daemon, "other").state == "active"
        with pytest.raises(VnetError):
            await daemon.services.networks.create(ROOT, lab("third", 77), {})


def without_documents(host: MemoryHost) -> dict[str, object]:
    """The host's state but the documents."""
    return {key: value for key, value in host.state().items() if not key.startswith("document")}


@pytest.mark.parametrize("how", ["cut off", "of another version", "something else"])
@hastily
async def test_a_definition_that_cannot_be_read_keeps_nobody_from_working(how: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        await raised(daemon, "other", 78)
    text = host.files.files["etc/networks"]["lab"]
    damage(host, "etc/networks", "lab", how)
    damaged, before = host.files.files["etc/networks"]["lab"], without_documents(host)
    async with running(host) as daemon:
        assert not difference(before, without_documents(host)), "what runs goes on"
        assert (view(daemon, "other").state, view(daemon).state, view(daemon).persistent) == ("active", "active", False)
    assert damaged in {host.files.files["etc/networks"].get("lab"), host.files.aside.get("etc/networks", {}).get("lab")}
    host.files.files["etc/networks"]["lab"] = text
    async with running(host) as daemon:
        assert view(daemon).persistent


@pytest.mark.parametrize("how", ["cut off", "of another version", "something else"])
@hastily
async def test_a_port_whose_record_cannot_be_read_keeps_its_device_and_its_filter(how: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        attached = await daemon.services.ports.attach(ROOT, "lab", {**VETH, "filter": "no-mac-spoofing"})
    damage(host, "run/ports", str(attached.port.uuid), how)
    before = without_documents(host)
    async with running(host):
        assert not difference(before, without_documents(host))


@hastily
async def test_a_record_that_cannot_be_realised_any_more_does_not_keep_the_daemon_from_starting() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = await raised(daemon)
        await raised(daemon, "other", 78)
    record = json.loads(host.files.files["run/networks"][str(uuid)])
    record["network"]["dnsmasq_options"] = ["conf-script=/bin/true"]
    host.files.files["run/networks"][str(uuid)] = json.dumps(record)
    before = without_documents(host)
    async with running(host) as daemon:
        assert view(daemon, "other").state == "active"
        assert not difference(before, without_documents(host)), "nothing of it is torn down"


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
