"""Ports that get another network or port group while their guests run: wholly, or not at all."""

from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Refusal, crash
from support.memory_daemon import ROOT, Running, defined, lab, raised, running, view
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Busy, Denied, Exists, HostError, InUse, NotFound, VnetError
from vnetd.plan.kernel import SetLink
from vnetd.service.views import Attached, Caller, Changed, LifecycleEvent

MAC = "52:54:00:00:00:07"
SLOW = {"name": "slow", "default": True, "bandwidth": {"inbound": {"average": 64}, "outbound": {"average": 32}}}
FAST = {"name": "fast", "bandwidth": {"inbound": {"average": 6400}}}
OTHER = {"mtu": 1400, "isolated_ports": True, "portgroups": [SLOW, FAST], "bandwidth": {"inbound": {"average": 9000}}}


async def tap(daemon: Running, network: str = "lab", **spec: Any) -> Attached:
    """A persistent tap with a filter."""
    return await daemon.services.ports.attach(ROOT, network, {"kind": "tap", "filter": "no-mac-spoofing", **spec})


def place(host: MemoryHost, device: str) -> tuple[str, int, bool, bool]:
    """Bridge, MTU, whether isolated and whether up."""
    link = host.link(device)
    assert link is not None
    master = host.links.entries[link.master].link.name if link.master else ""
    return master, link.mtu, link.isolated, link.up


@hastily
async def test_a_port_that_moves_gets_what_its_new_network_gives() -> None:
    async with running(host_with_uplink()) as daemon:
        lab_uuid, other = await raised(daemon), await raised(daemon, "other", 78, **OTHER)
        stays = (await tap(daemon)).port
        port = (await tap(daemon, mac=MAC)).port
        before = daemon.host.state()
        bridge = view(daemon, "other").bridge
        await daemon.services.ports.move(ROOT, port.uuid, "other")
        assert place(daemon.host, port.device) == (bridge, 1400, True, True)
        moved = daemon.services.ports.get(port.device)
        assert (moved.network, moved.network_name, moved.portgroup) == (other, "other", "slow")
        assert moved.bandwidth == {"inbound.average": 64, "outbound.average": 32}
        assert (view(daemon).ports, view(daemon, "other").ports) == ((stays.uuid,), (port.uuid,))
        assert {one.view.uuid for one in daemon.told(Changed)} >= {port.uuid, lab_uuid, other}
        assert [one.details for one in daemon.told(LifecycleEvent) if one.kind == "moved"] == [
            {"from": "lab", "to": "other"}
        ]
        await daemon.services.ports.set_port_group(ROOT, port.uuid, "fast")
        assert daemon.services.ports.get(port.device).bandwidth == {"inbound.average": 6400}
        with pytest.raises(NotFound, match="nogroup"):
            await daemon.services.ports.set_port_group(ROOT, port.uuid, "nogroup")
        await daemon.services.ports.set_port_group(ROOT, port.uuid, "")
        assert daemon.services.ports.get(port.device).portgroup == "slow"
        await daemon.services.ports.move(ROOT, port.uuid, str(lab_uuid))
        await daemon.services.ports.move(ROOT, port.uuid, "lab")
        assert not difference(before, daemon.host.state())
        assert view(daemon).healed_count == view(daemon, "other").healed_count == 0
        await daemon.services.ports.detach(ROOT, port.uuid)


@hastily
async def test_a_moved_port_is_kept_where_it_is_now_and_goes_with_that_network() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        other = await raised(daemon, "other", 78)
        port = (await tap(daemon)).port
        await daemon.services.ports.move(ROOT, port.uuid, "other")
        here = place(daemon.host, port.device)
        daemon.host.perform(SetLink(port.device, master="virbr0"))
        await eventually(lambda: place(daemon.host, port.device) == here, "it is put back")
        await eventually(lambda: view(daemon, "other").healed_count == 1, "and counted there")
        await daemon.services.networks.stop(ROOT, other)
        assert daemon.host.link(port.device) is None and not daemon.services.ports.list()


@hastily
async def test_a_move_the_new_network_cannot_take_is_refused_and_changes_nothing() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, bandwidth={"inbound": {"average": 9000}})
        await raised(daemon, "other", 78, bandwidth={"inbound": {"average": 100}})
        await defined(daemon, lab("asleep", 79))
        port = (await tap(daemon, mac=MAC, **{"inbound.floor": 101})).port
        await tap(daemon, "other", mac=MAC)
        before = daemon.host.state()
        ports = daemon.services.ports
        refusals: list[tuple[Caller, str, type[VnetError], str]] = [
            (ROOT, "nonet", NotFound, "nonet"),
            (ROOT, "asleep", Busy, "asleep"),
            (ROOT, "other", Exists, MAC),
            (Caller(1000), "other", Denied, port.device),
        ]
        for caller, network, error, words in refusals:
            with pytest.raises(error, match=words):
                await ports.move(caller, port.uuid, network)
        twin = next(one for one in ports.list() if one.network_name == "other")
        await ports.detach(ROOT, twin.uuid)
        now = daemon.host.state()
        with pytest.raises(InUse, match="101 kB/s"):
            await ports.move(ROOT, port.uuid, "other")
        assert not difference(now, daemon.host.state())
        assert before.keys() > now.keys()


@hastily
async def test_a_move_that_fails_at_any_step_puts_the_port_back() -> None:
    failures = 0
    for number in range(40):
        async with running(host_with_uplink()) as daemon:
            await raised(daemon, bandwidth={"inbound": {"average": 9000}})
            await raised(daemon, "other", 78, **OTHER)
            port = (await tap(daemon, **{"inbound.floor": 10})).port
            before = daemon.host.state()
            daemon.host.before = Refusal(_changing(number))
            try:
                await daemon.services.ports.move(ROOT, port.uuid, "other")
            except HostError:
                failures += 1
                assert not difference(before, daemon.host.state())
                assert daemon.services.ports.get(port.device).network_name == "lab"
                assert (view(daemon).ports, view(daemon, "other").ports) == ((port.uuid,), ())
            else:
                break
    assert failures > 8


def _changing(number: int) -> Any:
    """The change with this number, from now on."""
    seen = iter(range(10**6))
    return lambda call: call.changes and next(seen) == number


@hastily
async def test_a_daemon_that_is_killed_during_a_move_finishes_it_or_has_not_begun() -> None:
    outcomes = []
    for number in range(60):
        host = host_with_uplink()
        async with running(host) as daemon:
            await raised(daemon, bandwidth={"inbound": {"average": 9000}})
            await raised(daemon, "other", 78, **OTHER)
            port = (await tap(daemon, **{"inbound.floor": 10})).port
            places = {"lab": (view(daemon).bridge, 1500, False, True)}
            places["other"] = (view(daemon, "other").bridge, 1400, True, True)
            host.before = crash(number)
            try:
                await daemon.services.ports.move(ROOT, port.uuid, "other")
                alive = True
            except HostError:
                alive = False
        async with running(host) as again:
            now = again.services.ports.get(port.device)
            assert place(host, port.device) == places[now.network_name]
            outcomes.append(now.network_name)
            await again.services.ports.detach(ROOT, port.uuid)
            assert not [name for name in host.devices() if name.startswith("ifb")]
            assert not [key for key in host.state() if "set bridge isolated" in key]
        if alive:
            break
    assert set(outcomes) == {"lab", "other"}


@hastily
async def test_isolation_of_a_networks_ports_follows_its_document() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await raised(daemon)
        ports = [(await tap(daemon)).port, (await tap(daemon, isolated=False)).port]
        before = daemon.host.state()
        redefine = daemon.services.networks.define
        await redefine(ROOT, lab("lab", 77, uuid=str(network), isolated_ports=True), {})
        assert [daemon.services.ports.get(port.device).isolated for port in ports] == [True, False]
        assert [place(daemon.host, port.device)[2] for port in ports] == [True, False]
        assert "isolated" in repr(sorted(daemon.host.ruleset()))
        await redefine(ROOT, lab("lab", 77, uuid=str(network)), {})
        assert [key for key in difference(before, daemon.host.state()) if "document" not in key] == []
        assert view(daemon).healed_count == 0


@hastily
async def test_an_owner_who_is_not_root_takes_nothing_along_that_only_root_gives() -> None:
    owner = Caller(1000, name=":1.7", administrator=False)
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        await raised(daemon, "other", 78, **OTHER)
        ports = daemon.services.ports
        free = (await ports.attach(owner, "lab", {"kind": "tap"})).port
        await ports.set_isolated(ROOT, free.uuid, False)
        wide = (await ports.attach(owner, "lab", {"kind": "tap", "inbound.average": 65})).port
        before = daemon.host.state()
        with pytest.raises(Denied, match="ports of network other are isolated"):
            await ports.move(owner, free.uuid, "other")
        with pytest.raises(Denied, match=r"inbound\.average of 64 kB/s at most"):
            await ports.move(owner, wide.uuid, "other")
        assert not difference(before, daemon.host.state())
        await ports.set_bandwidth(owner, wide.uuid, {"inbound.average": 64, "outbound.average": 32})
        await ports.move(owner, wide.uuid, "other")
        await ports.move(ROOT, free.uuid, "other")


@hastily
async def test_limits_root_gave_a_port_go_along_but_not_to_where_they_are_more_than_others_get() -> None:
    owner = Caller(1000, name=":1.7", administrator=False)
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        await raised(daemon, "other", 78, **OTHER)
        ports = daemon.services.ports
        port = (await ports.attach(owner, "lab", {"kind": "tap"})).port
        await ports.set_bandwidth(ROOT, port.uuid, {"inbound.average": 65, "outbound.average": 32})
        await ports.set_bandwidth(owner, port.uuid, {"inbound.average": 10})
        before = daemon.host.state()
        with pytest.raises(Denied, match=rf"{port.device} may have inbound\.average of 64 kB/s at most"):
            await ports.move(owner, port.uuid, "other")
        assert not difference(before, daemon.host.state())
        await ports.set_bandwidth(ROOT, port.uuid, {"inbound.average": 50})
        await ports.move(owner, port.uuid, "other")
        with pytest.raises(Denied, match=r"inbound\.average of 50 kB/s at most"):
            await ports.set_bandwidth(owner, port.uuid, {"inbound.average": 51})
        await ports.set_bandwidth(ROOT, port.uuid, {"inbound.average": 6400})
        await ports.move(owner, port.uuid, "lab")
        with pytest.raises(Denied, match=r"inbound\.average of 64 kB/s at most"):
            await ports.move(owner, port.uuid, "other")
        await ports.move(ROOT, port.uuid, "other")
        await ports.set_bandwidth(owner, port.uuid, {"inbound.average": 6400})
