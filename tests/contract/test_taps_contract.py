"""What every ``host.Taps`` does: the same statements about those in memory and the real ones."""

import errno
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from support.commits import Witness
from support.memory_kernel import MemoryKernel
from support.memory_taps import MemoryTaps

from vnetd.host.protocols import Kernel, Taps
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.taps import LinuxTaps
from vnetd.model.errors import HostError
from vnetd.plan.kernel import CreateBridge, DeleteLink, SetLink, WriteSysctl
from vnetd.plan.links import TunState

MAC = "fe:54:00:00:00:07"


@dataclass
class Host:
    kernel: Kernel
    taps: Taps

    def is_taken(self, name: str) -> bool:
        """Whether there is such a link."""
        return self.kernel.is_taken(name)


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    if request.param == "memory":
        memory = MemoryKernel()
        yield Host(memory, MemoryTaps(memory))
        return
    linux, taps = await LinuxKernel.start(), LinuxTaps()
    yield Host(linux, taps)
    await taps.stop()
    await linux.close()


async def test_a_tap_is_there_and_down_until_its_last_fd_is_closed(host: Host) -> None:
    fds = await host.taps.open("vnet0", 3, True)
    assert len(set(fds)) == 3
    link = await host.kernel.link("vnet0")
    assert link is not None and (link.kind, link.up) == ("tun", False)
    await host.taps.close(fds[:2])
    assert await host.kernel.link("vnet0") is not None
    await host.taps.close(fds[2:])
    assert await host.kernel.link("vnet0") is None


async def test_a_name_that_is_taken_is_refused_and_its_link_left_alone(host: Host) -> None:
    fds = await host.taps.open("vnet0", 1, True)
    for taken in ("vnet0", "lo"):
        with pytest.raises(HostError) as refusal:
            await host.taps.open(taken, 1, True)
        assert (refusal.value.errno, str(refusal.value)) == (
            errno.EBUSY,
            f"create tap {taken}: Device or resource busy",
        )
    assert await host.kernel.link("vnet0") is not None
    await host.taps.close(fds)


@pytest.mark.parametrize("queues", [0, -1, 257])
async def test_an_impossible_number_of_queues_is_refused(host: Host, queues: int) -> None:
    with pytest.raises(HostError, match="create tap vnet0"):
        await host.taps.open("vnet0", queues, True)
    assert await host.kernel.link("vnet0") is None


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "vnet%d"])
async def test_a_name_that_is_none_is_refused(host: Host, name: str) -> None:
    with pytest.raises(HostError) as refusal:
        await host.taps.open(name, 1, True)
    assert refusal.value.errno == errno.EINVAL
    assert {link.name for link in await host.kernel.links()} == {"lo"}


async def test_a_tap_is_made_with_all_it_is_to_have_or_not_at_all(host: Host) -> None:
    disable = WriteSysctl(("net", "ipv6", "conf", "vnet0", "disable_ipv6"), "1")
    fds = await host.taps.open("vnet0", 1, True, then=[SetLink("vnet0", mac=MAC, mtu=1400, alias="ours"), disable])
    link = await host.kernel.link("vnet0")
    assert link is not None and (link.mac, link.mtu, link.alias, link.up) == (MAC, 1400, "ours", False)
    assert await host.kernel.sysctls([disable.path]) == {disable.path: "1"}
    await host.taps.close(fds)
    before = len(os.listdir("/proc/self/fd"))
    missing = WriteSysctl(("net", "ipv6", "conf", "vnet1", "disable_ipv6"), "1")
    with pytest.raises(HostError, match="write sysctl net/ipv6/conf/vnet1/disable_ipv6: No such file or directory"):
        await host.taps.open("vnet0", 2, True, then=[SetLink("vnet0", alias="ours"), missing])
    assert await host.kernel.link("vnet0") is None
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_tap_is_made_and_seen_in_one_hop(host: Host) -> None:
    fds, seen = await host.taps.open_seen("vnet0", 2, True, [SetLink("vnet0", mac=MAC, alias="ours")], ("vnet0", "no"))
    link = await host.kernel.link("vnet0")
    assert seen == (link, None) and len(fds) == 2
    assert link is not None and (link.mac, link.alias, link.up) == (MAC, "ours", False)
    await host.taps.close(fds)


async def test_a_tap_is_placed_in_its_bridge_before_it_is_seen(host: Host) -> None:
    await host.kernel.apply([CreateBridge("lower0", MAC, 1500, stp=False, forward_delay=0, alias="ours")])
    placing = [SetLink("vnet0", master="lower0", up=True), SetLink("vnet0", isolated=True)]
    fds, (tap, bridge) = await host.taps.open_seen("vnet0", 1, True, [], ("vnet0", "lower0"), placing)
    assert tap is not None and bridge is not None
    assert (tap.master, tap.up, tap.isolated) == (bridge.index, True, True)
    await host.taps.close(fds)


async def test_a_tap_whose_bridge_is_away_is_placed_by_whoever_looks_after_it(host: Host) -> None:
    fds, (tap,) = await host.taps.open_seen(
        "vnet0", 1, True, [], ("vnet0",), [SetLink("vnet0", master="gone0"), SetLink("vnet0", up=True)]
    )
    assert tap is not None and (tap.master, tap.up) == (0, False)
    await host.taps.close(fds)


async def test_a_tap_is_placed_with_all_it_is_to_have_which_needs_no_bridge(host: Host) -> None:
    then, placing = [SetLink("vnet0", mac=MAC, alias="ours")], [SetLink("vnet0", master="lower0", up=True)]
    fds, (tap,) = await host.taps.open_seen("vnet0", 1, True, then, ("vnet0",), placing)
    assert tap is not None and (tap.mac, tap.alias, tap.master, tap.up) == (MAC, "ours", 0, False)
    await host.taps.close(fds)
    await host.kernel.apply([CreateBridge("lower0", MAC, 1500, stp=False, forward_delay=0, alias="ours")])
    fds, (tap, bridge) = await host.taps.open_seen("vnet0", 1, True, then, ("vnet0", "lower0"), placing)
    assert tap is not None and bridge is not None
    assert (tap.mac, tap.alias, tap.master, tap.up) == (MAC, "ours", bridge.index, True)
    await host.taps.close(fds)


async def test_a_tap_that_cannot_be_placed_is_not_made(host: Host) -> None:
    await host.kernel.apply([CreateBridge("lower0", MAC, 1500, stp=False, forward_delay=0, alias="ours")])
    await host.taps.close((await host.taps.open_seen("vnet0", 1, True, [], ("vnet0",)))[0])  # now it has its socket
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="gone0"):
        await host.taps.open_seen("vnet0", 1, True, [], ("vnet0",), [SetLink("gone0", master="lower0")])
    assert await host.kernel.link("vnet0") is None
    assert len(os.listdir("/proc/self/fd")) == before


async def test_rules_are_in_force_before_a_tap_is_made(host: Host) -> None:
    commit = Witness(lambda: host.is_taken("vnet0"))
    fds, (tap,) = await host.taps.open_seen("vnet0", 1, True, [], ("vnet0",), commit=commit)
    assert tap is not None and commit.done and commit.seen == [False]
    await host.taps.close(fds)


async def test_a_tap_whose_rules_are_refused_is_not_made(host: Host) -> None:
    await host.taps.close((await host.taps.open_seen("vnet0", 1, True, [], ("vnet0",)))[0])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="refused"):
        await host.taps.open_seen("vnet0", 1, True, [], ("vnet0",), commit=Witness(refusing=True))
    assert await host.kernel.link("vnet0") is None
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_persistent_tap_stays_until_it_is_deleted(host: Host) -> None:
    fds = await host.taps.open("vnet0", 1, True, 1000)
    await host.kernel.apply([SetLink("vnet0", alias="ours")])
    await host.taps.keep("vnet0", fds, 1001)
    link = await host.kernel.link("vnet0")
    assert link is not None and link.tun == TunState(persist=True, owner=1000, group=1001, queues=None)
    await host.kernel.apply([DeleteLink("vnet0", "ours")])
    assert await host.kernel.link("vnet0") is None


async def test_closing_what_is_not_open_is_an_error_and_the_rest_is_closed(host: Host) -> None:
    fds = await host.taps.open("vnet0", 1, True)
    await host.taps.close(fds)
    with pytest.raises(HostError) as refusal:
        await host.taps.close(fds)
    assert refusal.value.errno == errno.EBADF


async def test_a_tap_tells_its_owner_and_its_queues(host: Host) -> None:
    for owner in (0, 65534, -1):
        fds = await host.taps.open("vnet0", 3, True, owner)
        for queues in (3, 2, 1):
            link = await host.kernel.link("vnet0")
            assert link is not None and link.tun == TunState(persist=False, owner=owner, group=-1, queues=queues)
            await host.taps.close([fds.pop()])
        assert await host.kernel.link("vnet0") is None


async def test_a_tap_of_one_queue_is_reclaimed_once_nobody_has_that(host: Host) -> None:
    fds = await host.taps.open("vnet0", 1, True)
    other = await host.taps.open("vnet1", 1, True)
    await host.taps.keep("vnet1", other, -1)
    assert not await host.taps.reclaim("vnet0")
    assert await host.kernel.link("vnet0") is not None
    assert await host.taps.reclaim("vnet1")
    assert await host.kernel.link("vnet1") is None
    await host.taps.close(fds)


@pytest.mark.parametrize(("owner", "group"), [((1 << 32) - 1, -1), (-2, -1), (-1, 1 << 32), (-1, (1 << 32) - 1)])
async def test_a_tap_that_cannot_be_kept_so_goes_with_its_fds(host: Host, owner: int, group: int) -> None:
    fds: list[int] = []
    with pytest.raises(HostError, match=r"(create|keep) tap vnet0: Invalid argument"):
        fds = await host.taps.open("vnet0", 2, True, owner)
        await host.taps.keep("vnet0", fds, group)
    await host.taps.close(fds)
    assert await host.kernel.link("vnet0") is None


async def test_only_taps_have_queues(host: Host) -> None:
    link = await host.kernel.link("lo")
    assert link is not None and link.tun is None
