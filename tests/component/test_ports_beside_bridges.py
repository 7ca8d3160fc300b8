"""Ports without a bridge on a host in memory, of all kinds: whole or not at all, restored, described, examined."""

import json

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Refusal, crash, nth
from support.memory_daemon import ROOT, running, view
from support.memory_host import difference
from support.memory_unbridged import KINDS, MAC, host, lasting, mac_of, plug, raised
from support.waiting import eventually

from vnetd.model.errors import Invalid, Unsupported, VnetError
from vnetd.plan.kernel import SetLink
from vnetd.service.views import Removed


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
