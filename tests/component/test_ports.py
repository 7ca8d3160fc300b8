"""Ports on a host in memory: made whole or not at all, filtered before they are reachable, gone with their device."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call, Refusal, crash, nth, verb
from support.memory_daemon import ROOT, Running, defined, raised, running, view
from support.memory_host import difference, host_with_uplink
from support.memory_ports import KINDS, plug
from support.waiting import eventually

from vnetd.model.errors import Busy, HostError, NotFound, VnetError
from vnetd.plan.kernel import DeleteLink, SetLink
from vnetd.service.views import Added, Removed


async def close(daemon: Running, fds: Sequence[int]) -> None:
    """What the receiver of fds does in the end."""
    await daemon.host.tap_devices.close(fds)


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_a_port_is_in_its_bridge_up_and_recorded_and_its_end_leaves_nothing(kind: str) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, mtu=1400)
        if kind == "existing":
            daemon.host.links.create("tap7", "tun", "52:54:00:00:00:07")
        before = daemon.host.state()
        attached = await plug(daemon, kind)
        link, bridge = daemon.host.link(attached.port.device), daemon.host.link("virbr0")
        assert link is not None and bridge is not None
        assert (link.master, link.up) == (bridge.index, True)
        if kind != "existing":
            assert (link.mtu, link.alias) == (1400, f"vnetd:port:{attached.port.uuid}")
            assert link.mac == "fe" + attached.port.mac[2:]
        assert len(attached.fds) == (2 if kind == "tap-fd" else 0)
        assert (view(daemon).ports, len(daemon.told(Added))) == ((attached.port.uuid,), 2)
        await daemon.services.ports.detach(ROOT, attached.port.uuid)
        assert (view(daemon).ports, daemon.services.ports.list()) == ((), ())
        left = difference(before, daemon.host.state())
        if kind == "existing":
            left.pop("link tap7")
            link = daemon.host.link("tap7")
            assert link is not None and link.master == 0, "a device of somebody else stays, outside the bridge"
        assert not left
        assert [one.view.uuid for one in daemon.told(Removed)] == [attached.port.uuid]


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_its_filter_is_in_force_before_a_port_joins_the_bridge_or_is_up(kind: str) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        in_force: list[bool] = []

        async def look(call: Call) -> None:
            if call.verb == "kernel.SetLink" and (call.arguments[0].master or call.arguments[0].up):
                in_force.append(any("set bridge" in key and members for key, members in daemon.host.ruleset().items()))

        daemon.host.before = look
        await plug(daemon, kind)
        assert in_force == [True]


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_whatever_call_of_an_attachment_fails_nothing_is_left(kind: str) -> None:
    number = 0
    while True:
        async with running(host_with_uplink()) as daemon:
            await raised(daemon)
            daemon.host.deafen()
            if kind == "existing":
                daemon.host.links.create("tap7", "tun", "52:54:00:00:00:07")
            before = daemon.host.state()
            daemon.host.before = refusal = Refusal(nth(number))
            try:
                await plug(daemon, kind)
            except VnetError as error:
                (refused,) = refusal.refused
                assert refused.words in str(error)
                assert not difference(before, daemon.host.state()), f"left over when {refused} fails"
                assert (daemon.services.ports.list(), view(daemon).ports) == ((), ())
                assert not any(one.used_by for one in daemon.services.filters.list())
                await plug(daemon, kind)
            else:
                assert not refusal.refused
                break
        number += 1
    assert number >= 5


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_whenever_an_attachment_is_cancelled_nothing_is_left(kind: str) -> None:
    for number in range(5):
        async with running(host_with_uplink()) as daemon:
            await raised(daemon)
            daemon.host.deafen()
            if kind == "existing":
                daemon.host.links.create("tap7", "tun", "52:54:00:00:00:07")
            before, chosen = daemon.host.state(), nth(number)
            task = asyncio.create_task(plug(daemon, kind))

            async def cancel(call: Call) -> None:
                if chosen(call):  # noqa: B023
                    task.cancel()  # noqa: B023
                    await asyncio.sleep(0)

            daemon.host.before = cancel
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not difference(before, daemon.host.state())
            assert daemon.services.ports.list() == ()


@hastily
async def test_no_descriptor_stays_open_when_a_tap_cannot_be_handed_out() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = len(os.listdir("/proc/self/fd"))
        for step in ("kernel.SetLink", "store.save", "nft.commit", "taps.open_seen", "kernel.links_named"):
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await plug(daemon, "tap-fd")
            with pytest.raises(NotFound):
                await plug(daemon, "veth", netns="nowhere")
        assert len(os.listdir("/proc/self/fd")) == before


@hastily
async def test_a_port_goes_with_its_device() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        tap = await plug(daemon, "tap-fd")
        veth = await plug(daemon, "veth")
        await close(daemon, tap.fds)
        daemon.host.perform(DeleteLink(veth.port.device, ""))  # the guest's namespace is deleted
        await eventually(lambda: not daemon.services.ports.list(), "both are gone")
        await eventually(lambda: not difference(before, daemon.host.state()), "with all they had")
        assert {one.view.uuid for one in daemon.told(Removed)} == {tap.port.uuid, veth.port.uuid}
        assert view(daemon).healed_count == 0


@hastily
async def test_a_device_that_goes_while_it_is_being_attached_leaves_no_port() -> None:
    for step in ("kernel.SetLink", "namespaces.configure_peer"):
        async with running(host_with_uplink()) as daemon:
            await raised(daemon)
            before = daemon.host.state()

            async def vanish(call: Call) -> None:
                if call.verb == step:  # noqa: B023
                    daemon.host.before = nothing
                    (device,) = daemon.host.devices() - {"eth0", "virbr0"}
                    daemon.host.perform(DeleteLink(device, ""))

            daemon.host.before = vanish
            with suppress(HostError):
                await plug(daemon, "veth")
            await eventually(lambda: not daemon.services.ports.list(), "no port is left")
            await eventually(lambda: not difference(before, daemon.host.state()), "nor anything of it")  # noqa: B023


async def nothing(_: Call) -> None:
    """Before a call."""


@hastily
async def test_a_port_that_cannot_be_forgotten_at_once_is_forgotten_later() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        tap = await plug(daemon, "tap-fd")
        daemon.host.before = Refusal(verb("store.delete", "nft.commit"), times=3)
        await close(daemon, tap.fds)
        await eventually(lambda: not daemon.services.ports.list(), "it goes at last", deadline=60)
        assert not difference(before, daemon.host.state())


@pytest.mark.parametrize("kind", KINDS)
@hastily
async def test_a_port_attached_while_its_bridge_is_away_joins_it_when_it_is_back(kind: str) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        if kind == "existing":
            daemon.host.links.create("tap7", "tun", "52:54:00:00:00:07")
        daemon.host.perform(DeleteLink("virbr0", ""))
        device = (await plug(daemon, kind)).port.device

        def plugged() -> bool:
            bridge, link = daemon.host.link("virbr0"), daemon.host.link(device)
            return bridge is not None and link is not None and (link.master, link.up) == (bridge.index, True)

        await eventually(plugged, "it is in the new bridge")


@hastily
async def test_a_bridge_that_is_made_anew_gets_its_ports_back() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        devices = [(await plug(daemon, kind)).port.device for kind in KINDS]
        daemon.host.perform(DeleteLink("virbr0", ""))
        assert {daemon.host.link(device).master for device in devices} == {0}  # type: ignore[union-attr]
        await eventually(lambda: daemon.host.link("virbr0"), "the bridge is back")

        def plugged() -> bool:
            bridge = daemon.host.link("virbr0")
            links = [daemon.host.link(device) for device in devices]
            return bridge is not None and all(link and link.master == bridge.index and link.up for link in links)

        await eventually(plugged, "its ports are too")


@hastily
async def test_a_port_taken_out_or_down_or_of_another_mtu_is_put_right_and_counted_for_its_network() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        await raised(daemon, "other", 78)
        device = (await plug(daemon, "tap")).port.device
        await asyncio.sleep(1)
        before = daemon.host.state()
        for number, change in enumerate(
            (SetLink(device, master=""), SetLink(device, up=False), SetLink(device, mtu=900))
        ):
            daemon.host.perform(change)
            await eventually(lambda: not difference(before, daemon.host.state()), "it is put right")
            await asyncio.sleep(1)
            assert (view(daemon).healed_count, view(daemon, "other").healed_count) == (number + 1, 0)


@hastily
async def test_ports_of_isolated_ports_networks_are_isolated() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, isolated_ports=True)
        for kind in KINDS:
            link = daemon.host.link((await plug(daemon, kind)).port.device)
            assert link is not None and link.isolated


@hastily
async def test_a_network_that_is_not_active_takes_no_ports() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await raised(daemon)
        with pytest.raises(NotFound, match="nonet"):
            await plug(daemon, "veth", network="nonet")
        await daemon.services.networks.stop(ROOT, uuid)
        for kind in ("veth", "tap", "tap-fd"):
            with pytest.raises(Busy, match="lab is not active"):
                await plug(daemon, kind)


@hastily
async def test_a_stop_takes_all_ports_out_and_says_which_it_could_not() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await defined(daemon)
        before = daemon.host.state()
        await daemon.services.networks.start(ROOT, network.uuid)
        first, second = await plug(daemon, "veth"), await plug(daemon, "tap")
        stuck = first.port.device
        daemon.host.before = Refusal(lambda call: call.verb == "kernel.DeleteLink" and call.words == stuck)
        with pytest.raises(HostError, match=stuck):
            await daemon.services.networks.stop(ROOT, network.uuid)
        assert (view(daemon).state, daemon.host.devices()) == ("inactive", {"eth0", stuck})
        assert [one.device for one in daemon.services.ports.list()] == [stuck]
        assert second.port.device not in daemon.host.devices()
        await daemon.services.ports.detach(ROOT, first.port.uuid)
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_daemon_that_cannot_be_reached_any_more_was_not_needed_for_guests() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        await plug(daemon, "tap")
        before = host.state()
        host.before = crash(0)
    assert not difference(before, host.state())
