"""Limits of networks and ports on a host in memory: in force before a guest is reached, healed, changed, given back."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Refusal, verb
from support.memory_daemon import ROOT, Running, defined, lab, raised, running, view
from support.memory_host import difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Denied, HostError, InUse, Invalid, Unsupported
from vnetd.model.network_ports import Bandwidth
from vnetd.plan.kernel import DeleteLink, SetLink
from vnetd.plan.shaping import shaping_of
from vnetd.plan.traffic import (
    AddFilter,
    AddHtb,
    CreateIfb,
    DeleteClass,
    DeleteFilter,
    DeleteRoot,
    EndRedirect,
    HtbClass,
    PutClass,
    Redirect,
    ToClass,
    Traffic,
)
from vnetd.service.views import Attached, Caller

MAC = "52:54:00:00:00:07"
BOTH = {"inbound.average": 4096, "inbound.burst": 512, "outbound.average": 1024}
LIMITED = {"bandwidth": {"inbound": {"average": 8192, "peak": 16384}, "outbound": {"average": 2048}}}


async def tap(daemon: Running, network: str = "lab", **spec: Any) -> Attached:
    """A persistent tap."""
    return await daemon.services.ports.attach(ROOT, network, {"kind": "tap", **spec})


def limits(daemon: Running, device: str) -> Traffic:
    """Traffic control of a device."""
    link = daemon.host.link(device)
    assert link is not None
    return daemon.host.links.limits.of(link.index)


def rates(daemon: Running, device: str) -> dict[int, int]:
    """kB/s of each class of a device."""
    return {one.minor: one.rate // 1024 for one in limits(daemon, device).classes}


def ifb_of(uuid: UUID) -> str:
    """The device that what a network's bridge or a port receives goes through."""
    return f"ifb{uuid.hex[:12]}"


@hastily
async def test_a_port_is_limited_both_ways_before_it_joins_its_bridge_and_leaves_nothing() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        port = (await tap(daemon, **BOTH)).port
        verbs = [call.verb for call in daemon.host.calls]
        joined = next(number for number, call in enumerate(daemon.host.calls) if "master='virbr0'" in repr(call))
        assert verbs.index("kernel.PutClass") < verbs.index("kernel.Redirect") < joined
        assert rates(daemon, port.device) == {1: 4096, 2: 4096}
        assert rates(daemon, ifb_of(port.uuid)) == {1: 1024, 2: 1024}
        ifb = daemon.host.link(ifb_of(port.uuid))
        assert ifb is not None and ifb.up and limits(daemon, port.device).redirect == ifb.index
        assert daemon.services.ports.get(port.device).bandwidth == BOTH
        await daemon.services.ports.detach(ROOT, port.uuid)
        assert not difference(before, daemon.host.state())


@hastily
async def test_limits_change_while_the_guest_runs_and_those_not_named_stay() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        unlimited = (await tap(daemon)).port
        before = daemon.host.state()
        ports = daemon.services.ports
        await ports.set_bandwidth(ROOT, unlimited.uuid, BOTH)
        await ports.set_bandwidth(ROOT, unlimited.uuid, {"inbound.average": 100, "inbound.burst": 0})
        assert ports.get(unlimited.device).bandwidth == {"inbound.average": 100, "outbound.average": 1024}
        assert rates(daemon, unlimited.device) == {1: 100, 2: 100}
        await ports.set_bandwidth(ROOT, unlimited.uuid, {"outbound.average": 0})
        assert daemon.host.link(ifb_of(unlimited.uuid)) is None and not limits(daemon, unlimited.device).ingress
        await ports.set_bandwidth(ROOT, unlimited.uuid, {"inbound.average": 0})
        left = difference(before, daemon.host.state())
        assert [key for key in left if not key.startswith("document run/ports")] == []


@pytest.mark.parametrize(
    "options",
    [
        {"inbound.average": -1},
        {"inbound.average": "4096"},
        {"inbound.average": True},
        {"inbound.average": 2**54 + 1},
        {"inbound.burst": 2**32, "inbound.average": 1},
        {"inbound.peak": 100},
        {"outbound.floor": 1},
        {"inbound": 7},
    ],
)
@hastily
async def test_limits_that_make_no_sense_are_refused_and_those_in_force_stay(options: dict[str, Any]) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        port = (await tap(daemon)).port
        before = daemon.host.state()
        with pytest.raises(Invalid, match=next(iter(options)).partition(".")[0]):
            await daemon.services.ports.set_bandwidth(ROOT, port.uuid, options)
        assert not difference(before, daemon.host.state())


@hastily
async def test_limits_that_cannot_be_set_leave_those_that_were() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        limited = (await tap(daemon, **BOTH)).port
        before = daemon.host.state()
        for step in ("kernel.PutClass", "store.save"):
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await daemon.services.ports.set_bandwidth(
                    ROOT, limited.uuid, {"inbound.average": 1, "inbound.burst": 0}
                )
            assert not difference(before, daemon.host.state())
        free = (await tap(daemon)).port
        before = daemon.host.state()
        for step in ("kernel.CreateIfb", "kernel.AddHtb", "kernel.Redirect"):
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await daemon.services.ports.set_bandwidth(ROOT, free.uuid, BOTH)
            assert not difference(before, daemon.host.state())
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await tap(daemon, **BOTH)
            assert not difference(before, daemon.host.state())


@hastily
async def test_limits_are_healed_whatever_of_them_goes() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await raised(daemon, **LIMITED)
        port = (await tap(daemon, **BOTH)).port
        before = daemon.host.state()
        ifb = ifb_of(port.uuid)
        wrong = HtbClass(2, 1, 1, 1, 1, 1, 1600, 131072)
        changes = (
            DeleteRoot(port.device), EndRedirect(port.device), DeleteLink(ifb, ""), SetLink(ifb, up=False),
            SetLink(ifb, alias=""), DeleteRoot(ifb), DeleteClass(port.device, 2), PutClass(port.device, wrong),
            AddFilter(port.device, ToClass(MAC, 2)), DeleteRoot("virbr0"), DeleteLink(ifb_of(network), ""),
        )  # fmt: skip
        for number, change in enumerate(changes):
            daemon.host.perform(change)
            await eventually(lambda: not _unlike(before, daemon), f"healed after {change}")
            await eventually(lambda: view(daemon).healed_count == number + 1, f"and counted after {change}")  # noqa: B023
            await asyncio.sleep(20)  # so that it does not look like a fight


@hastily
async def test_limits_of_a_network_are_on_its_bridge_follow_its_document_and_come_back_with_the_bridge() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await defined(daemon)
        before = daemon.host.state()
        services = daemon.services.networks
        await services.start(ROOT, network.uuid)
        unlimited = daemon.host.state()
        await services.define(ROOT, lab("lab", 77, uuid=str(network.uuid), **LIMITED), {})
        assert rates(daemon, "virbr0") == {1: 8192, 2: 8192}
        assert {one.ceil // 1024 for one in limits(daemon, "virbr0").classes} == {16384}
        assert rates(daemon, ifb_of(network.uuid)) == {1: 2048, 2: 2048}
        daemon.host.perform(DeleteLink("virbr0", ""))
        await eventually(lambda: daemon.host.link("virbr0") and rates(daemon, "virbr0"), "the bridge is limited anew")
        await services.define(ROOT, lab("lab", 77, uuid=str(network.uuid)), {})
        assert not limits(daemon, "virbr0").root and daemon.host.link(ifb_of(network.uuid)) is None
        assert unlimited.keys() == daemon.host.state().keys()
        await services.define(ROOT, lab("lab", 77, uuid=str(network.uuid), **LIMITED), {})
        await services.stop(ROOT, network.uuid)
        kept = {key for key in difference(before, daemon.host.state()) if not key.startswith("document etc/")}
        assert not kept


@hastily
async def test_floors_are_kept_on_the_bridge_and_never_more_than_the_network_has() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, **LIMITED)
        before = daemon.host.state()
        first = (await tap(daemon, mac=MAC, **{"inbound.floor": 5000})).port
        assert rates(daemon, "virbr0") == {1: 8192, 2: 3192, 3: 5000}
        assert limits(daemon, "virbr0").filters == {ToClass(MAC, 3)}
        with pytest.raises(InUse, match=r"8193 kB/s.*1 more"):
            await tap(daemon, **{"inbound.floor": 3193})
        second = (await tap(daemon, **{"inbound.floor": 3192, "inbound.average": 9000})).port
        assert rates(daemon, "virbr0") == {1: 8192, 2: 1, 3: 5000, 4: 3192}
        ports = daemon.services.ports
        with pytest.raises(InUse, match="kB/s"):
            await ports.set_bandwidth(ROOT, first.uuid, {"inbound.floor": 5001})
        assert rates(daemon, "virbr0") == {1: 8192, 2: 1, 3: 5000, 4: 3192}
        await ports.set_bandwidth(ROOT, first.uuid, {"inbound.floor": 100})
        assert rates(daemon, "virbr0") == {1: 8192, 2: 4900, 3: 100, 4: 3192}
        with pytest.raises(InUse, match="kB/s"):
            smaller = {"bandwidth": {"inbound": {"average": 3000}}}
            await daemon.services.networks.define(ROOT, lab("lab", 77, uuid=str(view(daemon).uuid), **smaller), {})
        await ports.detach(ROOT, first.uuid)
        await ports.set_bandwidth(ROOT, second.uuid, {"inbound.floor": 0})
        await ports.detach(ROOT, second.uuid)
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_floor_needs_a_network_with_a_limit() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        with pytest.raises(Unsupported, match="no inbound bandwidth"):
            await tap(daemon, **{"inbound.floor": 1})
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_port_takes_the_limits_its_port_group_has_when_it_joins() -> None:
    slow = {"name": "slow", "bandwidth": {"inbound": {"average": 64}}}
    usual = {"name": "usual", "default": True, "bandwidth": {"outbound": {"average": 128}}}
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, portgroups=[slow, usual])
        first, second = (await tap(daemon, portgroup="slow")).port, (await tap(daemon)).port
        third = (await tap(daemon, portgroup="slow", **{"inbound.average": 7})).port
        get = daemon.services.ports.get
        assert [get(port.device).bandwidth for port in (first, second, third)] == [
            {"inbound.average": 64}, {"outbound.average": 128}, {"inbound.average": 7},
        ]  # fmt: skip
        assert rates(daemon, first.device) == {1: 64, 2: 64} and not limits(daemon, second.device).root
        await daemon.services.ports.set_bandwidth(ROOT, first.uuid, {"inbound.average": 0})
        assert get(first.device).bandwidth == {} and not limits(daemon, first.device).root


@hastily
async def test_a_restart_of_the_daemon_changes_no_limit() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon, **LIMITED)
        port = (await tap(daemon, mac=MAC, **BOTH, **{"inbound.floor": 100})).port
        other = (await tap(daemon, **{"inbound.floor": 50})).port
        await daemon.services.ports.set_bandwidth(ROOT, port.uuid, {"inbound.floor": 0})
        before = host.state()
    seen = len(host.calls)
    async with running(host) as daemon:
        assert not difference(before, host.state())
        assert not [call for call in host.calls[seen:] if call.changes and call.verb.startswith("kernel")]
        assert rates(daemon, "virbr0") == {1: 8192, 2: 8142, 4: 50}
        host.perform(DeleteFilter("virbr0", ToClass(other.mac, 4)))
        await eventually(lambda: not difference(before, host.state()), "floors of an earlier run are kept too")
        await daemon.services.ports.detach(ROOT, other.uuid)
        assert rates(daemon, "virbr0") == {1: 8192, 2: 8192}


@hastily
async def test_limits_an_earlier_run_did_not_get_to_remove_are_removed() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        port = (await tap(daemon, **BOTH)).port
        await daemon.services.ports.set_bandwidth(ROOT, port.uuid, dict.fromkeys(BOTH, 0))
        assert not limits(daemon, port.device).root
        before = host.state()
    left = shaping_of(str(port.uuid), Bandwidth.model_validate({"inbound": {"average": 1}}))
    host.perform(CreateIfb(left.ifb, left.alias), Redirect(port.device, left.ifb), AddHtb(port.device))
    host.perform(*(PutClass(port.device, one) for one in left.towards.classes))
    assert difference(before, host.state())
    async with running(host):
        assert not difference(before, host.state())


@hastily
async def test_what_the_kernel_lacks_is_named() -> None:
    host = host_with_uplink()
    host.capabilities.lacking["ifb"] = "nothing of that kind"
    async with running(host) as daemon:
        await raised(daemon)
        before = host.state()
        with pytest.raises(Unsupported, match="ifb"):
            await tap(daemon, **BOTH)
        with pytest.raises(Unsupported, match="ifb"):
            await raised(daemon, "other", 78, bandwidth={"outbound": {"average": 1}})
        await tap(daemon, **{"inbound.average": 7})
        assert "ifb" not in repr(difference(before, host.state()))


def _unlike(before: dict[str, object], daemon: Running) -> dict[str, object]:
    """What differs, but for the numbers the kernel gives."""
    return {
        key: change
        for key, change in difference(before, daemon.host.state()).items()
        if not (key.startswith("link ifb") or "limits" in key) or _numberless(change[0]) != _numberless(change[1])
    }


def _numberless(value: object) -> object:
    if isinstance(value, Traffic):
        return (value.root, value.classes, value.filters, value.redirect > 0)
    if isinstance(value, tuple):
        return (value[0].name, value[0].kind, value[0].alias, value[0].up)
    return value


OWNER = Caller(1000, name=":1.7", administrator=False)
GROUPS = [
    {"name": "slow", "default": True, "bandwidth": {"inbound": {"average": 64, "peak": 128, "burst": 32}}},
    {"name": "fast", "bandwidth": {"inbound": {"average": 6400}}},
]


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"inbound.average": 0, "inbound.peak": 0, "inbound.burst": 0}, "inbound.average of 64 kB/s"),
        ({"inbound.average": 65}, "inbound.average of 64 kB/s"),
        ({"inbound.peak": 129}, "inbound.peak of 128 kB/s"),
        ({"inbound.peak": 0}, "inbound.peak of 128 kB/s"),
        ({"inbound.burst": 33}, "inbound.burst of 32 kB"),
        ({"inbound.floor": 1}, "inbound.floor of 0 kB/s"),
    ],
)
@hastily
async def test_an_owner_who_is_not_root_lifts_no_limit_of_the_port_group(options: dict[str, int], most: str) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, portgroups=GROUPS, **LIMITED)
        ports = daemon.services.ports
        spec = {"kind": "tap", "inbound.average": 64, "inbound.peak": 128, "inbound.burst": 32}
        port = (await ports.attach(OWNER, "lab", {"kind": "tap"})).port
        before = daemon.host.state()
        with pytest.raises(Denied, match=rf"{port.device} may have {most} at most: only root lifts that"):
            await ports.set_bandwidth(OWNER, port.uuid, options)
        with pytest.raises(Denied, match=f"may have {most} at most"):
            await ports.attach(OWNER, "lab", {**spec, **options})
        assert not difference(before, daemon.host.state())


@hastily
async def test_an_owner_goes_below_a_limit_and_back_and_root_s_word_counts_for_more() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon, portgroups=GROUPS)
        ports = daemon.services.ports
        port = (await ports.attach(OWNER, "lab", {"kind": "tap", "portgroup": "fast"})).port

        async def owner_sets(rate: int) -> dict[int, int]:
            await ports.set_bandwidth(OWNER, port.uuid, {"inbound.average": rate})
            return rates(daemon, port.device)

        assert await owner_sets(50) == {1: 50, 2: 50}
        await ports.set_bandwidth(OWNER, port.uuid, {"outbound.average": 7})
        assert await owner_sets(6400) == {1: 6400, 2: 6400}
        with pytest.raises(Denied, match=r"inbound\.average of 64 kB/s at most"):
            await ports.set_port_group(OWNER, port.uuid, "slow")
        await ports.set_bandwidth(ROOT, port.uuid, {"inbound.average": 9000})
        assert await owner_sets(8999) == {1: 8999, 2: 8999}
        await ports.set_bandwidth(ROOT, port.uuid, {"inbound.average": 100})
        with pytest.raises(Denied, match=r"inbound\.average of 100 kB/s at most"):
            await owner_sets(101)
        assert await owner_sets(99) == {1: 99, 2: 99}
    async with running(daemon.host) as again:
        with pytest.raises(Denied, match=r"inbound\.average of 100 kB/s at most"):
            await again.services.ports.set_bandwidth(OWNER, port.uuid, {"inbound.average": 101})
