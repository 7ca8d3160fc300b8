"""Ports without a bridge on a host in memory: macvtap, virtual functions, passt. Whole or not at all, and restored."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from support.hasty_loop import hastily
from support.memory_host import (
    ROOT,
    MemoryHost,
    Refusal,
    Running,
    crash,
    difference,
    host_with_uplink,
    nth,
    running,
    view,
)
from support.waiting import eventually

from vnetd.model.errors import Denied, InUse, Invalid, Unsupported, VnetError
from vnetd.model.functions import VfState
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.functions import Function, SetFunction
from vnetd.plan.kernel import DeleteAddress, DeleteLink, SetLink
from vnetd.ruleset.unbridged import entrance
from vnetd.service.views import Attached, Caller, Removed

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


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_a_port_ends_without_leaving_anything(kind: str) -> None:
    async with running(host()) as daemon:
        await raised(daemon, KINDS[kind][0])
        before = daemon.host.state()
        macs = {name: mac_of(daemon.host, name) for name in ("eth1", "eth2")}
        attached = await plug(daemon, kind, mac=MAC)
        assert (view(daemon).ports, attached.port.mac) == ((attached.port.uuid,), MAC)
        await daemon.services.ports.detach(ROOT, attached.port.uuid)
        assert not lasting(difference(before, daemon.host.state()))
        assert macs == {name: mac_of(daemon.host, name) for name in ("eth1", "eth2")}
        assert [one.view.uuid for one in daemon.told(Removed)] == [attached.port.uuid]


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_whatever_call_of_an_attachment_fails_nothing_is_left(kind: str) -> None:
    number = 0
    while True:
        async with running(host()) as daemon:
            await raised(daemon, KINDS[kind][0])
            daemon.host.deafen()
            before = daemon.host.state()
            daemon.host.before = refusal = Refusal(nth(number))
            try:
                await plug(daemon, kind, mac=MAC)
            except VnetError:
                assert refusal.refused
                left = difference(before, daemon.host.state())
                assert not lasting(left), f"left over when {refusal.refused} fails"
                for name in ("eth1", "eth2"):
                    link = daemon.host.link(name)
                    assert link and link.mac.startswith("00:1b:21"), f"MAC after {refusal.refused} failed"
                assert (daemon.services.ports.list(), view(daemon).ports) == ((), ())
                await plug(daemon, kind, mac=MAC)
            else:
                assert not refusal.refused
                break
        number += 1
    assert number >= 3


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_whenever_the_daemon_is_killed_the_next_run_has_the_port_whole_or_not_at_all(kind: str) -> None:
    number = 0
    while True:
        made = host()
        async with running(made) as daemon:
            await raised(daemon, KINDS[kind][0])
        before = made.state()
        async with running(made) as daemon:
            made.before = crash(number)
            try:
                attached = await plug(daemon, kind, mac=MAC)
            except VnetError:
                attached = None
        async with running(made) as daemon:
            if attached is not None:  # it needed no call of that number
                assert [port.uuid for port in daemon.services.ports.list()] == [attached.port.uuid]
                break
            for port in daemon.services.ports.list():
                await daemon.services.ports.detach(ROOT, port.uuid)
            await eventually(lambda: not daemon.services.ports.list())
            assert not lasting(difference(before, made.state())), f"killed at call {number}"
            for name in ("eth1", "eth2"):
                link = made.link(name)
                assert link and link.mac.startswith("00:1b:21"), f"killed at call {number}"
        number += 1
    assert number >= 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "macvtap-fd"])
@hastily
async def test_a_port_survives_a_restart_of_the_daemon_unchanged(kind: str) -> None:
    made = host()
    async with running(made) as daemon:
        await raised(daemon, KINDS[kind][0])
        attached = await plug(daemon, kind, mac=MAC)
        before = made.state()
    async with running(made) as daemon:
        assert not difference(before, made.state())
        assert [port.uuid for port in daemon.services.ports.list()] == [attached.port.uuid]
        await daemon.services.ports.detach(ROOT, attached.port.uuid)
        link = made.link("eth1")
        assert link and link.mac == "00:1b:21:00:00:01"


@hastily
async def test_a_macvtap_has_the_guests_mac_and_its_lower_devices_mtu_and_is_up() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        attached = await plug(daemon, "macvtap", mac=MAC)
        link, lower = daemon.host.link("macvtap0"), daemon.host.link("eth1")
        assert link and lower
        assert (link.kind, link.mac, link.mtu, link.up, lower.up) == ("macvtap", MAC, 9000, True, True)
        assert daemon.host.links.modes[link.index] == "bridge"
        assert link.alias == f"vnetd:port:{attached.port.uuid}"
        assert attached.result["node"] == f"/dev/tap{link.index}" and attached.result["lower"] == "eth1"
        assert daemon.host.macvtap_nodes.owners["macvtap0"] == (107, 36)


@hastily
async def test_ports_go_to_the_least_used_device_of_the_pool_the_first_of_equals() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        ports = [await plug(daemon, "macvtap") for _ in range(4)]
        assert [lower_of(daemon, one.port.device) for one in ports] == ["eth1", "eth2", "eth1", "eth2"]
        await daemon.services.ports.detach(ROOT, ports[1].port.uuid)
        await daemon.services.ports.detach(ROOT, ports[3].port.uuid)
        assert [(await plug(daemon, "macvtap")).result["lower"] for _ in range(2)] == ["eth2", "eth2"]


@hastily
async def test_a_device_in_passthrough_has_one_guest_and_an_exhausted_pool_is_named() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "passthrough")
        first = await plug(daemon, "passthrough", mac=MAC)
        lower = daemon.host.link("eth1")
        assert lower and lower.mac == MAC
        await plug(daemon, "passthrough")
        with pytest.raises(InUse, match=r"network lab requires exclusive access.*eth1 \(port macvtap0\); eth2"):
            await plug(daemon, "passthrough")
        await raised(daemon, "bridge", name="other", devices={"interfaces": ["eth1"]})
        with pytest.raises(InUse, match=r"network other needs a network device, and none of its pool"):
            await plug(daemon, "macvtap", network="other")
        await daemon.services.ports.detach(ROOT, first.port.uuid)
        assert (await plug(daemon, "macvtap", network="other")).result["lower"] == "eth1"
        with pytest.raises(InUse, match="requires exclusive access"):
            await plug(daemon, "passthrough")


@hastily
async def test_a_device_that_is_not_there_is_passed_over_and_named_as_a_problem() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        daemon.host.perform(DeleteLink("eth1", ""))
        await eventually(lambda: view(daemon).state == "degraded")
        assert "eth1 is not there" in view(daemon).problems[0]
        assert (await plug(daemon, "macvtap")).result["lower"] == "eth2"
        daemon.host.links.create("eth1", "")
        await eventually(lambda: view(daemon).state == "active")


@hastily
async def test_a_macvtap_port_is_healed_and_ends_with_its_device_or_lower_device() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        one, other = await plug(daemon, "macvtap", mac=MAC), await plug(daemon, "macvtap")
        daemon.host.perform(SetLink("macvtap0", mtu=1280, mac="52:54:00:00:00:99", up=False), SetLink("eth1", up=False))

        def healed() -> bool:
            link, lower = daemon.host.link("macvtap0"), daemon.host.link("eth1")
            return bool(link and lower and (link.mtu, link.mac, link.up, lower.up) == (9000, MAC, True, True))

        await eventually(healed)
        daemon.host.perform(DeleteLink("macvtap0", ""))
        await eventually(lambda: [port.uuid for port in daemon.services.ports.list()] == [other.port.uuid])
        daemon.host.perform(DeleteLink("eth2", ""))
        await eventually(lambda: not daemon.services.ports.list())
        assert [removed.view.uuid for removed in daemon.told(Removed)] == [one.port.uuid, other.port.uuid]


@hastily
async def test_the_mac_address_of_a_device_in_passthrough_is_kept_and_restored_when_its_macvtap_goes() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "passthrough")
        await plug(daemon, "passthrough", mac=MAC)

        def mac() -> str:
            link = daemon.host.link("eth1")
            return link.mac if link else ""

        daemon.host.perform(SetLink("eth1", mac="52:54:00:00:00:99"))
        await eventually(lambda: mac() == MAC)
        daemon.host.perform(DeleteLink("macvtap0", ""))
        await eventually(lambda: mac() == "00:1b:21:00:00:01")


@hastily
async def test_what_was_handed_out_lives_as_long_as_somebody_holds_it() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        attached = await plug(daemon, "macvtap-fd")
        assert len(attached.fds) == 2 and attached.port.kind == "macvtap-fd"
        await daemon.host.tap_devices.close(attached.fds[:1])
        await daemon.services.full_pass()
        assert daemon.services.ports.list()
        await daemon.host.tap_devices.close(attached.fds[1:])
        await eventually(lambda: not daemon.services.ports.list())
        assert daemon.host.link(attached.port.device) is None


@hastily
async def test_what_was_let_go_of_while_the_daemon_was_away_is_gone_after_its_start() -> None:
    made = host()
    async with running(made) as daemon:
        await raised(daemon, "bridge")
        kept, gone = await plug(daemon, "macvtap-fd"), await plug(daemon, "macvtap-fd")
    await made.tap_devices.close(gone.fds)
    async with running(made) as daemon:
        await daemon.services.full_pass()
        await eventually(lambda: [port.uuid for port in daemon.services.ports.list()] == [kept.port.uuid])
        assert made.link(gone.port.device) is None
        await made.tap_devices.close(kept.fds)


@hastily
async def test_what_needs_a_bridge_is_refused_and_so_is_a_kind_of_another_mode() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        with pytest.raises(Unsupported, match="isolated"):
            await plug(daemon, "macvtap", isolated=True)
        with pytest.raises(Unsupported, match="bandwidth of port macvtap0 cannot be limited"):
            await plug(daemon, "macvtap", **{"inbound.average": 100})
        with pytest.raises(Invalid, match="kind tap does not go with network lab of mode macvtap: macvtap"):
            await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap"})
        with pytest.raises(Invalid, match="is what OpenTap makes"):
            await daemon.services.ports.attach(ROOT, "lab", {"kind": "macvtap-fd"})
        daemon.host.macvtap_nodes.nodes = False
        before = daemon.host.state()
        with pytest.raises(Unsupported, match="no devtmpfs"):
            await plug(daemon, "macvtap")
        assert not lasting(difference(before, daemon.host.state()))


@hastily
async def test_a_macvtap_is_filtered_before_it_is_up_or_refused_where_rules_cannot_be() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        nft = daemon.host.rules
        nft.features = BridgeFeatures(unhooked="nftables says: no")
        with pytest.raises(Unsupported, match=r"in no bridge, needs rules where packets leave a device.*says: no"):
            await plug(daemon, "macvtap", caller=USER)
        port = (await plug(daemon, "macvtap")).port
        with pytest.raises(Unsupported, match="needs rules where packets leave a device"):
            await daemon.services.ports.set_filter(ROOT, port.uuid, "clean-traffic", {})
        nft.features = BridgeFeatures(unhooked="")
        port = (await plug(daemon, "macvtap", caller=USER)).port
        assert port.filter == "vnetd-guest"
        hooks = [one.hook for one in nft.tables["netdev"].chains.values() if one.hook]
        assert {hook.device for hook in hooks} == {port.device}
        assert {hook.hook for hook in hooks} == {"ingress", "egress"}
        raising = SetLink(port.device, up=True)
        (up,) = [place for place, call in enumerate(daemon.host.calls) if raising in call.arguments]
        assert entrance(port.device).chains[0] in [
            chain for call in daemon.host.calls[:up] if call.verb == "nft.commit" for chain in call.arguments[1].chains
        ]
        await daemon.services.ports.detach(USER, port.uuid)
        assert "netdev" not in nft.tables or not nft.tables["netdev"].chains


HOST_SIDE = {"host_access": True, "addresses": [{"address": "192.168.50.5/24"}]}


@hastily
async def test_the_host_gets_a_device_beside_its_guests_which_is_healed_and_goes_with_the_network() -> None:
    async with running(host()) as daemon:
        before = daemon.host.devices()
        uuid = await raised(daemon, "bridge", **HOST_SIDE)
        name = f"vh-{uuid.hex[:12]}"
        entry = daemon.host.links.find(name)
        assert entry and (entry.link.kind, entry.link.up, lower_of(daemon, name)) == ("macvlan", True, "eth1")
        (address,) = entry.addresses
        assert str(address) == "192.168.50.5/24"
        daemon.host.perform(DeleteAddress(name, address), SetLink(name, up=False))

        def whole() -> bool:
            found = daemon.host.links.find(name)
            return bool(found and found.link.up and found.addresses)

        await eventually(whole)
        daemon.host.perform(DeleteLink(name, ""))
        await eventually(whole)
        document = {"name": "lab", "uuid": str(uuid), **NETWORKS["bridge"]}
        await daemon.services.networks.define(ROOT, json.dumps(document), {})
        assert daemon.host.link(name) is None
        await daemon.services.networks.define(ROOT, json.dumps({**document, **HOST_SIDE}), {})
        assert whole()
        await daemon.services.networks.stop(ROOT, uuid)
        assert daemon.host.devices() == before


@hastily
async def test_whatever_call_of_a_start_fails_the_hosts_device_is_gone_and_so_after_the_end_of_the_daemon() -> None:
    number = 0
    while True:
        made = host()
        async with running(made) as daemon:
            before = made.devices()
            document = json.dumps({"name": "lab", **NETWORKS["bridge"], **HOST_SIDE})
            network = await daemon.services.networks.define(ROOT, document, {})
            made.before = refusal = Refusal(nth(number))
            try:
                await daemon.services.networks.start(ROOT, network.uuid)
            except VnetError:
                assert refusal.refused and made.devices() == before
            else:
                break
            made.before = crash(number)
            with suppress(VnetError):  # the second start may need a call less, and is through before the end then
                await daemon.services.networks.start(ROOT, network.uuid)
        async with running(made) as daemon:
            if view(daemon).active:
                assert view(daemon).state == "active", view(daemon).problems
                await daemon.services.networks.stop(ROOT, network.uuid)
            assert made.devices() == before, f"left over from an end at call {number}"
        number += 1
    assert number >= 3


@hastily
async def test_a_host_side_that_lost_its_tag_to_the_end_of_the_daemon_is_known_by_its_name_and_mac() -> None:
    made = host()
    async with running(made) as daemon:
        uuid = await raised(daemon, "bridge", **HOST_SIDE)
    name = f"vh-{uuid.hex[:12]}"
    made.perform(SetLink(name, alias=""))
    async with running(made) as daemon:
        link = made.link(name)
        assert link and link.alias == f"vnetd:network:{uuid}" and view(daemon).state == "active"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"macvtap_mode": "private"}, "modes bridge and vepa"),
        ({"addresses": [{"address": "192.168.50.5/24", "dhcp": {"ranges": []}, "local_ptr": True}]}, "neither DHCP"),
        ({"host_access": None}, "cannot have this"),
    ],
)
@hastily
async def test_a_host_side_that_cannot_be_is_refused_when_defined(fields: dict[str, Any], words: str) -> None:
    async with running(host()) as daemon:
        document = {"name": "lab", **NETWORKS["bridge"], **HOST_SIDE, **fields}
        with pytest.raises(Invalid, match=words):
            await daemon.services.networks.define(ROOT, json.dumps(document), {})


@hastily
async def test_functions_are_handed_out_exclusively_with_what_their_card_shall_do_for_them() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "hostdev", vlan={"tags": [{"id": 42}]})
        one = await plug(daemon, "hostdev", mac=MAC)
        assert {key: one.result[key] for key in ("pci", "vf", "pf")} == {"pci": "0000:03:10.0", "vf": 0, "pf": "eth1"}
        wanted = VfState(mac=MAC, vlan=42, spoof_check=False, trust=True, link_state="auto")
        assert daemon.host.links.cards["eth1"][0] == wanted
        daemon.host.perform(SetFunction("eth1", 0, vlan=(3, 0), trust=False))
        await eventually(lambda: daemon.host.links.cards["eth1"][0] == wanted)
        assert (await plug(daemon, "hostdev")).result["pci"] == "0000:03:10.1"
        with pytest.raises(InUse, match=r"exclusive access to a virtual function.*0000:03:10.0 \(port hostdev0\)"):
            await plug(daemon, "hostdev")
        await daemon.services.ports.detach(ROOT, one.port.uuid)
        former = VfState(vlan=7, spoof_check=True, trust=False, link_state="auto")
        assert daemon.host.links.cards["eth1"][0] == former
        assert (await plug(daemon, "hostdev")).result["vf"] == 0


@hastily
async def test_functions_can_be_named_one_by_one_by_their_pci_address() -> None:
    async with running(host()) as daemon:
        addresses = [{"bus": 3, "slot": 16, "function": 1}]
        await raised(daemon, "hostdev", devices={"pci": addresses})
        assert (await plug(daemon, "hostdev")).result["pci"] == "0000:03:10.1"
        with pytest.raises(InUse):
            await plug(daemon, "hostdev")


@hastily
async def test_what_the_driver_of_a_card_does_not_know_is_refused_to_who_asks_for_it() -> None:
    made = host()
    made.links.cards["eth1"] = dict.fromkeys(range(2), VfState(spoof_check=True, link_state="auto"))
    async with running(made) as daemon:
        await raised(daemon, "hostdev")
        with pytest.raises(Unsupported, match="the driver of eth1 does not know trust"):
            await plug(daemon, "hostdev", spoof_check=False, trust=True)
        assert made.links.cards["eth1"][0] == VfState(spoof_check=True, link_state="auto")
        await plug(daemon, "hostdev", mac=MAC, spoof_check=False, trust=None)
        assert made.links.cards["eth1"][0] == VfState(mac=MAC, spoof_check=False, link_state="auto")


@hastily
async def test_passt_is_started_anew_when_it_dies_and_missing_is_named_with_its_package() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "user", forwards=[{"protocol": "udp", "listen": 5353, "to": MAC, "port": 53}])
        attached = await plug(daemon, "passt", mac=MAC, mtu=1400)
        (instance,) = daemon.host.passts.running.values()
        assert attached.result["socket"] == daemon.host.passts.socket(str(attached.port.uuid))
        assert (instance.uid, instance.gid, instance.mtu) == (65534, 65534, 1400)
        assert [(f.protocol, f.listen, f.port) for f in instance.forwards] == [("tcp", 8022, 22), ("udp", 5353, 53)]
        daemon.host.passts.die(instance.port)
        await eventually(lambda: daemon.host.passts.running.get(instance.port) == instance)
        daemon.host.passts.missing = True
        with pytest.raises(Unsupported, match=r"needs the program passt.*install it \(package passt\)"):
            await plug(daemon, "passt", forwards=[])
        assert len(daemon.services.ports.list()) == 1


LACKING = {
    "macvtap": ("macvtap", "a port of network lab needs macvtap devices, which this host has not: not here"),
    "macvtap-fd": ("macvtap", "a port of network lab needs macvtap devices, which this host has not: not here"),
    "passt": ("passt", "a port of network lab needs the program passt, which this host has not: not here"),
}


@hastily
@pytest.mark.parametrize("kind", LACKING)
async def test_what_this_host_cannot_do_for_a_port_is_said_with_the_reason_before_anything_is_made(kind: str) -> None:
    ability, sentence = LACKING[kind]
    async with running(host()) as daemon:
        await raised(daemon, KINDS[kind][0])
        before = daemon.host.state()
        daemon.host.capabilities.lacking[ability] = "not here"
        with pytest.raises(Unsupported, match=f"^{sentence}$"):
            await plug(daemon, kind)
        assert daemon.host.state() == before
        del daemon.host.capabilities.lacking[ability]
        assert (await plug(daemon, kind)).port.kind == kind


@hastily
async def test_a_device_of_the_hosts_own_beside_macvtap_guests_needs_macvlans() -> None:
    made = host()
    made.capabilities.lacking["macvlan"] = "not here"
    async with running(made) as daemon:
        before = made.state()
        with pytest.raises(Unsupported, match=r"^network lab with host_access needs macvlan.*: not here; leave host_a"):
            await raised(daemon, "bridge", host_access=True)
        assert made.devices() == {"eth0", "eth1", "eth2"}
        assert not {key for key in difference(before, made.state()) if key.startswith("link")}


@hastily
async def test_passt_runs_as_its_owner_and_only_root_gives_away_low_ports_or_other_users() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "user")
        await plug(daemon, "passt", caller=USER)
        (instance,) = daemon.host.passts.running.values()
        assert instance.uid == 1000
        with pytest.raises(Denied, match="tcp port 80 of the host is below 1024"):
            await plug(daemon, "passt", caller=USER, forwards=["tcp:80"])
        with pytest.raises(Denied, match="cannot have a port run as uid 33"):
            await plug(daemon, "passt", caller=USER, owner=33)
        await plug(daemon, "passt", owner=33, forwards=["tcp:80"])
        assert {one.uid for one in daemon.host.passts.running.values()} == {1000, 33}


@pytest.mark.parametrize("text", ["tcp", "sctp:80", "tcp:0", "tcp:99999", "tcp:80:x", "tcp:1.2.3:80", "tcp:1:2:3"])
@hastily
async def test_a_forward_that_is_none_is_refused(text: str) -> None:
    async with running(host()) as daemon:
        await raised(daemon, "user")
        with pytest.raises(Invalid, match="port forwards"):
            await plug(daemon, "passt", forwards=[text])


@hastily
async def test_strays_of_an_earlier_run_end_when_nobody_has_them_on_record() -> None:
    made = host()
    async with running(made) as daemon:
        await raised(daemon, "user")
        await plug(daemon, "passt")
    for kind in ("run/ports",):
        made.files.files[kind].clear()
    async with running(made) as daemon:
        assert not made.passts.running and not daemon.services.ports.list()


PLUGS = {
    "macvtap": "<plug type='direct' dev='eth1' mode='bridge'/>",
    "macvtap-fd": "<plug type='direct' dev='eth1' mode='bridge'/>",
    "passthrough": "<plug type='direct' dev='eth1' mode='passthrough'/>",
    "hostdev": "<plug type='hostdev-pci' managed='yes'>\n    "
    "<address domain='0x0000' bus='0x03' slot='0x10' function='0x0'/>",
}


@pytest.mark.parametrize("kind", PLUGS)
@hastily
async def test_a_port_is_described_as_a_networkport_and_counted_in_its_networks_xml(kind: str) -> None:
    async with running(host()) as daemon:
        uuid = await raised(daemon, KINDS[kind][0])
        port = (await plug(daemon, kind, mac=MAC)).port
        text = daemon.services.ports.describe(port.uuid, "xml")
        assert PLUGS[kind] in text and f"<mac address='{MAC}'/>" in text
        assert json.loads(daemon.services.ports.describe(port.uuid, "json"))["uuid"] == str(port.uuid)
        live = daemon.services.networks.describe(uuid, "xml", {})
        assert "<network connections='1'>" in live
        if kind != "hostdev":
            assert "<interface dev='eth1' connections='1'/>" in live and "<interface dev='eth2'/>" in live
        kept = daemon.services.networks.describe(uuid, "xml", {"inactive": True})
        assert "connections" not in kept
        await daemon.services.ports.detach(ROOT, port.uuid)
        assert daemon.services.networks.describe(uuid, "xml", {}) == kept


@hastily
async def test_a_port_of_mode_user_is_described_in_json_only() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "user")
        attached = await plug(daemon, "passt")
        document = json.loads(daemon.services.ports.describe(attached.port.uuid, "json"))
        assert document["plug"] == {"type": "user", "socket": attached.result["socket"]}
        with pytest.raises(Unsupported, match="native JSON"):
            daemon.services.ports.describe(attached.port.uuid, "xml")


@pytest.mark.parametrize("kind", ["macvtap", "hostdev", "passt"])
@hastily
async def test_the_link_of_such_a_port_can_be_unplugged(kind: str) -> None:
    async with running(host()) as daemon:
        await raised(daemon, KINDS[kind][0])
        port = (await plug(daemon, kind, mac=MAC)).port

        def plugged() -> bool:
            link = daemon.host.link("macvtap0")
            states = {
                "macvtap": link is not None and link.up,
                "hostdev": daemon.host.links.cards["eth1"][0].link_state == "auto",
                "passt": bool(daemon.host.passts.running),
            }
            return states[kind]

        assert plugged()
        await daemon.services.ports.set_link(ROOT, port.uuid, False)
        assert not plugged()
        await daemon.services.full_pass()
        assert not plugged()
        await daemon.services.ports.set_link(ROOT, port.uuid, True)
        assert plugged()


FINDINGS = {
    "macvtap": {"device": "device eth1 is up"},
    "hostdev": {"function": "virtual function 0 of eth1 is there"},
    "passt": {"passt": "passt of port passt0 serves"},
}


@pytest.mark.parametrize("kind", FINDINGS)
@hastily
async def test_an_examination_of_such_a_port_finds_what_it_lies_on_and_no_fault(kind: str) -> None:
    async with running(host()) as daemon:
        await raised(daemon, KINDS[kind][0])
        port = (await plug(daemon, kind, mac=MAC)).port
        daemon.host.perform(SetLink("eth1", up=True))
        found = await daemon.services.diagnosis.examine(str(port.uuid), {})
        assert not [one for one in found if one.state == "problem"], found
        assert FINDINGS[kind].items() <= {one.check: one.text for one in found}.items()
        asked = await daemon.services.diagnosis.examine(port.device, {"to": "192.0.2.1"})
        assert "passes no bridge" in asked[-1].text
        if kind == "hostdev":
            daemon.host.perform(SetLink("eth1", up=False))
            found = await daemon.services.diagnosis.examine(port.device, {})
            assert [one.text for one in found if one.state == "problem"] == ["device eth1 is down"]
        if kind == "passt":
            daemon.host.before = Refusal(lambda call: call.verb == "passt.start", times=100)
            daemon.host.passts.die(str(port.uuid))
            found = await daemon.services.diagnosis.examine(port.device, {})
            assert [one.text for one in found if one.state == "problem"] == [
                "passt of port passt0 does not run as it should"
            ]
