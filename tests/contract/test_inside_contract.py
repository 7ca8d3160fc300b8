"""What every ``host.Namespaces`` does with links inside, in memory and for real: the same statements about both."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest
from support.commits import Witness
from support.memory_kernel import MemoryKernel
from support.memory_namespaces import MemoryNamespaces
from support.netns import Lab, run
from support.waiting import eventually

from vnetd.host.events import HostEvent, NamespaceEvent
from vnetd.host.protocols import Kernel
from vnetd.host.protocols import Namespaces as NamespacesProtocol
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.netns import Namespaces
from vnetd.linux.rtnl_events import RtnlEvents
from vnetd.model.errors import HostError
from vnetd.plan.kernel import CreateBridge, CreateMacvlan, CreateVeth, DeleteLink, SetLink, WriteSysctl

LOWER = CreateBridge("lower0", "52:54:00:00:00:01", 1500, stp=False, forward_delay=0, alias="ours")
INNER = CreateMacvlan("mvl0", "macvlan", "lower0", "bridge", "52:54:00:00:00:07", "mine")


@dataclass
class Host:
    """A host with one guest's namespace. ``vanish`` ends that; ``rename`` is what who lives there does to links."""

    kernel: Kernel
    namespaces: NamespacesProtocol
    guest: int
    vanish: Callable[[], None]
    rename: Callable[[str, str], None]
    events: list[HostEvent] = field(default_factory=list)


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    if request.param == "memory":
        kernel, events = MemoryKernel(), list[HostEvent]()
        guests = MemoryNamespaces(kernel, events.append)
        fd = await guests.open("guest")
        yield Host(kernel, guests, fd, guests.vanish, guests.rename, events)
        os.close(fd)
        return
    lab: Lab = request.getfixturevalue("lab")
    guest = lab.namespace("guest")
    linux, told = await LinuxKernel.start(), list[HostEvent]()
    namespaces = Namespaces(told.append)

    def rename(name: str, new: str) -> None:
        guest.run("ip", "link", "set", name, "name", new)

    made = Host(linux, namespaces, await namespaces.open(guest.name), lambda: None, rename, told)

    def vanish() -> None:
        os.close(made.guest)
        run("ip", "netns", "delete", guest.name)

    made.vanish = vanish
    listener = RtnlEvents(made.events.append, lambda: linux.ports)
    yield made
    listener.close()
    await namespaces.close()
    await linux.close()
    try:
        os.close(made.guest)
    except OSError as error:
        assert error.errno == errno.EBADF


async def moved(host: Host, name: str = "eth0") -> int:
    """A macvlan in the guest's namespace, whose number is returned."""
    number = await host.namespaces.number(host.guest)
    if await host.kernel.link("lower0") is None:
        await host.kernel.apply([LOWER])
    await host.kernel.apply([INNER])
    await host.namespaces.move(host.guest, "mvl0", name)
    return number


async def test_a_moved_link_is_seen_in_its_namespace_as_it_was_and_nowhere_else(host: Host) -> None:
    number = await moved(host)
    link = await host.namespaces.link(number, "eth0", "mine")
    assert link is not None
    assert (link.kind, link.mac, link.alias) == ("macvlan", INNER.mac, "mine")
    assert await host.kernel.link("mvl0") is None and await host.kernel.link("eth0") is None
    assert await host.namespaces.link(number, "eth0", "not mine") is None
    assert await host.namespaces.link(number + 1, "eth0", "mine") is None
    assert await host.namespaces.link(-1, "eth0", "mine") is None


async def test_a_link_that_was_renamed_inside_is_found_by_its_alias_and_deleted(host: Host) -> None:
    number = await moved(host)
    host.rename("eth0", "lan7")
    for name in ("eth0", "lan7"):
        link = await host.namespaces.link(number, name, "mine")
        assert link is not None and (link.mac, link.alias) == (INNER.mac, "mine")
    await host.namespaces.delete(number, "eth0", "mine")
    assert await host.namespaces.link(number, "lan7", "mine") is None


async def test_a_pair_is_made_and_seen_in_one_hop(host: Host) -> None:
    silent = WriteSysctl(("net", "ipv6", "conf", "vport", "disable_ipv6"), "1")
    seen = await host.namespaces.make_pair(pair(host), then=[silent], look=("vport", "nothing"))
    link = await host.kernel.link("vport")
    assert seen == (link, None)
    assert link is not None
    assert (link.kind, link.mac, link.mtu, link.alias, link.up) == ("veth", PAIR[1], 1400, "mine", False)
    assert await host.kernel.sysctls([silent.path]) == {silent.path: "1"}


async def test_a_pair_is_placed_in_its_bridge_before_it_is_seen(host: Host) -> None:
    await host.kernel.apply([LOWER])
    placing = [SetLink("vport", master="lower0", up=True)]
    port, bridge = await host.namespaces.make_pair(pair(host), look=("vport", "lower0"), placing=placing)
    assert port is not None and bridge is not None
    assert (port.master, port.up) == (bridge.index, True)


async def test_a_pair_whose_bridge_is_away_is_placed_by_whoever_looks_after_it(host: Host) -> None:
    placing = [SetLink("vport", master="gone0", up=True)]
    (port,) = await host.namespaces.make_pair(pair(host), look=("vport",), placing=placing)
    assert port is not None and (port.master, port.up) == (0, False)


async def test_rules_are_in_force_before_a_pair_is_made_and_without_them_it_is_not(host: Host) -> None:
    with pytest.raises(HostError, match="refused"):
        await host.namespaces.make_pair(pair(host), commit=Witness(refusing=True))
    assert await host.kernel.link("vport") is None
    commit = Witness(lambda: host.kernel.is_taken("vport"))
    (port,) = await host.namespaces.make_pair(pair(host), look=("vport",), commit=commit)
    assert port is not None and commit.done and commit.seen == [False]


async def test_a_pair_whose_name_is_taken_is_not_made(host: Host) -> None:
    await host.kernel.apply([LOWER])
    with pytest.raises(HostError, match="create veth lower0: File exists"):
        await host.namespaces.make_pair(replace(pair(host), name="lower0"))
    link = await host.kernel.link("lower0")
    assert link is not None and link.kind == "bridge"


async def test_what_cannot_be_done_to_a_pair_names_it_and_the_pair_stays(host: Host) -> None:
    missing = WriteSysctl(("net", "ipv6", "conf", "other", "disable_ipv6"), "1")
    with pytest.raises(HostError, match="write sysctl net/ipv6/conf/other/disable_ipv6: No such file or directory"):
        await host.namespaces.make_pair(pair(host), then=[missing])
    assert await host.kernel.link("vport") is not None


PAIR = ("vport", "52:54:00:00:00:08", "eth0", "52:54:00:00:00:09")


def pair(host: Host) -> CreateVeth:
    """A cable into the guest's namespace."""
    return CreateVeth(*PAIR, host.guest, 1400, "mine")


async def test_a_namespace_keeps_its_number(host: Host) -> None:
    assert await host.namespaces.number(host.guest) == await host.namespaces.number(host.guest) >= 0


async def test_a_link_is_deleted_inside_if_it_is_ours(host: Host) -> None:
    number = await moved(host)
    await host.namespaces.delete(number, "eth0", "not mine")
    assert await host.namespaces.link(number, "eth0", "mine")
    for _ in range(2):
        await host.namespaces.delete(number, "eth0", "mine")
        assert await host.namespaces.link(number, "eth0", "mine") is None
    await host.namespaces.delete(number + 1, "eth0", "mine")


async def test_a_name_that_is_taken_inside_is_refused_and_the_link_can_be_found_under_its_own(host: Host) -> None:
    number = await moved(host)
    with pytest.raises(HostError) as refusal:
        await moved(host)
    assert refusal.value.errno == errno.EEXIST
    for _ in range(2):
        await host.namespaces.delete(number, "eth0", "mine")
    assert await host.namespaces.link(number, "eth0", "mine") is None
    assert await host.kernel.link("mvl0") is None


async def test_a_link_inside_goes_with_its_lower_device(host: Host) -> None:
    number = await moved(host)
    await host.kernel.apply([DeleteLink("lower0", "ours")])
    assert await host.namespaces.link(number, "eth0", "mine") is None


async def test_a_link_that_goes_inside_is_reported_at_once(host: Host) -> None:
    number = await moved(host)
    assert NamespaceEvent(number) not in host.events
    await host.namespaces.delete(number, "eth0", "mine")
    await eventually(lambda: NamespaceEvent(number) in host.events, "its end is reported")


async def test_the_end_of_a_namespace_is_reported_and_nothing_of_it_is_left(host: Host) -> None:
    number = await moved(host)
    host.vanish()
    await eventually(lambda: NamespaceEvent(number) in host.events, "its end is reported")
    assert await host.namespaces.link(number, "eth0", "mine") is None
    await host.namespaces.delete(number, "eth0", "mine")


async def test_a_link_that_is_not_there_cannot_be_moved(host: Host) -> None:
    with pytest.raises(HostError) as refusal:
        await host.namespaces.move(host.guest, "nowhere", "eth0")
    assert refusal.value.errno == errno.ENODEV
