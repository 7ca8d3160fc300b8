"""What is found broken when somebody changes something is a repair like any other: told, counted, part of a fight."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Refusal, verb
from support.memory_daemon import ROOT, Running, defined, lab, running, view
from support.memory_healing import quiet, settled
from support.memory_host import MemoryHost, host_with_uplink
from support.memory_ports import plug
from support.memory_switches import office, redefine, rich_host, start
from support.memory_switches import view as switch_view

from vnetd.model.errors import HostError
from vnetd.plan.kernel import DeleteLink, SetLink, WriteSysctl
from vnetd.reconcile.backoff import LIMIT
from vnetd.service.views import Changed, Healed

Change = Callable[[Running, str], Awaitable[object]]


async def redefined(daemon: Running, uuid: str) -> None:
    """The network gets another route."""
    routes = [{"destination": "10.99.0.0/16", "gateway": "192.168.77.3"}]
    await defined(daemon, lab(uuid=uuid, routes=routes))


async def started_beside(daemon: Running, _: str) -> None:
    """Another network starts."""
    network = await defined(daemon, lab("other", 78))
    await daemon.services.networks.start(ROOT, network.uuid)


def told(daemon: Running) -> list[tuple[str, str]]:
    """What was announced as repaired, and of which network or switch."""
    return [(one.name, one.what) for one in daemon.told(Healed)]


BRIDGE = "bridge virbr0"
BROKEN: dict[str, tuple[Callable[[MemoryHost], object], Change, str]] = {
    "a bridge, as its network is changed": (
        lambda host: host.perform(SetLink("virbr0", mtu=1300)),
        redefined,
        BRIDGE,
    ),
    "a bridge that is gone, as its network is changed": (
        lambda host: host.perform(DeleteLink("virbr0", "")),
        redefined,
        BRIDGE,
    ),
    "forwarding, as a network starts that needs it": (
        lambda host: host.perform(WriteSysctl(("net", "ipv4", "conf", "eth0", "forwarding"), "0")),
        started_beside,
        "sysctl net/ipv4/conf/eth0/forwarding",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@hastily
async def test_what_a_change_finds_broken_is_told_and_counted_once_and_nothing_else_is(case: str) -> None:
    destroy, change, what = BROKEN[case]
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        destroy(daemon.host)
        await change(daemon, uuid)
        await quiet(daemon)
        assert told(daemon) == [("lab", what)]
        assert (view(daemon).healed_count, view(daemon).state) == (1, "active")


@hastily
async def test_a_change_that_fails_after_a_repair_is_not_left_told() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        daemon.host.perform(SetLink("virbr0", mtu=1300))
        daemon.host.before = Refusal(verb("kernel.DeleteAddress"))
        with pytest.raises(HostError):
            await defined(daemon, lab(uuid=uuid, net=79))
        assert told(daemon) == [("lab", BRIDGE)]
        assert daemon.told(Changed)[-1].view == view(daemon)
        assert "192.168.77.1/24" in view(daemon).addresses


@hastily
async def test_who_breaks_something_before_each_change_fights() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        for number in range(LIMIT):
            daemon.host.perform(SetLink("virbr0", mtu=1300))
            routes = [{"destination": f"10.{number}.0.0/16", "gateway": "192.168.77.3"}]
            await defined(daemon, lab(uuid=uuid, routes=routes))
        await asyncio.sleep(0)
        (problem,) = view(daemon).problems
        assert BRIDGE in problem and "by ip" in problem


@hastily
async def test_what_new_name_servers_find_broken_is_told_and_they_are_no_drift() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        daemon.host.perform(SetLink("virbr0", mtu=1300))
        daemon.host.processes.change_resolvers("9.9.9.9")
        await quiet(daemon)
        assert told(daemon) == [("lab", BRIDGE)]


@hastily
async def test_what_a_change_of_a_port_finds_broken_is_told() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        port = (await plug(daemon, "tap")).port
        await quiet(daemon)
        daemon.host.perform(SetLink(port.device, mtu=1300))
        await daemon.services.ports.set_isolated(ROOT, port.uuid, True)
        await quiet(daemon)
        assert told(daemon) == [("lab", f"MTU of port {port.device}")]


@hastily
async def test_what_a_port_finds_broken_as_it_moves_is_told_of_the_network_it_was_in() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await settled(daemon, "other", 78)
        port = (await plug(daemon, "tap")).port
        await quiet(daemon)
        daemon.host.perform(SetLink(port.device, mtu=1300))
        await daemon.services.ports.move(ROOT, port.uuid, "other")
        await quiet(daemon)
        assert told(daemon) == [("lab", f"MTU of port {port.device}")]


async def test_what_a_change_of_a_switch_finds_broken_is_told() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon, office())
        await daemon.looked()
        host.perform(SetLink("br0", mtu=1300))
        await redefine(daemon, priority=4096)
        await daemon.looked()
        assert told(daemon) == [(switch_view(daemon).name, "bridge br0")]
