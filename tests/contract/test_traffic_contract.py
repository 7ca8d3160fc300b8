"""What every ``host.Kernel`` does with limits of traffic: the same about the one in memory and the real one."""

import errno
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.memory_kernel import MemoryKernel
from support.waiting import eventually

from vnetd.host.events import HostEvent, TrafficEvent
from vnetd.host.protocols import Kernel
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.rtnl_events import RtnlEvents
from vnetd.model.errors import HostError
from vnetd.model.network_ports import Bandwidth
from vnetd.plan.kernel import CreateBridge, DeleteLink, SetLink
from vnetd.plan.shaping import Floor, plan_tree, shaping_of
from vnetd.plan.traffic import (
    AddFilter,
    AddHtb,
    CreateIfb,
    DeleteClass,
    DeleteFilter,
    DeletePriority,
    DeleteRoot,
    EndRedirect,
    PutClass,
    Redirect,
    ToClass,
    Traffic,
)

UUID = "0123456789abcdef-0000-4000-8000-000000000000"
BRIDGE = CreateBridge("virbr0", "52:54:00:12:34:56", 1500, stp=False, forward_delay=0, alias="vnetd:network:1")
MAC = "52:54:00:00:00:07"


def tree(average: int, **more: int) -> Any:
    """Classes of a limit, with one reservation."""
    limits = Bandwidth.model_validate({"inbound": {"average": average, **more}})
    return shaping_of(UUID, limits, [Floor(MAC, (average + 1) // 2, 3)]).towards


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def kernel(request: pytest.FixtureRequest) -> AsyncIterator[Kernel]:
    if request.param == "memory":
        yield MemoryKernel()
        return
    linux = await LinuxKernel.start()
    yield linux
    await linux.close()


async def seen(kernel: Kernel, link: str = "virbr0") -> Traffic:
    found = await kernel.traffic(link)
    assert found is not None
    return found


async def realise(kernel: Kernel, wanted: Any) -> None:
    await kernel.apply([step for _, step in plan_tree("virbr0", wanted, await seen(kernel))])


async def test_a_link_without_limits_has_none_and_one_that_is_not_there_is_seen_as_none(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE])
    assert await seen(kernel) == Traffic()
    assert await kernel.traffic("nosuch") is None


@pytest.mark.parametrize("average", [1, 3, 128, 4096, 10**6, 5 * 2**20, 2**40, 2**54])
@pytest.mark.parametrize("more", [{}, {"burst": 4194303}, {"peak": 2**54}, {"peak": 9000000, "burst": 1}])
async def test_a_tree_is_seen_as_it_was_made_whatever_its_numbers(
    kernel: Kernel, average: int, more: dict[str, int]
) -> None:
    await kernel.apply([BRIDGE])
    wanted = tree(average, **more)
    await realise(kernel, wanted)
    found = await seen(kernel)
    assert (found.root, found.default, found.strange) == ("htb", 2, frozenset())
    assert (found.classes, found.filters) == (frozenset(wanted.classes), frozenset(wanted.filters))
    assert not list(plan_tree("virbr0", wanted, found))


async def test_classes_change_in_place_and_go_one_by_one(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE])
    await realise(kernel, tree(4096))
    changed = tree(8192, burst=100)
    await kernel.apply([PutClass("virbr0", one) for one in changed.classes])
    assert (await seen(kernel)).classes == frozenset(changed.classes)
    for operation in (DeleteClass("virbr0", 3), DeleteClass("virbr0", 1)):
        with pytest.raises(HostError) as refused:
            await kernel.apply([operation])
        assert refused.value.errno == errno.EBUSY
    await kernel.apply([DeleteFilter("virbr0", ToClass(MAC, 3)), DeleteClass("virbr0", 3), DeleteClass("virbr0", 2)])
    found = await seen(kernel)
    assert ({one.minor for one in found.classes}, found.filters) == ({1}, frozenset())


async def test_the_root_can_be_removed_and_made_anew(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE, AddHtb("virbr0")])
    with pytest.raises(HostError) as refused:
        await kernel.apply([AddHtb("virbr0")])
    assert (refused.value.errno, str(refused.value)) == (errno.EEXIST, "limit virbr0: File exists")
    await kernel.apply([DeleteRoot("virbr0")])
    assert await seen(kernel) == Traffic()
    await realise(kernel, tree(4096))


async def test_removing_what_is_gone_already_is_no_error(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE, AddHtb("virbr0"), DeleteClass("virbr0", 7), DeleteFilter("virbr0", ToClass(MAC, 3))])
    await kernel.apply([DeletePriority("virbr0", 9), DeleteRoot("virbr0"), DeleteRoot("virbr0")])
    await kernel.apply([EndRedirect("virbr0"), EndRedirect("virbr0")])


async def test_filters_are_seen_by_their_address_and_removed_one_by_one(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE])
    await realise(kernel, tree(4096))
    other = ToClass("52:54:00:00:00:08", 2)
    await kernel.apply([AddFilter("virbr0", other)])
    assert (await seen(kernel)).filters == {ToClass(MAC, 3), other}
    await kernel.apply([DeleteFilter("virbr0", ToClass(MAC, 3))])
    assert (await seen(kernel)).filters == {other}


async def test_what_a_link_receives_is_led_to_another_and_straight_on_again(kernel: Kernel) -> None:
    await kernel.apply([BRIDGE, CreateIfb("ifb0", "vnetd:shaper:1"), SetLink("ifb0", up=True)])
    ifb = await kernel.link("ifb0")
    assert ifb is not None and (ifb.kind, ifb.alias, ifb.up) == ("ifb", "vnetd:shaper:1", True)
    await kernel.apply([Redirect("virbr0", "ifb0")])
    assert await seen(kernel) == Traffic(ingress=True, redirect=ifb.index)
    await kernel.apply([CreateIfb("ifb1", "vnetd:shaper:2"), Redirect("virbr0", "ifb1")])
    second = await kernel.link("ifb1")
    assert second is not None and (await seen(kernel)).redirect == second.index
    await kernel.apply([DeleteLink("ifb1", "vnetd:shaper:2")])
    assert await seen(kernel) == Traffic(ingress=True, redirect=-1)
    await kernel.apply([Redirect("virbr0", "ifb0"), EndRedirect("virbr0")])
    assert await seen(kernel) == Traffic()


async def test_a_name_that_is_taken_is_named_in_the_error(kernel: Kernel) -> None:
    await kernel.apply([CreateIfb("ifb0", "vnetd:shaper:1")])
    with pytest.raises(HostError) as refused:
        await kernel.apply([CreateIfb("ifb0", "vnetd:shaper:1")])
    assert (refused.value.errno, str(refused.value)) == (errno.EEXIST, "create ifb ifb0: File exists")


async def test_changes_are_reported_with_where_to_look(kernel: Kernel) -> None:
    events: list[HostEvent] = []
    listening: Callable[[], None] = _listen(kernel, events.append)
    await kernel.apply([BRIDGE, CreateIfb("ifb0", "vnetd:shaper:1")])
    link = await kernel.link("virbr0")
    assert link is not None
    wanted = tree(4096)
    for operation in (
        AddHtb("virbr0"),
        PutClass("virbr0", wanted.classes[0]),
        PutClass("virbr0", wanted.classes[1]),
        AddFilter("virbr0", ToClass(MAC, 2)),
        DeleteFilter("virbr0", ToClass(MAC, 2)),
        DeleteClass("virbr0", 2),
        DeleteRoot("virbr0"),
        Redirect("virbr0", "ifb0"),
        EndRedirect("virbr0"),
    ):
        events.clear()
        await kernel.apply([operation])
        await eventually(lambda: any(_is_about(link.index, event) for event in events), f"{operation}")
    listening()


def _listen(kernel: Kernel, listener: Callable[[HostEvent], None]) -> Callable[[], None]:
    if isinstance(kernel, MemoryKernel):
        kernel.subscribe(listener)
        return lambda: None
    return RtnlEvents(listener).close


def _is_about(index: int, event: HostEvent) -> bool:
    return isinstance(event, TrafficEvent) and (event.index, event.name) == (index, "virbr0")
