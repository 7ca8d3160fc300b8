"""What every ``host.Taps`` does: the same statements about those in memory and the real ones."""

import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from support.memory_kernel import MemoryKernel
from support.memory_taps import MemoryTaps

from vnetd.host.protocols import Kernel, Taps
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.taps import LinuxTaps
from vnetd.model.errors import HostError
from vnetd.plan.kernel import DeleteLink, SetLink


@dataclass
class Host:
    kernel: Kernel
    taps: Taps


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
        with pytest.raises(HostError, match=f"create tap {taken}: Device or resource busy"):
            await host.taps.create_persistent(taken, -1, -1, True)
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


async def test_a_persistent_tap_stays_until_it_is_deleted(host: Host) -> None:
    await host.taps.create_persistent("vnet0", 1000, 1001, True)
    await host.kernel.apply([SetLink("vnet0", alias="ours")])
    assert await host.kernel.link("vnet0") is not None
    await host.kernel.apply([DeleteLink("vnet0", "ours")])
    assert await host.kernel.link("vnet0") is None


async def test_closing_what_is_not_open_is_an_error_and_the_rest_is_closed(host: Host) -> None:
    fds = await host.taps.open("vnet0", 1, True)
    await host.taps.close(fds)
    with pytest.raises(HostError) as refusal:
        await host.taps.close(fds)
    assert refusal.value.errno == errno.EBADF
