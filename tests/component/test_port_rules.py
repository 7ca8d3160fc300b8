"""What ports get from their network, what two of them may not share, and who may change them."""

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call, Refusal, verb
from support.memory_daemon import ROOT, Running, raised, running
from support.memory_host import difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Denied, Exists, HostError, Invalid, NotFound, Unsupported
from vnetd.plan.kernel import DeleteLink
from vnetd.service.views import Attached, Caller

MAC = "52:54:00:00:00:07"
ALICE, BOB = Caller(1000, name=":1.7"), Caller(1001, name=":1.8")


async def tap(daemon: Running, network: str = "lab", caller: Caller = ROOT, **spec: Any) -> Attached:
    """A persistent tap."""
    return await daemon.services.ports.attach(caller, network, {"kind": "tap", **spec})


def isolated(daemon: Running, device: str) -> bool:
    """Whether a device is kept from other isolated ones."""
    link = daemon.host.link(device)
    assert link is not None
    return link.isolated


@hastily
async def test_two_ports_of_a_network_have_the_same_mac_only_if_somebody_says_so() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        await raised(daemon, "other", 78)
        first = await tap(daemon, mac=MAC)
        before = daemon.host.state()
        with pytest.raises(Exists, match=rf"{MAC} belongs to port {first.port.device} of network lab.*duplicate_mac"):
            await tap(daemon, mac=MAC.upper())
        with pytest.raises(Exists, match=first.port.device):
            await daemon.services.ports.open_tap(ROOT, "lab", {"mac": MAC})
        assert not difference(before, daemon.host.state())
        twin = await tap(daemon, mac=MAC, duplicate_mac=True)
        assert twin.port.mac == MAC
        assert (await tap(daemon, "other", mac=MAC)).port.mac == MAC
        for port in (first, twin):
            await daemon.services.ports.detach(ROOT, port.port.uuid)
        assert (await tap(daemon, mac=MAC)).port.mac == MAC


@hastily
async def test_of_ports_that_want_the_same_mac_at_once_one_gets_it() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        results = await asyncio.gather(*(tap(daemon, mac=MAC) for _ in range(5)), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Attached"] + ["Exists"] * 4
        assert [port.mac for port in daemon.services.ports.list()] == [MAC]


@hastily
async def test_a_port_is_isolated_if_it_or_else_its_network_says_so() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        await raised(daemon, "apart", 78, isolated_ports=True)
        for network, spec, expected in (
            ("lab", {}, False),
            ("lab", {"isolated": True}, True),
            ("apart", {}, True),
            ("apart", {"isolated": False}, False),
        ):
            assert isolated(daemon, (await tap(daemon, network, **spec)).port.device) is expected
    async with running(daemon.host) as restarted:
        states = [isolated(restarted, port.device) for port in restarted.services.ports.list()]
        assert states == [False, True, True, False]


@hastily
async def test_a_port_group_the_network_does_not_have_is_not_found() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, portgroups=[{"name": "web"}, {"name": "db", "default": True}])
        with pytest.raises(NotFound, match=r"lab has no port group 'mail'; it has: web, db"):
            await tap(daemon, portgroup="mail")
        records = {}
        for name, spec in {"named": {"portgroup": "web"}, "default": {}}.items():
            port = (await tap(daemon, **spec)).port
            records[name] = daemon.services.ports.objects.get(port.device).record.portgroup
        assert records == {"named": "web", "default": "db"}


@hastily
async def test_a_port_is_changed_and_detached_by_its_owner_and_root_only() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        ports = daemon.services.ports
        port = (await tap(daemon, caller=ALICE)).port
        assert port.owner == ALICE.uid
        before = daemon.host.state()
        with pytest.raises(Denied, match=rf"port {port.device} belongs to uid 1000: only that user and root"):
            await ports.detach(BOB, port.uuid)
        with pytest.raises(Denied, match=port.device):
            await ports.set_filter(BOB, port.uuid, "no-mac-spoofing", {})
        with pytest.raises(Denied, match=port.device):  # to be root is for the front end to say
            await ports.detach(Caller(0), port.uuid)
        assert not difference(before, daemon.host.state())
        await ports.set_filter(ALICE, port.uuid, "no-mac-spoofing", {})
        await ports.set_filter(ROOT, port.uuid, "", {})
        await ports.detach(replace(BOB, administrator=True), port.uuid)
        with pytest.raises(NotFound):
            await ports.detach(BOB, port.uuid)


@hastily
async def test_a_port_that_ends_while_it_is_changed_is_gone_and_leaves_nothing() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        port = (await tap(daemon)).port

        async def vanish(call: Call) -> None:
            if verb("store.save")(call):
                daemon.host.before = Refusal(lambda _: False)
                daemon.host.perform(DeleteLink(port.device, ""))

        daemon.host.before = vanish
        await daemon.services.ports.set_filter(ROOT, port.uuid, "no-mac-spoofing", {})
        await eventually(lambda: not daemon.services.ports.list(), "the port is forgotten")
        await eventually(lambda: not difference(before, daemon.host.state()), "with the filter that came too late")


@hastily
async def test_a_change_the_host_refuses_is_no_change() -> None:
    for step, times in (("store.save", 1), ("nft.commit", 1), ("kernel.links_named", 2)):  # once before, for drift
        async with running(host_with_uplink()) as daemon:
            await raised(daemon)
            port = (await tap(daemon)).port
            await daemon.looked()  # a look that is under way would be refused in place of the change
            before = daemon.host.state()
            daemon.host.before = refusal = Refusal(verb(step), times)
            with pytest.raises(HostError):
                await daemon.services.ports.set_filter(ROOT, port.uuid, "no-mac-spoofing", {})
            assert refusal.refused
            assert not difference(before, daemon.host.state())
            assert daemon.services.ports.get(port.device).filter == ""


@hastily
async def test_a_guests_end_gets_its_addresses_and_routes() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        inside = ["192.168.77.9/24", "fd77::9/64"], ["192.168.77.1", "fe80::1"]
        spec = {"kind": "veth", "netns": "guest", "addresses": inside[0], "gateways": inside[1]}
        await daemon.services.ports.attach(ROOT, "lab", spec)
        assert daemon.host.guests.configured == {"eth0": [*inside[0], *inside[1]]}
        one = {"kind": "veth", "netns": "guest", "guest_device": "lan0", "addresses": "192.168.77.8/24"}
        await daemon.services.ports.attach(ROOT, "lab", one)
        assert daemon.host.guests.configured["lan0"] == ["192.168.77.8/24"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "veth", "netns": "guest", "addresses": ["192.168.77.9"]}, "addresses"),
        ({"kind": "veth", "netns": "guest", "addresses": ["all/24"]}, "addresses"),
        ({"kind": "veth", "netns": "guest", "gateways": ["192.168.77.1"]}, "192.168.77.1 lies in the subnet of none"),
        (
            {"kind": "veth", "netns": "guest", "addresses": ["10.0.0.2/8"], "gateways": ["10.0.0.1", "10.0.0.3"]},
            "one default route of each",
        ),
        ({"kind": "tap", "addresses": ["192.168.77.9/24"]}, "addresses cannot be given for kind tap"),
        ({"kind": "tap", "netns": "guest"}, "netns cannot be given for kind tap"),
    ],
)
@hastily
async def test_addresses_a_guest_cannot_have_are_refused(spec: dict[str, Any], words: str) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        with pytest.raises(Invalid, match=words):
            await daemon.services.ports.attach(ROOT, "lab", spec)
        assert not difference(before, daemon.host.state())


@pytest.mark.parametrize("kind", ["veth", "macvlan"])
@hastily
async def test_nobody_gets_devices_and_routes_into_a_namespace_of_somebody_else(kind: str) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        owners, before = daemon.host.guests.owners, daemon.host.state()
        spec: dict[str, Any] = {"kind": kind, "netns": "guest"}
        spec |= {"lower": "eth0"} if kind == "macvlan" else {"filter": "no-mac-spoofing"}
        for owner, caller, error, words in (
            (0, ALICE, (Denied, Unsupported), r"belongs to uid 0: only that user|filter"),
            (BOB.uid, ALICE, (Denied, Unsupported), r"belongs to uid 1001|filter"),
            (None, ROOT, Invalid, "host's own network namespace"),
        ):
            owners[os.devnull] = owner
            with pytest.raises(error, match=words):
                await daemon.services.ports.attach(caller, "lab", spec)
            assert not difference(before, daemon.host.state())
        owners[os.devnull] = ALICE.uid
        if kind == "veth":
            await daemon.services.ports.attach(ALICE, "lab", spec)
        await daemon.services.ports.attach(ROOT, "lab", {**spec, "guest_device": "lan1"})


@hastily
async def test_who_is_not_root_takes_no_others_mac_and_leaves_no_isolation() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, isolated_ports=True)
        ports = daemon.services.ports
        port = (await tap(daemon, caller=ALICE, mac=MAC)).port
        before = daemon.host.state()
        with pytest.raises(Denied, match=rf"{MAC} belongs to port {port.device} of another user"):
            await tap(daemon, caller=BOB, mac=MAC, duplicate_mac=True)
        with pytest.raises(Denied, match="lab are isolated, and only root"):
            await tap(daemon, caller=ALICE, isolated=False)
        with pytest.raises(Denied, match="lab are isolated, and only root"):
            await ports.set_isolated(ALICE, port.uuid, False)
        assert not difference(before, daemon.host.state())
        assert (await tap(daemon, caller=ALICE, mac=MAC, duplicate_mac=True)).port.mac == MAC
        await tap(daemon, mac=MAC, duplicate_mac=True)
        await ports.set_isolated(ROOT, port.uuid, False)
        assert not isolated(daemon, port.device)


@hastily
async def test_a_port_that_root_isolated_stays_so_until_root_says_otherwise() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        ports = daemon.services.ports
        port = (await tap(daemon, caller=ALICE)).port
        await ports.set_isolated(ALICE, port.uuid, True)
        await ports.set_isolated(ALICE, port.uuid, False)
        await ports.set_isolated(ROOT, port.uuid, True)
        with pytest.raises(Denied, match=rf"port {port.device} was isolated by root, who alone"):
            await ports.set_isolated(ALICE, port.uuid, False)
        assert isolated(daemon, port.device)
        await ports.set_isolated(ROOT, port.uuid, False)
        await ports.set_isolated(ALICE, port.uuid, True)
        await ports.set_isolated(ALICE, port.uuid, False)
        assert not isolated(daemon, port.device)
