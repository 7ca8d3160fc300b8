"""``host.Kernel`` in memory: keeps objects, refuses what the kernel refuses, reports events; forwards nothing.

What the kernel does by itself is here only where vnetd has to live with it: a link that goes takes its addresses,
routes and sysctls along, a link set down loses its routes and IPv6 addresses, and with the last IPv4 address of a
link go its IPv4 routes and neighbours.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from itertools import count

from support import memory_traffic
from support.memory_addresses import AddressOperation, change_address, host_routes
from support.memory_bridges import BridgeOperation, change_bridge
from support.memory_calls import Call, Hook
from support.memory_links import LinkOperation, change_link
from support.memory_possessions import PossessionOperation, perform, possessions, rules_about
from support.memory_sysctls import IP_FORWARD, Path, add_sysctls, write_sysctl
from support.memory_words import words

from vnetd.host.events import AddressEvent, HostEvent, LinkEvent, RouteEvent, TrafficEvent
from vnetd.model.base import IPAddress, IPInterface, IPNetwork
from vnetd.model.errors import HostError
from vnetd.model.functions import VfState
from vnetd.plan.kernel import DeleteLink, DisableTxChecksum, Operation, SetLink, WriteSysctl
from vnetd.plan.links import BridgeState, HostRoute, KernelRoute, Link, LinkView, Neighbour, PortVlan, TunState
from vnetd.plan.possessions import HeldAddress, HeldNeighbour, HeldRoute, HeldRule, Possessions
from vnetd.plan.traffic import Redirect, Traffic

BOOT_ID = ("kernel", "random", "boot_id")


@dataclass(slots=True)
class Entry:
    """A link and what hangs on it."""

    link: Link
    addresses: set[IPInterface] = field(default_factory=set)
    routes: set[KernelRoute] = field(default_factory=set)
    cut: set[IPNetwork] = field(default_factory=set)
    """Subnets whose connected route somebody deleted."""
    tx_checksum: bool = True
    details: dict[IPInterface, HeldAddress] = field(default_factory=dict)
    """More about addresses of which more was said."""
    permanent: dict[IPAddress, HeldNeighbour] = field(default_factory=dict)
    """Neighbours somebody entered for ever."""
    proxies: list[IPAddress] = field(default_factory=list)
    vlans: dict[int, PortVlan] = field(default_factory=dict)


class MemoryKernel:
    """A host with its loopback and nothing else.

    ``done`` lists what was asked for by ``apply``; ``refuse`` maps operation types to the error number their next
    execution fails with; ``foreign`` is what another process does. Events of both go to all subscribers.
    """

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.values: dict[Path, str] = {IP_FORWARD: "0", BOOT_ID: "first boot"}
        self.done: list[Operation] = []
        self.refuse: dict[type, int] = {}
        self.modes: dict[int, str] = {}
        self.further_routes: list[HeldRoute] = []
        """Routes of which more is said than a ``KernelRoute`` can."""
        self.policy_rules: list[HeldRule] = []
        """By family and priority; of one priority as they came."""
        self.knows_vlans = True
        self.neighbour_table: dict[str, tuple[Neighbour, ...]] = {}
        self.limits = memory_traffic.MemoryTraffic()
        self.cards: dict[str, dict[int, VfState]] = {}
        self._listeners: list[Callable[[HostEvent], None]] = []
        self._indexes = count(1)
        for name in ("all", "default"):
            add_sysctls(self, name)
        lo = self.create("lo", "")
        self.change(self.entries[lo], up=True, carrier=True)

    def subscribe(self, listener: Callable[[HostEvent], None]) -> None:
        """Call ``listener`` for every event from now on."""
        self._listeners.append(listener)

    async def view(self, name: str) -> LinkView | None:
        """A link with its addresses and routes."""
        entry = self.find(name)
        if entry is None:
            return None
        connected = {ip_network(a.network) for a in entry.addresses} - entry.cut if entry.link.up else set()
        return LinkView(entry.link, frozenset(entry.addresses), frozenset(entry.routes), frozenset(connected))

    async def view_with(self, name: str, sysctls: Sequence[Path]) -> tuple[LinkView | None, Mapping[Path, str | None]]:
        """A link with its addresses and routes, and sysctls if it is there."""
        view = await self.view(name)
        return view, await self.sysctls(sysctls) if view else {}

    async def link(self, name: str) -> Link | None:
        """A link alone."""
        entry = self.find(name)
        return entry.link if entry else None

    def is_taken(self, name: str) -> bool:
        """Whether there is such a link."""
        return self.find(name) is not None

    def mtu(self, name: str) -> int | None:
        """A link's MTU."""
        entry = self.find(name)
        return entry.link.mtu if entry else None

    async def links_named(self, names: Sequence[str]) -> tuple[Link | None, ...]:
        """Several links."""
        return tuple([await self.link(name) for name in names])

    async def link_at(self, index: int) -> Link | None:
        """A link by its index."""
        entry = self.entries.get(index)
        return entry.link if entry else None

    async def links(self) -> tuple[Link, ...]:
        """Every link."""
        return tuple(entry.link for entry in self.entries.values())

    async def traffic(self, name: str) -> Traffic | None:
        """Traffic control of a link."""
        entry = self.find(name)
        return self.limits.of(entry.link.index) if entry else None

    async def functions(self, pf: str) -> Mapping[int, VfState]:
        """What a card does for its functions."""
        return self.cards.get(pf, {})

    async def neighbours(self, name: str) -> tuple[Neighbour, ...]:
        """Whom a test has put there."""
        return self.neighbour_table.get(name, ())

    async def host_routes(self) -> tuple[HostRoute, ...]:
        """Static routes, and those of the subnets of links that are up."""
        return tuple(route for entry in self.entries.values() for route in host_routes(entry))

    async def possessions(self, name: str) -> Possessions | None:
        """What belongs to the host on a link."""
        entry, rules = self.find(name), rules_about(self, name)
        without = Possessions(rules=rules) if rules else None
        return possessions(self, entry) if entry else without

    async def port_vlans(self, name: str) -> frozenset[PortVlan]:
        """VLANs of a bridge port or of a bridge."""
        entry = self.find(name)
        if entry is None:
            raise HostError("read", f"VLANs of {name}", errno.ENODEV)
        return frozenset(entry.vlans.values())

    async def sysctls(self, paths: Sequence[Path]) -> Mapping[Path, str | None]:
        """Values, ``None`` for what does not exist."""
        return {path: self.values.get(path) for path in paths}

    async def apply(self, operations: Sequence[Operation]) -> None:
        """Execute in order, stop at the first that fails."""
        for operation in operations:
            self.done.append(operation)
            if code := self.refuse.pop(type(operation), 0):
                raise HostError(*words(operation), code)
            self._execute(operation, "")

    async def place(self, operations: Sequence[SetLink], step: Hook) -> None:
        """Put a device in its bridge, if that is there."""
        if all(self.find(one.master) for one in operations if one.master):
            for one in operations:
                await step(Call("kernel.SetLink", (one,)))
                await self.apply([one])

    def foreign(self, *operations: Operation, cause: str = "ip") -> None:
        """What another process does; ``DeleteLink`` does not ask for its alias."""
        for operation in operations:
            if isinstance(operation, DeleteLink):
                self.remove(self.require(operation, operation.name).link.index, cause)
            else:
                self._execute(operation, cause)

    def stir(self, index: int) -> None:
        """Something about a link changed that is no property of it: its event says so, if it is there."""
        if entry := self.entries.get(index):
            self.emit(LinkEvent(index, entry.link.name, ""))

    def cut_subnet(self, name: str, subnet: IPNetwork, cause: str = "ip") -> None:
        """Another process deletes the route of a link's own subnet."""
        entry = self.find(name)
        assert entry is not None
        entry.cut.add(subnet)
        self.emit(RouteEvent(entry.link.index, cause, name))

    def find(self, name: str) -> Entry | None:
        """The entry of a link by name."""
        return next((entry for entry in self.entries.values() if entry.link.name == name), None)

    def create(
        self,
        name: str,
        kind: str,
        mac: str = "00:00:00:00:00:00",
        mtu: int = 1500,
        cause: str = "",
        tun: TunState | None = None,
    ) -> int:
        """Make a link, down, and return its index."""
        index = next(self._indexes)
        bridge = BridgeState(stp=False, forward_delay=1500) if kind == "bridge" else None
        self.entries[index] = Entry(Link(index, name, kind, mac, mtu, up=False, bridge=bridge, tun=tun))
        add_sysctls(self, name)
        self.emit(LinkEvent(index, name, cause))
        return index

    def drop_address(self, entry: Entry, address: IPInterface, cause: str = "") -> None:
        """Take an address away if it is there; with the last of IPv4 go the link's routes and neighbours."""
        if address not in entry.addresses:
            return
        last = address.version == 4 and not any(a.version == 4 for a in entry.addresses - {address})
        self.drop(entry, [address], [r for r in entry.routes if last and r.destination.version == 4], cause)
        entry.details.pop(address, None)
        if last:
            name = entry.link.name
            self.further_routes = [r for r in self.further_routes if r.destination.version == 6 or not r.uses(name)]
            entry.permanent = {address: one for address, one in entry.permanent.items() if address.version == 6}

    def change_tun(self, name: str, **changes: object) -> None:
        """What the holder of a queue does to a tap."""
        entry = self.find(name)
        assert entry is not None and entry.link.tun is not None
        self.change(entry, tun=replace(entry.link.tun, **changes))  # type: ignore[arg-type]

    def remove(self, index: int, cause: str = "") -> None:
        """Take a link away; ports of a bridge stay without one."""
        name = self.entries.pop(index).link.name
        self.further_routes = [route for route in self.further_routes if not route.uses(name)]
        self.limits.forget(index)
        self.values = {path: value for path, value in self.values.items() if path[2:4] != ("conf", name)}
        for entry in tuple(self.entries.values()):
            if entry.link.master == index:
                self.change(entry, master=0, isolated=False)
            if entry.link.lower == index:
                self.remove(entry.link.index, cause)
        self.emit(LinkEvent(index, name, cause))

    def _execute(self, operation: Operation, cause: str) -> None:
        if isinstance(operation, PossessionOperation):
            perform(self, operation, cause)
        elif isinstance(operation, BridgeOperation):
            change_bridge(self, operation, cause)
        elif isinstance(operation, LinkOperation):
            change_link(self, operation, cause)
        elif isinstance(operation, AddressOperation):
            change_address(self, operation, cause)
        elif isinstance(operation, WriteSysctl):
            write_sysctl(self, operation, cause)
        elif isinstance(operation, DisableTxChecksum):
            self.require(operation, operation.name).tx_checksum = False
        else:
            target = self.require(operation, operation.to).link.index if isinstance(operation, Redirect) else 0
            entry = self.require(operation, operation.link)
            self.limits.execute(entry.link.index, operation, target)
            self.emit(TrafficEvent(entry.link.index, cause, entry.link.name))

    def drop(self, entry: Entry, addresses: Sequence[IPInterface], routes: Sequence[KernelRoute], cause: str) -> None:
        """Take addresses and routes of a link away."""
        entry.addresses -= set(addresses)
        entry.routes -= set(routes)
        for _ in addresses:
            self.emit(AddressEvent(entry.link.index, cause, entry.link.name))
        for _ in routes:
            self.emit(RouteEvent(entry.link.index, cause, entry.link.name))

    def require(self, operation: Operation, name: str) -> Entry:
        """The entry of a link an operation names. Raises ``HostError``."""
        entry = self.find(name)
        if entry is None:
            raise HostError(*words(operation), errno.ENODEV)
        return entry

    def change(self, entry: Entry, cause: str = "", **changes: object) -> None:
        """Give a link other properties."""
        entry.link = replace(entry.link, **changes)  # type: ignore[arg-type]
        self.emit(LinkEvent(entry.link.index, entry.link.name, cause))

    def emit(self, event: HostEvent) -> None:
        """Report an event."""
        for listener in self._listeners:
            listener(event)
