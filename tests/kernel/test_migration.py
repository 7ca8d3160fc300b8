"""A move on the kernel, broken off at each of its operations in turn: everything is back where it was."""

import subprocess
from collections.abc import AsyncIterator, Sequence

import pytest
from support.memory_resolver import MemoryResolver

from vnetd.linux.kernel import LinuxKernel
from vnetd.model.errors import HostError, Unsupported
from vnetd.plan.kernel import CreateBridge, Operation, SetLink
from vnetd.plan.possessions import FOREVER, Possessions
from vnetd.reconcile.migration import Migration, Move

SETTINGS = """
link add nic0 type veth peer name card
link set nic0 up
link set card up
address add 192.0.2.2/24 broadcast 192.0.2.255 dev nic0
address add 192.0.2.3/24 dev nic0 label nic0:web
address add 198.51.100.2 peer 198.51.100.1/32 dev nic0
address add 2001:db8::2/64 dev nic0 nodad
address add 2001:db8:1::2/64 dev nic0 nodad noprefixroute
route add default via 192.0.2.1 dev nic0 metric 100 proto dhcp mtu 1400
route add default via 192.0.2.1 dev nic0 table 1077 src 192.0.2.3 tos 0x10
route add 10.20.0.0/16 nexthop via 192.0.2.1 dev nic0 weight 3 nexthop via 192.0.2.9 dev nic0
route add 10.70.0.0/16 via inet6 fe80::1 dev nic0
-6 route add default via 2001:db8::1 dev nic0 metric 512 expires 5000
-6 route add 2001:db8:77::/48 via fe80::1 dev nic0 pref high
neighbour add 192.0.2.5 lladdr 52:54:00:00:00:05 dev nic0 nud permanent
-6 neighbour add 2001:db8::5 lladdr 52:54:00:00:00:05 dev nic0 nud permanent router
rule add priority 100 iif nic0 from 10.0.0.0/8 to 192.0.2.0/24 fwmark 0x1/0xf tos 0x10 lookup 1077
rule add priority 100 iif nic0 lookup 1077
rule add priority 100 iif nic0 ipproto tcp dport 80 sport 1-5 lookup 1077
rule add priority 100 iif nic0 oif elsewhere lookup 1077
rule add priority 110 oif nic0 uidrange 1000-2000 lookup main suppress_prefixlength 0
rule add priority 120 not iif nic0 oif elsewhere lookup 1078
rule add priority 130 iif nic0 goto 140
rule add priority 140 iif nic0 unreachable
-6 rule add priority 100 iif nic0 from 2001:db8::/32 ipproto udp dport 53 lookup 1077
-6 rule add priority 130 oif nic0 prohibit
neighbour add proxy 192.0.2.77 dev nic0
-6 neighbour add proxy 2001:db8::77 dev nic0
route add 172.16.0.1/32 dev nic0
route add 10.60.0.0/16 via 172.16.0.1 dev nic0
route delete 172.16.0.1/32 dev nic0
"""
"""The last is a route whose gateway the kernel would not take any more."""


class Balking:
    """The kernel, but the operation of number ``balk`` is refused; ``done`` counts those before."""

    def __init__(self, kernel: LinuxKernel, balk: int) -> None:
        self.possessions, self.sysctls = kernel.possessions, kernel.sysctls
        self.done = 0
        self.refused: Operation | None = None
        self._kernel = kernel
        self.balk = balk

    async def apply(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if self.done == self.balk and self.refused is None:
                self.refused = operation
                raise HostError("do", str(operation), "it does not want to")
            self.done += 1
            await self._kernel.apply([operation])


class Record:
    """What is on record of moves."""

    def __init__(self) -> None:
        self.move: Move | None = None
        self.noted: list[Move | None] = []

    async def note(self, move: Move | None) -> None:
        self.move = move
        self.noted.append(move)


@pytest.fixture
async def kernel() -> AsyncIterator[LinuxKernel]:
    """With a card that has much on it, plugged into a bridge."""
    for line in SETTINGS.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True)
    made = await LinuxKernel.start()
    bridge = CreateBridge("br0", "52:54:00:00:00:01", 1500, stp=False, forward_delay=0, alias="")
    await made.apply([bridge, SetLink("br0", up=True), SetLink("nic0", master="br0")])
    yield made
    await made.close()


def shape(held: Possessions | None) -> tuple[object, ...]:
    """All but what ticks, whether a gateway had to be said to be on the link, and the order of routes."""
    assert held is not None
    addresses = [
        (a.address, a.peer, a.broadcast, a.flags, a.label, a.scope, a.valid == FOREVER) for a in held.addresses
    ]
    ends = sorted((str(route.destination), bool(route.expires)) for route in held.routes)
    routes = {route.identity for route in held.routes}
    return addresses, routes, ends, set(held.neighbours), set(held.proxies), held.rules


async def test_wherever_a_move_breaks_off_everything_is_back_on_the_kernel(kernel: LinuxKernel) -> None:
    before = shape(await kernel.possessions("nic0"))
    balk, refused = 0, set()
    while True:
        balking, record = Balking(kernel, balk), Record()
        migration = Migration(balking, MemoryResolver(), record.note)  # type: ignore[arg-type]
        move = await migration.prepare("nic0", "br0")
        assert record.move == move, "on record before the first step"
        try:
            await migration.carry_out(move)
        except HostError:
            assert shape(await kernel.possessions("nic0")) == before, f"when {balking.refused} is refused"
            assert (await kernel.possessions("br0"), record.move) == (Possessions(), None)
            refused.add(type(balking.refused).__name__)
            balk += 1
            continue
        break
    assert balking.refused is None
    balking.balk = -1
    await migration.settle()
    kinds = ("Route", "Address", "Neighbour", "Proxy")
    assert refused >= {f"{verb}{kind}" for verb in ("Take", "Give") for kind in kinds}
    moved = await kernel.possessions("br0")
    assert moved is not None
    assert (await kernel.possessions("nic0"), len(moved.addresses), len(moved.neighbours)) == (Possessions(), 5, 2)
    assert len(moved.rules) == 10
    back = Migration(kernel, MemoryResolver(), Record().note)
    await back.carry_out(await back.prepare("br0", "nic0"))
    await back.settle()
    assert await kernel.possessions("br0") == Possessions()
    assert shape(await kernel.possessions("nic0")) == before


async def test_rules_that_cannot_leave_are_a_problem_until_they_can_and_hold_all_the_while(kernel: LinuxKernel) -> None:
    before = shape(await kernel.possessions("nic0"))
    record = Record()
    obstinate = Balking(kernel, 10**6)
    migration = Migration(obstinate, MemoryResolver(), record.note)  # type: ignore[arg-type]
    await migration.carry_out(await migration.prepare("nic0", "br0"))
    there, here = await kernel.possessions("br0"), await kernel.possessions("nic0")
    assert there and here and here.rules == tuple(rule.through("br0", "nic0") for rule in there.rules)
    assert not here.addresses
    obstinate.balk = obstinate.done + 2
    await migration.settle()
    assert migration.problem is not None and "it does not want to" in str(migration.problem)
    await migration.settle()
    assert (migration.problem, await kernel.possessions("nic0")) == (None, Possessions())
    back = Migration(kernel, MemoryResolver(), Record().note)
    await back.carry_out(await back.prepare("br0", "nic0"))
    await back.settle()
    assert shape(await kernel.possessions("nic0")) == before


async def test_a_route_with_a_hop_that_is_down_cannot_be_made_again_and_is_named(kernel: LinuxKernel) -> None:
    for line in (
        "link add nic1 type veth peer name card1",
        "link set nic1 up",
        "link set card1 up",
        "address add 203.0.113.2/24 dev nic1",
        "route add 10.90.0.0/16 nexthop via 192.0.2.1 dev nic0 nexthop via 203.0.113.1 dev nic1",
        "link set nic1 down",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    record = Record()
    with pytest.raises(Unsupported, match=r"10\.90\.0\.0/16 with a next hop whose device is down"):
        await Migration(kernel, MemoryResolver(), record.note).prepare("nic0", "br0")
    assert record.noted == []
