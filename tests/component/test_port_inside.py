"""Ports that are wholly in their guest's namespace, on a device of the host and in no bridge."""

from contextlib import suppress
from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call, Refusal, crash, nth, verb
from support.memory_daemon import ROOT, Running, raised, running
from support.memory_host import difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Exists, HostError, Invalid, NotFound, Unsupported, VnetError
from vnetd.plan.kernel import DeleteLink
from vnetd.service.views import Attached

SPEC = {"kind": "macvlan", "netns": "guest", "lower": "eth0", "guest_device": "lan0"}
UPLINKED = {"mode": "nat", "devices": {"interfaces": ["eth0"]}}


async def attached(daemon: Running, **spec: Any) -> Attached:
    """A macvlan in the guest's namespace."""
    return await daemon.services.ports.attach(ROOT, "lab", {**SPEC, **spec})


@hastily
async def test_a_macvlan_is_in_its_guests_namespace_and_its_end_leaves_nothing() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        before = host.state()
        done = await attached(daemon, mtu=1400, addresses=["10.0.0.9/24"], gateways=["10.0.0.1"])
        link = host.guests.inside["lan0"]
        assert (link.kind, link.mac, link.mtu) == ("macvlan", done.port.mac, 1400)
        assert host.guests.configured["lan0"] == ["10.0.0.9/24", "10.0.0.1"]
        assert done.result["lower"] == "eth0" and done.port.device not in host.devices()
    async with running(host) as daemon:
        assert [port.kind for port in daemon.services.ports.list()] == ["macvlan"]
        assert "lan0" in host.guests.inside
        await daemon.services.ports.detach(ROOT, done.port.uuid)
        assert not difference(before, host.state())


@hastily
async def test_it_lies_on_the_networks_forward_device_unless_another_is_named() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, **UPLINKED)
        spec = {key: value for key, value in SPEC.items() if key != "lower"}
        done = await daemon.services.ports.attach(ROOT, "lab", spec)
        assert done.result["lower"] == "eth0"


@pytest.mark.parametrize("end", ["namespace", "lower device", "guest"])
@hastily
async def test_it_ends_with_its_namespace_its_lower_device_or_by_its_guests_doing(end: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        host.links.create("eth1", "")
        before = host.state()
        await attached(daemon, lower="eth1")
        match end:
            case "namespace":
                host.guests.vanish()
            case "lower device":
                host.perform(DeleteLink("eth1", ""))
                before.pop("link eth1")
            case _:
                host.guests.inside.clear()
                await daemon.services.reconcile(ROOT)
        await eventually(lambda: not daemon.services.ports.list(), "the port is forgotten")
        host.guests.inside.clear()
        left = {key for key in difference(before, host.state()) if "eth1" not in key}
        assert not left


@hastily
async def test_a_device_its_guest_renamed_is_the_port_still_and_goes_with_it() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        before = host.state()
        port = (await attached(daemon)).port
        host.guests.rename("lan0", "eth0")
        await daemon.services.reconcile(ROOT)
        assert [one.uuid for one in daemon.services.ports.list()] == [port.uuid]
    async with running(host) as daemon:
        assert [one.uuid for one in daemon.services.ports.list()] == [port.uuid]
        await daemon.services.ports.detach(ROOT, port.uuid)
        assert (host.guests.inside, difference(before, host.state())) == ({}, {})


@hastily
async def test_whatever_call_of_an_attachment_fails_nothing_is_left() -> None:
    number = 0
    while True:
        host = host_with_uplink()
        async with running(host) as daemon:
            await raised(daemon)
            before = host.state()
            host.before = refusal = Refusal(nth(number))
            try:
                await attached(daemon, mtu=1400)
            except VnetError:
                assert not difference(before, host.state()), f"left over when {refusal.refused} fails"
                assert daemon.services.ports.list() == ()
            else:
                assert not refusal.refused
                break
        number += 1
    assert number >= 6


@hastily
async def test_wherever_a_daemon_dies_in_an_attachment_the_next_has_the_port_or_leaves_nothing() -> None:
    number = 0
    while True:
        host = host_with_uplink()
        async with running(host) as daemon:
            await raised(daemon)
            before, host.before = host.state(), crash(number)
            try:
                await attached(daemon)
                finished = True
            except VnetError:
                finished = False
        async with running(host) as daemon:
            whole = bool(daemon.services.ports.list())

            def consistent() -> bool:
                return bool(daemon.services.ports.list()) or not difference(before, host.state())  # noqa: B023

            await eventually(consistent, f"whole or gone after a crash at call {number}")
            for port in daemon.services.ports.list():
                await daemon.services.ports.detach(ROOT, port.uuid)
            assert not difference(before, host.state()), (number, whole)
        if finished:
            break
        number += 1
    assert number >= 5


@hastily
async def test_a_name_that_is_taken_inside_leaves_nothing_there() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        await attached(daemon)
        before = host.state()
        with pytest.raises(HostError, match="File exists"):
            await attached(daemon)
        assert not difference(before, host.state())


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ({"filter": "no-mac-spoofing"}, Unsupported, "cannot be filtered: a macvlan is no port of a bridge"),
        ({"isolated": True}, Unsupported, "cannot be isolated"),
        ({"link": False}, Unsupported, "cannot be unplugged"),
        ({"vlan": 42}, Unsupported, "cannot be in a VLAN"),
        ({"inbound.average": 100}, Unsupported, "cannot have limits of bandwidth"),
        ({"lower": "nowhere"}, VnetError, "nowhere"),
        ({"netns": ""}, Invalid, "netns is missing"),
        ({"netns": "nowhere"}, NotFound, "nowhere"),
        ({"kind": "ipvlan", "mac": "52:54:00:00:00:01"}, Invalid, "mac cannot be given for kind ipvlan"),
        ({"kind": "tap", "netns": "", "lower": "eth0"}, Invalid, "lower cannot be given for kind tap"),
    ],
)
@hastily
async def test_what_it_cannot_have_is_refused_and_leaves_nothing(
    spec: dict[str, Any], error: type[Exception], words: str
) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        before = host.state()
        with pytest.raises(error, match=words):
            await attached(daemon, **spec)
        assert not difference(before, host.state())


@hastily
async def test_a_network_that_forwards_nowhere_gives_it_nothing_to_lie_on() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        spec = {key: value for key, value in SPEC.items() if key != "lower"}
        with pytest.raises(Invalid, match="lower is missing: network lab forwards to no device"):
            await daemon.services.ports.attach(ROOT, "lab", spec)


@hastily
async def test_it_is_not_changed_into_what_it_cannot_be() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        port = (await attached(daemon)).port
        before, ports = host.state(), daemon.services.ports
        with pytest.raises(Unsupported, match="filtered"):
            await ports.set_filter(ROOT, port.uuid, "no-mac-spoofing", {})
        with pytest.raises(Unsupported, match="unplugged"):
            await ports.set_link(ROOT, port.uuid, False)
        assert not difference(before, host.state())


@hastily
async def test_a_mac_is_not_given_twice_but_ipvlans_share_their_lowers() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        first = await attached(daemon)
        with pytest.raises(Exists):
            await attached(daemon, guest_device="lan1", mac=first.port.mac)
        eth0 = host.link("eth0")
        for name in ("one", "two"):
            done = await attached(daemon, kind="ipvlan", guest_device=name)
            assert eth0 and done.port.mac == eth0.mac


@hastily
async def test_a_namespace_that_vanishes_while_it_is_attached_leaves_nothing() -> None:
    for step in ("namespaces.move", "namespaces.link", "namespaces.configure_peer"):
        host = host_with_uplink()
        async with running(host) as daemon:
            await raised(daemon)
            before = host.state()

            async def vanish(call: Call) -> None:
                if verb(step)(call):  # noqa: B023
                    host.guests.vanish()  # noqa: B023

            host.before = vanish
            with suppress(VnetError):
                await attached(daemon)
            host.before = Refusal(lambda _: False)
            host.guests.vanish()
            await eventually(lambda: not daemon.services.ports.list(), "no port is left")
            assert not difference(before, host.state())
