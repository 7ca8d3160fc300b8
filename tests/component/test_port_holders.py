"""What the holder of a tap does with it that only a hostile one would, and what the owner of a port may do."""

from dataclasses import replace
from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Refusal, verb
from support.memory_daemon import ROOT, Running, defined, lab, running
from support.memory_host import difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import HostError
from vnetd.plan.kernel import SetLink
from vnetd.service.views import Attached, PortView

HIJACK = "52:54:00:00:00:66"


async def opened(daemon: Running, **spec: Any) -> Attached:
    """A tap handed out, on a network that runs."""
    if not daemon.services.networks.list():
        network = await defined(daemon, lab())
        await daemon.services.networks.start(ROOT, network.uuid)
    return await daemon.services.ports.open_tap(ROOT, "lab", spec)


def port(daemon: Running) -> PortView | None:
    """The only port, if it is there."""
    return next(iter(daemon.services.ports.list()), None)


def up(daemon: Running, device: str) -> bool:
    """Whether a device is up."""
    link = daemon.host.link(device)
    assert link is not None
    return link.up


async def hijack(daemon: Running, device: str) -> None:
    """Give the host's side another MAC, and wait until somebody reacts."""
    daemon.host.perform(SetLink(device, mac=HIJACK))

    def restored() -> bool:
        link = daemon.host.link(device)
        return link is None or link.mac != HIJACK

    await eventually(restored, "the MAC is restored")


@hastily
async def test_a_tap_that_outlives_its_last_queue_is_deleted() -> None:
    async with running(host_with_uplink()) as daemon:
        attached = await opened(daemon, queues=2, filter="no-mac-spoofing")
        device = attached.port.device
        daemon.host.tap_devices.tamper(device, persist=True, owner=65534)
        await daemon.host.tap_devices.close(attached.fds[:1])
        await daemon.services.reconcile(ROOT)
        assert port(daemon), "somebody holds it still"
        await daemon.host.tap_devices.close(attached.fds[1:])
        await eventually(lambda: port(daemon) is None, "the port ends")
        assert daemon.host.link(device) is None


@hastily
async def test_a_tap_that_outlived_its_last_queue_while_no_daemon_ran_is_deleted_by_the_next() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        attached = await opened(daemon)
    host.tap_devices.tamper(attached.port.device, persist=True)
    await host.tap_devices.close(attached.fds)
    assert host.link(attached.port.device)
    async with running(host) as daemon:
        await eventually(lambda: port(daemon) is None, "the port ends")
        assert host.link(attached.port.device) is None


@hastily
async def test_a_persistent_tap_nobody_has_opened_stays() -> None:
    async with running(host_with_uplink()) as daemon:
        attached = await opened(daemon)
        await daemon.host.tap_devices.close(attached.fds)
        await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap", "device": "mine"})
        await daemon.services.reconcile(ROOT)
        link = daemon.host.link("mine")
        assert link and link.tun and link.tun.persist


@pytest.mark.parametrize(
    ("spec", "owner", "group"),
    [({}, 0, -1), ({"owner": 107}, 107, -1), ({"group": 36}, -1, 36), ({"owner": 107, "group": 36}, 107, 36)],
)
@hastily
async def test_a_persistent_tap_is_nobodys_but_whom_it_is_for(spec: dict[str, int], owner: int, group: int) -> None:
    async with running(host_with_uplink()) as daemon:
        await opened(daemon)
        await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap", "device": "mine", **spec})
        link = daemon.host.link("mine")
        assert link and link.tun and (link.tun.owner, link.tun.group) == (owner, group)


@hastily
async def test_a_tap_whose_hosts_side_gets_another_mac_is_set_down_and_says_why() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        device = (await opened(daemon)).port.device
        await hijack(daemon, device)
        await eventually(lambda: port(daemon).problems, "the problem is named")  # type: ignore[union-attr]
        assert not up(daemon, device)
        shown = port(daemon)
        assert shown and (shown.state, shown.link_up) == ("degraded", True)
        assert f"MAC address {HIJACK}" in shown.problems[0] and "1 of 3 times" in shown.problems[0]
        await daemon.services.ports.set_filter(ROOT, shown.uuid, "no-mac-spoofing", {})
        await daemon.services.reconcile(ROOT)
        assert not up(daemon, device), "nothing but its link brings it back"
    async with running(host) as daemon:
        assert not up(daemon, device)
        shown = port(daemon)
        assert shown and "1 of 3 times" in shown.problems[0]
        await daemon.services.ports.set_link(ROOT, shown.uuid, True)
        assert up(daemon, device)
        shown = port(daemon)
        assert shown and (shown.state, shown.problems) == ("active", ())


@hastily
async def test_a_holder_that_goes_on_is_detached() -> None:
    async with running(host_with_uplink()) as daemon:
        shown = (await opened(daemon)).port
        for _ in range(2):
            await hijack(daemon, shown.device)
            await eventually(lambda: not up(daemon, shown.device), "it is down")
            await daemon.services.ports.set_link(ROOT, shown.uuid, True)
        await hijack(daemon, shown.device)
        await eventually(lambda: port(daemon) is None, "it is detached")
        assert daemon.host.link(shown.device) is None


@hastily
async def test_tampering_while_no_daemon_runs_is_found_by_the_next() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        device = (await opened(daemon)).port.device
    host.perform(SetLink(device, mac=HIJACK))
    async with running(host) as daemon:
        await eventually(lambda: port(daemon).problems, "the problem is named")  # type: ignore[union-attr]
        link = host.link(device)
        assert link and (link.up, link.mac[:2]) == (False, "fe")


@hastily
async def test_a_veth_whose_hosts_side_gets_another_mac_has_it_restored_and_stays_up() -> None:
    async with running(host_with_uplink()) as daemon:
        attached = await opened(daemon)
        await daemon.host.tap_devices.close(attached.fds)
        await eventually(lambda: port(daemon) is None, "the tap is gone")
        veth = await daemon.services.ports.attach(ROOT, "lab", {"kind": "veth", "netns": "guest"})
        await hijack(daemon, veth.port.device)
        shown = port(daemon)
        assert shown and up(daemon, shown.device) and not shown.problems


@hastily
async def test_a_link_is_unplugged_stays_so_and_is_plugged_again() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        shown = (await opened(daemon, link=False)).port
        assert not shown.link_up and not up(daemon, shown.device)
        await daemon.services.ports.set_link(ROOT, shown.uuid, True)
        assert up(daemon, shown.device)
        await daemon.services.ports.set_link(ROOT, shown.uuid, False)
        assert not up(daemon, shown.device)
        daemon.host.perform(SetLink(shown.device, up=True))
        await eventually(lambda: not up(daemon, shown.device), "it is unplugged again")
    async with running(host) as daemon:
        assert not up(daemon, shown.device)
        assert (port(daemon) or shown).link_up is False
        before = host.state()
        for step in ("store.save", "kernel.SetLink"):
            host.before = refusal = Refusal(verb(step))
            with pytest.raises(HostError):
                await daemon.services.ports.set_link(ROOT, shown.uuid, True)
            assert refusal.refused and not difference(before, host.state())


@pytest.mark.parametrize("queues", [1, 2])
@hastily
async def test_a_persistent_tap_given_to_others_is_made_anew_with_all_it_had(queues: int) -> None:
    async with running(host_with_uplink()) as daemon:
        await opened(daemon)
        wanted = {"kind": "tap", "device": "mine", "owner": 1000, "group": 7, "queues": queues, "inbound.average": 100}
        made = (await daemon.services.ports.attach(ROOT, "lab", wanted)).port
        before = daemon.host.link("mine")
        limits = daemon.host.links.limits.of(before.index)
        daemon.host.tap_devices.tamper("mine", owner=65534)
        await eventually(lambda: daemon.host.link("mine").index != before.index, "it is another one")
        await eventually(lambda: daemon.host.link("mine").up, "it is in service")
        after = daemon.host.link("mine")
        assert replace(after, index=before.index) == before
        assert daemon.host.links.limits.of(after.index) == limits
        assert [one.uuid for one in daemon.services.ports.list() if one.device == "mine"] == [made.uuid]
