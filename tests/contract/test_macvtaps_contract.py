"""What every ``host.Macvtaps`` does: the same statements about those in memory and the real ones."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.commits import Witness
from support.memory_devices import MemoryMacvtaps
from support.memory_kernel import MemoryKernel
from support.memory_taps import MemoryTaps
from support.netns import entered, run
from support.waiting import eventually

from vnetd.host.devices import Macvtaps
from vnetd.host.events import HostEvent
from vnetd.host.protocols import Kernel, Taps
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.macvtap import MacvtapHost
from vnetd.linux.taps import LinuxTaps
from vnetd.model.errors import HostError, Unsupported
from vnetd.plan.kernel import CreateMacvlan, DeleteLink, SetLink, WriteSysctl
from vnetd.plan.links import Link

MAC = "52:54:00:00:77:01"


@dataclass
class Host:
    kernel: Kernel
    taps: Taps
    macvtaps: Macvtaps
    events: list[HostEvent]

    async def macvtap(self, name: str = "macvtap0", mode: str = "bridge") -> Link:
        """A macvtap on eth1."""
        await self.kernel.apply([device(name, mode)])
        link = await self.kernel.link(name)
        assert link is not None
        return link


def device(name: str = "macvtap0", mode: str = "bridge", lower: str = "eth1") -> CreateMacvlan:
    """One on eth1 that is to be made."""
    return CreateMacvlan(name, "macvtap", lower, mode, MAC, "vnetd:port:x")


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    events: list[HostEvent] = []
    if request.param == "memory":
        memory = MemoryKernel()
        memory.subscribe(events.append)
        memory.create("eth1", "", "00:1b:21:00:00:01")
        taps = MemoryTaps(memory)
        yield Host(memory, taps, MemoryMacvtaps(memory, taps), events)
        return
    run("ip", "link", "add", "eth1", "address", "00:1b:21:00:00:01", "type", "veth")
    linux, real, macvtaps = await LinuxKernel.start(), LinuxTaps(), MacvtapHost(events.append)
    yield Host(linux, real, macvtaps, events)
    await macvtaps.close()
    await real.stop()
    await linux.close()


async def test_a_macvtap_lies_on_its_lower_device_with_its_mac_and_alias_and_is_down(host: Host) -> None:
    link, lower = await host.macvtap(), await host.kernel.link("eth1")
    assert lower is not None
    assert (link.kind, link.mac, link.alias, link.up) == ("macvtap", MAC, "vnetd:port:x", False)
    assert (link.lower, link.mtu) == (lower.index, lower.mtu)
    with pytest.raises(HostError, match="create macvtap macvtap0 on eth1: File exists"):
        await host.macvtap()
    with pytest.raises(HostError, match="create macvtap macvtap1 on eth1: Invalid argument"):
        await host.macvtap("macvtap1", "passthrough")
    await host.kernel.apply([DeleteLink("macvtap0", "vnetd:port:x")])
    await host.macvtap("macvtap1", "passthrough")


async def test_it_goes_with_its_lower_device(host: Host) -> None:
    await host.macvtap()
    await host.kernel.apply([DeleteLink("eth1", "")])
    assert await host.kernel.link("macvtap0") is None


@pytest.mark.parametrize("queues", [1, 3])
async def test_it_is_held_until_its_last_descriptor_is_closed_which_an_event_tells(host: Host, queues: int) -> None:
    link = await host.macvtap()
    assert not await host.macvtaps.held(link.name, link.index)
    fds, _ = await host.macvtaps.open(link.name, "eth1", MAC, queues, True)
    assert len(set(fds)) == queues
    assert await host.macvtaps.held(link.name, link.index)
    await host.taps.close(fds[1:])
    assert await host.macvtaps.held(link.name, link.index)
    host.events.clear()
    await host.taps.close(fds[:1])
    await eventually(lambda: any(getattr(event, "name", "") == link.name for event in host.events))
    assert not await host.macvtaps.held(link.name, link.index)
    assert await host.kernel.link(link.name) is not None, "the kernel leaves it"


async def test_what_is_not_the_device_meant_is_not_opened(host: Host) -> None:
    link = await host.macvtap()
    for name, lower, mac in (
        ("macvtap1", "eth1", MAC),
        (link.name, "eth2", MAC),
        (link.name, "eth1", "52:54:00:00:77:99"),
    ):
        with pytest.raises(HostError, match=f"open macvtap {name}: No such device"):
            await host.macvtaps.open(name, lower, mac, 1, True)
    assert not await host.macvtaps.held(link.name, link.index)


@pytest.mark.parametrize("mode", ["bridge", "passthrough"])
async def test_one_is_made_seen_and_opened_at_once(host: Host, mode: str) -> None:
    silent = WriteSysctl(("net", "ipv6", "conf", "macvtap0", "disable_ipv6"), "1", optional=True)
    alone = [SetLink("eth1", mac=MAC)] if mode == "passthrough" else []
    making = [*alone, device(mode=mode), silent]
    fds, seen = await host.macvtaps.open("macvtap0", "eth1", MAC, 2, True, making)
    assert seen == await host.kernel.links_named(("macvtap0", "eth1"))
    link, lower = seen
    assert (link.kind, link.mac, link.alias, link.up) == ("macvtap", MAC, "vnetd:port:x", False)
    assert (lower.mac == MAC) is (mode == "passthrough")
    assert (await host.kernel.sysctls([silent.path]))[silent.path] == "1"
    assert len(set(fds)) == 2 and await host.macvtaps.held(link.name, link.index)
    host.events.clear()
    await host.taps.close(fds)
    await eventually(lambda: any(getattr(event, "name", "") == "macvtap0" for event in host.events))


async def test_what_cannot_be_made_is_refused_as_by_the_kernel_and_what_is_there_is_not_opened(host: Host) -> None:
    link = await host.macvtap()
    with pytest.raises(HostError, match="create macvtap macvtap0 on eth1: File exists"):
        await host.macvtaps.open("macvtap0", "eth1", MAC, 1, True, [device()])
    with pytest.raises(HostError, match="create macvtap macvtap1 on eth1: Invalid argument"):
        await host.macvtaps.open("macvtap1", "eth1", MAC, 1, True, [device("macvtap1", "passthrough")])
    with pytest.raises(HostError, match="create macvtap macvtap1 on eth2: No such device"):
        await host.macvtaps.open("macvtap1", "eth2", MAC, 1, True, [device("macvtap1", lower="eth2")])
    missing = WriteSysctl(("net", "ipv6", "conf", "macvtap1", "nothing"), "1")
    with pytest.raises(HostError, match="write sysctl net/ipv6/conf/macvtap1/nothing: No such file"):
        await host.macvtaps.open("macvtap1", "eth1", MAC, 1, True, [device("macvtap1"), missing])
    assert not await host.macvtaps.held(link.name, link.index)
    assert await host.kernel.link("macvtap1") is not None, "whose it is may take it away"


@pytest.mark.kernel
async def test_a_second_daemon_sees_who_holds_what_the_first_opened() -> None:
    run("ip", "link", "add", "eth1", "type", "veth")
    kernel, first = await LinuxKernel.start(), MacvtapHost(lambda _: None)
    made = Host(kernel, LinuxTaps(), first, [])
    link = await made.macvtap()
    (fd,), _ = await first.open(link.name, "eth1", MAC, 1, True)
    await first.close()
    events: list[Any] = []
    second = MacvtapHost(events.append)
    assert await second.held(link.name, link.index)
    os.close(fd)
    await eventually(lambda: events)
    assert not await second.held(link.name, link.index)
    await second.close()
    await made.taps.stop()  # type: ignore[attr-defined]
    await kernel.close()


@pytest.mark.kernel
async def test_the_node_of_another_namespaces_device_is_never_given_away(tmp_path: Path) -> None:
    """Two macvtaps of one index: the second has no node of its own in /dev, and the first one's is not touched."""
    index = str(60000 + os.getpid() % 5000)
    for namespace in ("", "other"):
        within = ("-netns", namespace) if namespace else ()
        if namespace:
            run("ip", "netns", "add", f"{namespace}-{index}")
            within = ("-netns", f"{namespace}-{index}")
        run("ip", *within, "link", "add", "eth1", "type", "veth")
        run("ip", *within, "link", "add", "link", "eth1", "name", "mv0", "index", index, "type", "macvtap")
    try:
        before = os.stat(f"/dev/tap{index}")
        first = MacvtapHost(lambda _: None)
        assert await first.grant("mv0", int(index), 65534, -1) == f"/dev/tap{index}"
        assert os.stat(f"/dev/tap{index}").st_uid == 65534 != before.st_uid
        await first.close()
        with entered(f"/run/netns/other-{index}"):
            second = MacvtapHost(lambda _: None)
            with pytest.raises(Unsupported, match=r"another network namespace|there is no"):
                await second.grant("mv0", int(index), 1, -1)
            kernel = await LinuxKernel.start()
        link = await kernel.link("mv0")
        assert link is not None
        fds, _ = await second.open("mv0", "eth1", link.mac, 1, True)
        os.close(fds[0])
        assert os.stat(f"/dev/tap{index}").st_uid == 65534
        await second.close()
        await kernel.close()
    finally:
        run("ip", "netns", "delete", f"other-{index}")


async def test_rules_come_when_a_macvtap_is_there_and_before_it_is_placed(host: Host) -> None:
    placed: list[tuple[bool, str]] = []

    def placing(link: Link, lower: Link) -> list[SetLink]:
        placed.append((link.up, lower.name))
        return [SetLink("eth1", up=True), SetLink(link.name, mtu=1400, up=True)]

    commit = Witness(lambda: (host.kernel.is_taken("macvtap0"), list(placed)))
    fds, (link, lower) = await host.macvtaps.open("macvtap0", "eth1", MAC, 1, True, [device()], commit, placing)
    assert commit.done and commit.seen == [(True, [])] and placed == [(False, "eth1")]
    assert (link.up, link.mtu, lower.up) == (True, 1400, True)
    assert (link, lower) == await host.kernel.links_named(("macvtap0", "eth1"))
    await host.taps.close(fds)


async def test_a_macvtap_whose_rules_are_refused_is_not_handed_out_nor_raised(host: Host) -> None:
    fds, _ = await host.macvtaps.open("macvtap0", "eth1", MAC, 1, True, [device()])  # now it has its sockets and mounts
    await host.taps.close(fds)
    await host.kernel.apply([DeleteLink("macvtap0", "vnetd:port:x")])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="refused"):
        await host.macvtaps.open(
            "macvtap0",
            "eth1",
            MAC,
            1,
            True,
            [device()],
            Witness(refusing=True),
            lambda _, lower: [SetLink("lo", up=True)],
        )
    left = await host.kernel.link("macvtap0")
    assert left is not None and not left.up
    assert len(os.listdir("/proc/self/fd")) == before
