"""What the kernel reports of foreign changes to vnetd's tables; ``nft`` runs as the other process."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from support.netns import run
from support.waiting import eventually

from vnetd.host.events import Overflow, RulesEvent
from vnetd.linux.netlink import NETLINK_NETFILTER, RECEIVE
from vnetd.linux.netlink_listener import listening
from vnetd.linux.nft import LinuxNft
from vnetd.linux.nft_events import GROUP_NFTABLES, RulesMonitor
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Hook, Set

Seen = list[RulesEvent | Overflow]
GUESTS = Set("inet", "guests", ("ifname",))
RULE = ({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@guests"}}, {"accept": None})
FORWARD = Chain("inet", "forward", (RULE, ({"drop": None},)), Hook("filter", "forward", 0))
PORTS = Chain("bridge", "ports", (({"accept": None},),))
AT_DEVICE = Chain("netdev", "at_lo", (({"accept": None},),), Hook("filter", "ingress", 0, device="lo"))
CONTENTS = Fragment((FORWARD, PORTS, AT_DEVICE), (GUESTS,), frozenset({Element("inet", "guests", ("virbr0",))}))


@pytest.fixture
async def nft() -> AsyncIterator[LinuxNft]:
    linux = LinuxNft(own=False)  # or no other process could change them
    await linux.open()
    await linux.commit(EMPTY, CONTENTS)
    yield linux
    await linux.close()


@pytest.fixture
async def seen(nft: LinuxNft) -> AsyncIterator[Seen]:
    events: Seen = []
    monitor = RulesMonitor(events.append, nft.ports)
    monitor.open()
    yield events
    monitor.close()


async def until_quiet(seen: Seen) -> None:
    """Wait for the report of a change that is made now: all earlier ones have then been seen or never will be."""
    run("nft", "add chain inet vnetd sentinel")
    await eventually(lambda: RulesEvent("inet", "chain", "sentinel", "nft") in seen, "report of the sentinel chain")
    seen.remove(RulesEvent("inet", "chain", "sentinel", "nft"))


async def test_a_flushed_ruleset_is_reported_object_by_object_and_names_the_culprit(seen: Seen) -> None:
    run("nft", "flush", "ruleset")
    expected = {
        RulesEvent("inet", "chain", "forward", "nft"),
        RulesEvent("inet", "rules", "forward", "nft"),
        RulesEvent("inet", "set", "guests", "nft"),
        RulesEvent("inet", "table", "vnetd", "nft"),
        RulesEvent("bridge", "chain", "ports", "nft"),
        RulesEvent("bridge", "rules", "ports", "nft"),
        RulesEvent("bridge", "table", "vnetd", "nft"),
        RulesEvent("netdev", "chain", "at_lo", "nft"),
        RulesEvent("netdev", "rules", "at_lo", "nft"),
        RulesEvent("netdev", "table", "vnetd", "nft"),
    }
    await eventually(lambda: len(seen) >= len(expected), "as many reports")
    assert set(seen) == expected
    assert len(seen) == len(expected)


@pytest.mark.parametrize(
    ("command", "event"),
    [
        ("flush chain inet vnetd forward", RulesEvent("inet", "rules", "forward", "nft")),
        ("insert rule inet vnetd forward accept", RulesEvent("inet", "rules", "forward", "nft")),
        ("flush chain bridge vnetd ports", RulesEvent("bridge", "rules", "ports", "nft")),
        ("flush chain netdev vnetd at_lo", RulesEvent("netdev", "rules", "at_lo", "nft")),
        ("delete element inet vnetd guests { virbr0 }", RulesEvent("inet", "set", "guests", "nft")),
        ("add element inet vnetd guests { evil0, evil1 }", RulesEvent("inet", "set", "guests", "nft")),
        ("add chain inet vnetd forward { policy drop; }", RulesEvent("inet", "chain", "forward", "nft")),
        ("add set inet vnetd foreign { type mark; }", RulesEvent("inet", "set", "foreign", "nft")),
        ("add counter inet vnetd foreign", RulesEvent("inet", "table", "vnetd", "nft")),
        ("add rule inet vnetd forward tcp dport { 1, 2 } drop", RulesEvent("inet", "rules", "forward", "nft")),
    ],
)
async def test_a_foreign_change_is_reported_once(seen: Seen, command: str, event: RulesEvent) -> None:
    run("nft", command)
    await until_quiet(seen)
    assert seen == [event]


async def test_a_single_deleted_rule_is_reported(seen: Seen) -> None:
    listed = run("nft", "-a", "list chain inet vnetd forward").stdout
    handle = next(line.split()[-1] for line in listed.splitlines() if "drop" in line)
    run("nft", f"delete rule inet vnetd forward handle {handle}")
    await until_quiet(seen)
    assert seen == [RulesEvent("inet", "rules", "forward", "nft")]


async def test_own_changes_are_not_reported(nft: LinuxNft, seen: Seen) -> None:
    await nft.commit(Fragment(chains=(FORWARD,)), Fragment(elements=frozenset({Element("inet", "guests", ("a",))})))
    await nft.rewrite(EMPTY)
    await nft.rewrite(CONTENTS)
    await until_quiet(seen)
    assert seen == []


async def test_own_changes_wake_nobody(nft: LinuxNft) -> None:
    with listening(NETLINK_NETFILTER, 1 << 20, (GROUP_NFTABLES,), nft.ports) as sock:
        sock.setblocking(False)
        await nft.commit(EMPTY, Fragment(elements=frozenset({Element("inet", "guests", ("a",))})))
        await nft.rewrite(CONTENTS)
        with pytest.raises(BlockingIOError):
            sock.recv(RECEIVE)
        run("nft", "add chain inet vnetd sentinel")
        assert sock.recv(RECEIVE)


async def test_tables_of_others_are_not_reported(seen: Seen) -> None:
    for table in ("inet other", "ip vnetd", "arp vnetd"):
        run("nft", f"add table {table}; add chain {table} forward; add rule {table} forward accept")
    await until_quiet(seen)
    assert seen == []


async def test_the_kernel_dropping_reports_is_an_overflow_and_later_changes_are_seen(nft: LinuxNft) -> None:
    events: Seen = []
    monitor = RulesMonitor(events.append, nft.ports)
    monitor.open(receive_buffer=4096)
    try:
        # The loop does not get to read while these run.
        for number in range(200):
            run("nft", f"add element inet vnetd guests {{ if{number} }}; add chain inet vnetd c{number}")
        await eventually(lambda: Overflow("nftables") in events, "an overflow")
        await until_quiet(events)
        events.clear()
        run("nft", "flush chain bridge vnetd ports")
        await eventually(lambda: events == [RulesEvent("bridge", "rules", "ports", "nft")], "the report after it")
    finally:
        monitor.close()


@pytest.fixture
def foreign_reader() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        sock.bind((0, 0))
        yield sock


async def test_the_librarys_socket_is_found_among_the_process_sockets(foreign_reader: socket.socket) -> None:
    nft = LinuxNft()
    await nft.open()
    try:
        assert len(nft.ports) == 1
        assert 0 not in nft.ports
        assert foreign_reader.getsockname()[0] not in nft.ports
    finally:
        await nft.close()
