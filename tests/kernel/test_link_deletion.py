"""Deletions of links by the real kernel, which takes its time."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from support.links import Lingering, bridge, deletion_of, lingering_deletions, names
from support.netns import Namespace, run
from support.waiting import eventually

from vnetd.linux import deletion
from vnetd.linux.deleter import THREADS
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.netlink import NETLINK_ROUTE, RECEIVE, RTM_DELLINK, RTNLGRP_LINK, ReadSocket, messages
from vnetd.linux.netlink_listener import listening
from vnetd.model.errors import HostError
from vnetd.plan.kernel import DeleteLink, Operation, SetLink, WriteSysctl


@pytest.fixture
async def kernel(inside_host: Namespace) -> AsyncIterator[LinuxKernel]:
    made = await LinuxKernel.start()
    yield made
    await made.close()


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch, kernel: LinuxKernel) -> Iterator[Lingering]:
    with lingering_deletions(monkeypatch) as made:
        yield made


async def test_a_deletion_ends_when_the_link_is_gone_not_when_its_memory_is_free(
    kernel: LinuxKernel, lingering: Lingering
) -> None:
    await kernel.apply([bridge()])
    await kernel.apply([deletion_of(0)])
    assert not lingering.over.is_set()
    assert await names(kernel) == {"lo"}
    await kernel.apply([bridge()])
    assert await names(kernel) == {"lo", "virbr0"}


async def test_who_deletes_many_at_once_waits_for_all_to_be_gone(kernel: LinuxKernel, lingering: Lingering) -> None:
    numbers = range(deletion.LARGEST_GROUP)
    await kernel.apply([bridge(number) for number in numbers])
    await kernel.apply([deletion_of(number) for number in numbers])
    assert lingering.begun == 1 and not lingering.over.is_set()
    assert await names(kernel) == {"lo"}


async def test_deletions_go_on_while_the_kernel_frees_what_others_have_left(
    kernel: LinuxKernel, lingering: Lingering
) -> None:
    """Each occupies a thread; when all are, the next waits for one."""
    await kernel.apply([bridge(number) for number in range(THREADS + 1)])
    for number in range(THREADS):
        await kernel.apply([deletion_of(number)])
    assert await names(kernel) == {"lo", f"virbr{THREADS}"}
    last = asyncio.create_task(kernel.apply([deletion_of(THREADS)]))
    await asyncio.sleep(0.05)
    assert not last.done() and lingering.begun == THREADS
    lingering.over.set()
    await last
    assert await names(kernel) == {"lo"}


async def test_a_port_that_leaves_its_bridge_is_not_gone(kernel: LinuxKernel, lingering: Lingering) -> None:
    """The kernel tells that in the same words, of another family."""
    run("ip", "tuntap", "add", "tap0", "mode", "tap")
    await kernel.apply([bridge(), SetLink("tap0", alias="vnetd:0", master="virbr0")])
    lingering.prepare = lambda: run("ip", "link", "set", "tap0", "nomaster")
    lingering.may_begin.clear()
    deleting = asyncio.create_task(kernel.apply([DeleteLink("tap0", "vnetd:0")]))
    await eventually(partial(_left_its_bridge, kernel, "tap0"))
    await asyncio.sleep(0.05)
    assert not deleting.done()
    lingering.may_begin.set()
    await deleting
    assert await names(kernel) == {"lo", "virbr0"}


async def _left_its_bridge(kernel: LinuxKernel, name: str) -> bool:
    link = await kernel.link(name)
    assert link is not None
    return not link.master


async def test_without_the_news_a_deletion_ends_with_its_answer(
    kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may drop them."""
    monkeypatch.setattr(deletion.Deletions, "gone", lambda self, index: None)
    await kernel.apply([bridge(number) for number in range(3)])
    await kernel.apply([deletion_of(0)])
    await kernel.apply([deletion_of(1), deletion_of(2)])
    assert await names(kernel) == {"lo"}


async def test_whatever_goes_wrong_is_told_to_who_waits(kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sock: ReadSocket, group: int) -> frozenset[int]:
        raise ValueError("no group")

    monkeypatch.setattr(deletion, "read_group", broken)
    await kernel.apply([bridge(number) for number in range(2)])
    with pytest.raises(ValueError, match="no group"):
        await kernel.apply([deletion_of(0), deletion_of(1)])
    await kernel.apply([deletion_of(0)])
    assert await names(kernel) == {"lo", "virbr1"}


async def test_news_of_one_kind_wake_nobody_who_wants_another(inside_host: Namespace) -> None:
    with listening(NETLINK_ROUTE, 1 << 20, (RTNLGRP_LINK,), only=RTM_DELLINK) as sock:
        sock.setblocking(False)
        run("ip", "link", "add", "dummy0", "type", "bridge")
        run("ip", "link", "set", "dummy0", "up")
        with pytest.raises(BlockingIOError):
            sock.recv(RECEIVE)
        run("ip", "link", "del", "dummy0")
        assert {kind for kind, *_ in messages(sock.recv(RECEIVE))} == {RTM_DELLINK}


async def test_many_deletions_leave_what_is_not_ours(kernel: LinuxKernel) -> None:
    ours = range(2 * deletion.LARGEST_GROUP + 3)
    await kernel.apply([bridge(number) for number in ours])
    run("ip", "link", "add", "foreign0", "type", "bridge")
    run("ip", "link", "add", "virbr200", "type", "bridge")
    await asyncio.gather(*(kernel.apply([deletion_of(number)]) for number in (*ours, 200, 201)))
    assert await names(kernel) == {"lo", "foreign0", "virbr200"}


async def test_a_link_somebody_put_into_the_group_survives(
    kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Guessing the group cannot be arranged from outside, so the number is made known here."""
    monkeypatch.setattr(secrets, "randbelow", lambda limit: 4711)
    await kernel.apply([bridge(number) for number in range(3)])
    run("ip", "link", "add", "foreign0", "group", "4713", "type", "bridge")
    await kernel.apply([deletion_of(number) for number in range(3)])
    assert await names(kernel) == {"lo", "foreign0"}
    assert "group 4713" in caplog.text


async def test_deletions_of_one_link_that_wait_together_all_end(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge()])
    await asyncio.gather(*(kernel.apply([deletion_of(0)]) for _ in range(5)))
    assert await names(kernel) == {"lo"}


async def test_links_of_several_kinds_are_deleted_together(kernel: LinuxKernel) -> None:
    run("ip", "tuntap", "add", "tap0", "mode", "tap")
    run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    aliases: list[Operation] = [SetLink(name, alias="vnetd:0") for name in ("tap0", "veth0", "veth1")]
    await kernel.apply([bridge(), *aliases])
    await kernel.apply([DeleteLink(name, "vnetd:0") for name in ("tap0", "veth0", "veth1", "virbr0")])
    assert await names(kernel) == {"lo"}


async def test_what_cannot_be_deleted_fails_alone(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge(0), bridge(1), SetLink("lo", alias="vnetd:lo")])
    results = await asyncio.gather(
        *(kernel.apply([operation]) for operation in (deletion_of(0), DeleteLink("lo", "vnetd:lo"), deletion_of(1))),
        return_exceptions=True,
    )
    assert [str(result) for result in results] == ["None", "delete link lo: Operation not supported", "None"]
    assert await names(kernel) == {"lo"}


async def test_no_link_stays_in_a_group_of_ours(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge(0), bridge(1), SetLink("lo", alias="vnetd:lo")])
    with pytest.raises(HostError):
        await kernel.apply([deletion_of(0), DeleteLink("lo", "vnetd:lo")])
    link = await kernel.link("lo")
    assert link is not None and link.group == 0


async def test_the_loop_goes_on_while_a_bridge_is_deleted(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge(), SetLink("virbr0", up=True)])
    turns = 0
    deleting = asyncio.create_task(kernel.apply([deletion_of(0)]))
    while not deleting.done():
        await asyncio.sleep(0)
        turns += 1
    await deleting
    assert turns > 10, "the loop stood still"


async def test_other_links_are_served_while_one_is_deleted(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge(number) for number in range(20)])
    finished: list[str] = []

    async def doing(what: str, *operations: Operation) -> None:
        await kernel.apply(operations)
        finished.append(what)

    deleting = [asyncio.create_task(doing("delete", deletion_of(number))) for number in range(20)]
    await asyncio.sleep(0)
    await doing("write", WriteSysctl(("net", "ipv4", "conf", "lo", "rp_filter"), "2"))
    await asyncio.gather(*deleting)
    assert finished.index("write") < 19


async def test_nothing_of_a_cancelled_deletion_happens_later(kernel: LinuxKernel) -> None:
    await kernel.apply([bridge(number) for number in range(6)])
    for number, turns in enumerate((0, 1, 2, 5, 50)):
        deleting = asyncio.create_task(kernel.apply([deletion_of(number)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        left = await names(kernel)
        await kernel.apply([deletion_of(5), bridge(5)])  # whatever else the thread had to do, it has done now
        assert await names(kernel) == left
