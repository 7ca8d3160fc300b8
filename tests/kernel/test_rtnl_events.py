"""What rtnetlink events say when others change things, how they end, and what happens when there are too many."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path

import pytest
from support.netns import run
from support.policy_rules import rule
from support.waiting import eventually

from vnetd.host.events import AddressEvent, HostEvent, LinkEvent, Overflow, RouteEvent, SysctlEvent
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.netlink_listener import BURST
from vnetd.linux.rtnl_events import RtnlEvents
from vnetd.plan.kernel import AddAddress, CreateBridge, GiveRule

BRIDGE = CreateBridge("virbr0", "52:54:00:12:34:56", 1500, stp=False, forward_delay=0, alias="ours")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass
class Heard:
    """Events in the order they came."""

    events: list[HostEvent] = field(default_factory=list)

    async def of(self, kind: type, condition: Callable[..., bool] = lambda event: True) -> HostEvent:
        """The first event of a kind that fits."""

        def found() -> HostEvent | None:
            return next((event for event in self.events if isinstance(event, kind) and condition(event)), None)

        event: HostEvent = await eventually(found, f"a {kind.__name__}")
        return event


Listen = Callable[..., Heard]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    opened: list[RtnlEvents] = []

    def make(own_ports: Callable[[], Collection[int]] = frozenset, receive_buffer: int = 1 << 20) -> Heard:
        heard = Heard()
        opened.append(RtnlEvents(heard.events.append, own_ports, receive_buffer))
        return heard

    yield make
    for events in opened:
        events.close()


@pytest.fixture
async def heard(listen: Listen) -> Heard:
    return listen()


@pytest.fixture
async def kernel() -> AsyncIterator[LinuxKernel]:
    made = await LinuxKernel.start()
    yield made
    await made.close()


def ip(*arguments: str) -> None:
    run("ip", *arguments)


def bridge(name: str, *addresses: str) -> int:
    """Make a bridge that is up and return its index."""
    ip("link", "add", name, "type", "bridge")
    ip("link", "set", name, "up")
    for address in addresses:
        ip("address", "add", address, "dev", name, *(("nodad",) if ":" in address else ()))
    return socket.if_nametoindex(name)


async def test_links_that_others_make_change_rename_and_delete_are_named(heard: Heard) -> None:
    for name, *change in (
        ("f0", "add", "f0", "type", "bridge"),
        ("f0", "set", "f0", "mtu", "1400"),
        ("f0", "set", "f0", "up"),
        ("f0", "set", "f0", "alias", "x"),
        ("f1", "set", "f0", "name", "f1"),
        ("f1", "delete", "f1"),
    ):
        heard.events.clear()
        ip("link", *change)
        await heard.of(LinkEvent, lambda event, name=name: event.name == name)


@pytest.mark.parametrize(
    ("address", "route", "gateway"),
    [
        ("192.0.2.1/24", "198.51.100.0/24", "192.0.2.9"),
        ("2001:db8::1/64", "2001:db8:1::/48", "2001:db8::9"),
    ],
)
async def test_addresses_and_routes_carry_their_link(heard: Heard, address: str, route: str, gateway: str) -> None:
    here = bridge("f0")
    for kind, what in (
        (AddressEvent, ("address", "add", address, "dev", "f0", *(("nodad",) if ":" in address else ()))),
        (RouteEvent, ("route", "add", route, "via", gateway)),
        (RouteEvent, ("route", "delete", route)),
        (AddressEvent, ("address", "delete", address, "dev", "f0")),
    ):
        heard.events.clear()
        ip(*what)
        await heard.of(kind, lambda event: event.index == here)


async def test_flushed_addresses_tell_of_the_static_route_that_went_with_them(heard: Heard) -> None:
    here = bridge("f0", "192.0.2.1/24")
    ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9")
    heard.events.clear()
    ip("address", "flush", "dev", "f0")
    await heard.of(AddressEvent, lambda event: event.index == here)


async def test_a_route_over_several_links_belongs_to_none(heard: Heard) -> None:
    bridge("f1", "192.0.1.1/24")
    bridge("f2", "192.0.2.1/24")
    heard.events.clear()
    ip("route", "add", "198.51.100.0/24", "nexthop", "via", "192.0.1.9", "nexthop", "via", "192.0.2.9")
    await heard.of(RouteEvent, lambda event: event.index == 0)


async def test_forwarding_and_rp_filter_carry_family_and_link(heard: Heard) -> None:
    here = bridge("f0")
    for path, family, index in (
        ("ipv4/ip_forward", 2, -1),
        ("ipv4/conf/default/forwarding", 2, -2),
        ("ipv4/conf/f0/forwarding", 2, here),
        ("ipv4/conf/f0/rp_filter", 2, here),
        ("ipv6/conf/all/forwarding", 10, -1),
        ("ipv6/conf/f0/forwarding", 10, here),
    ):
        file = Path("/proc/sys/net", path)
        before = file.read_text().strip()
        heard.events.clear()
        file.write_text("0" if before == "1" else "1")
        await heard.of(SysctlEvent, lambda event, at=(family, index): (event.family, event.index) == at)


@pytest.fixture
def batch() -> Iterator["subprocess.Popen[str]"]:
    """An ``ip`` that goes on living after each command it is sent."""
    with subprocess.Popen(["ip", "-batch", "-"], stdin=subprocess.PIPE, text=True) as process:
        yield process


async def test_a_process_that_still_lives_is_named_as_the_cause(heard: Heard, batch: "subprocess.Popen[str]") -> None:
    here = bridge("f0")
    assert batch.stdin is not None
    for command, kind in (
        ("address add 192.0.2.1/24 dev f0", AddressEvent),
        ("route add 198.51.100.0/24 via 192.0.2.9", RouteEvent),
    ):
        print(command, file=batch.stdin, flush=True)
        await heard.of(kind, lambda event: event.index == here and event.cause == "ip")


async def test_our_own_changes_have_no_cause(heard: Heard, kernel: LinuxKernel) -> None:
    await kernel.apply([BRIDGE, AddAddress("virbr0", ip_interface("192.0.2.1/24"))])
    await heard.of(AddressEvent)
    assert {getattr(event, "cause", "") for event in heard.events} == {""}


async def test_echoes_of_our_requests_can_be_left_out(listen: Listen, kernel: LinuxKernel) -> None:
    ip("link", "add", "f0", "type", "bridge")
    everything, others = listen(), listen(lambda: kernel.ports)
    await kernel.apply([BRIDGE, AddAddress("virbr0", ip_interface("192.0.2.1/24"))])
    ip("address", "add", "198.51.100.1/24", "dev", "f0")
    ours, theirs = socket.if_nametoindex("virbr0"), socket.if_nametoindex("f0")
    await everything.of(AddressEvent, lambda event: event.index == ours)
    await others.of(AddressEvent, lambda event: event.index == theirs)
    assert ours not in {event.index for event in others.events if isinstance(event, AddressEvent)}


async def test_rules_about_devices_are_told_once_for_each_and_others_not(listen: Listen, kernel: LinuxKernel) -> None:
    heard = listen(lambda: kernel.ports)
    for name in ("f0", "f1"):
        ip("link", "add", name, "type", "bridge")
    await kernel.apply([GiveRule(rule(5, iif="f0"))])
    ip("rule", "add", "priority", "6", "lookup", "7")
    ip("rule", "add", "priority", "7", "iif", "f0", "oif", "f1", "lookup", "7")
    ip("-6", "rule", "add", "priority", "8", "oif", "gone", "lookup", "7")
    await heard.of(RouteEvent, lambda event: event.name == "gone")
    told = [(event.index, event.name) for event in heard.events if isinstance(event, RouteEvent)]
    assert told == [(socket.if_nametoindex("f0"), "f0"), (socket.if_nametoindex("f1"), "f1"), (0, "gone")]


def _about(heard: Heard, name: str) -> list[HostEvent]:
    return [event for event in heard.events if isinstance(event, LinkEvent) and event.name == name]


async def test_lost_events_are_reported_and_later_ones_arrive(listen: Listen) -> None:
    heard = listen(receive_buffer=4096)
    for number in range(20):  # nobody reads meanwhile: the loop is held up right here
        ip("link", "add", f"f{number}", "type", "bridge")
    await heard.of(Overflow, lambda event: event.source == "rtnetlink")
    heard.events.clear()
    ip("link", "add", "later", "type", "bridge")
    await heard.of(LinkEvent, lambda event: event.name == "later")


async def test_a_flood_of_events_leaves_the_loop_to_others(heard: Heard) -> None:
    for number in range(BURST):  # several messages each
        IP_FORWARD.write_text(str((number + 1) % 2))
    bridge("last")
    seen: list[int] = []
    while not _about(heard, "last"):
        await asyncio.sleep(0)
        seen.append(len(heard.events))
    assert len(set(seen)) > 2, "all events were handled in one turn of the loop"


async def test_closed_events_report_nothing_more(heard: Heard) -> None:
    silent: list[HostEvent] = []
    events = RtnlEvents(silent.append)
    events.close()
    events.close()
    bridge("f0")
    await heard.of(LinkEvent, lambda event: event.name == "f0")
    assert silent == []
