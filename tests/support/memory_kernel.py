"""``host.Kernel`` in memory: keeps objects, refuses what the kernel refuses, reports events; forwards nothing.

What the kernel does by itself is here only where vnetd has to live with it: a link that goes takes its addresses,
routes and sysctls along, a link set down loses its routes and IPv6 addresses, and with the last IPv4 address of a
link go its IPv4 routes and neighbours.
"""

import errno
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from itertools import count

from support import memory_traffic
from support.memory_bridges import BridgeOperation, change_bridge
from support.memory_bridges import words as bridge_words
from support.memory_possessions import PossessionOperation, perform, possessions
from support.memory_possessions import words as possession_words

from vnetd.host.events import AddressEvent, HostEvent, LinkEvent, RouteEvent, SysctlEvent, TrafficEvent
from vnetd.model.base import IPAddress, IPInterface, IPNetwork
from vnetd.model.errors import HostError
from vnetd.model.functions import VfState
from vnetd.plan.functions import SetFunction
from vnetd.plan.kernel import (
    AddAddress,
    AddConnectedRoute,
    AddRoute,
    CreateBridge,
    CreateMacvlan,
    CreateVeth,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    DisableTxChecksum,
    Operation,
    RenameLink,
    SetLink,
    WriteSysctl,
)
from vnetd.plan.links import (
    BridgeOptions,
    BridgeState,
    HostRoute,
    KernelRoute,
    Link,
    LinkView,
    Neighbour,
    PortVlan,
    TunState,
)
from vnetd.plan.possessions import HeldAddress, HeldNeighbour, HeldRoute, Possessions
from vnetd.plan.traffic import CreateIfb, Redirect, Traffic, TrafficOperation

PROTO_KERNEL, PROTO_STATIC, TABLE_MAIN = 2, 4, 254
IP_FORWARD = ("net", "ipv4", "ip_forward")
BOOT_ID = ("kernel", "random", "boot_id")
IPV6_METRIC = 1024
SMALLEST_DELAY = 200
"""1/100 s: the forward delay the kernel insists on with STP on (IEEE 802.1D)."""
PER_LINK = {
    "ipv4": {"forwarding": "0", "rp_filter": "0", "arp_ignore": "0", "promote_secondaries": "0"},
    "ipv6": {
        "forwarding": "0",
        "disable_ipv6": "0",
        "addr_gen_mode": "0",
        "accept_ra": "1",
        "autoconf": "1",
        "accept_dad": "1",
    },
}
WORDS: dict[type, str] = {
    CreateBridge: "create bridge",
    CreateVeth: "create veth",
    DeleteLink: "delete link",
    AddAddress: "add address",
    DeleteAddress: "delete address",
    AddConnectedRoute: "add route",
    AddRoute: "add route",
    DeleteRoute: "delete route",
    WriteSysctl: "write sysctl",
    DisableTxChecksum: "disable tx checksum of",
    SetFunction: "set",
}
REPORTED = frozenset({"forwarding", "rp_filter"})
Path = tuple[str, ...]


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
        self.knows_vlans = True
        self.neighbour_table: dict[str, tuple[Neighbour, ...]] = {}
        self.limits = memory_traffic.MemoryTraffic()
        self.cards: dict[str, dict[int, VfState]] = {}
        self._listeners: list[Callable[[HostEvent], None]] = []
        self._indexes = count(1)
        for name in ("all", "default"):
            self._add_sysctls(name)
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

    async def link(self, name: str) -> Link | None:
        """A link alone."""
        entry = self.find(name)
        return entry.link if entry else None

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
        return tuple(route for entry in self.entries.values() for route in _host_routes(entry))

    async def possessions(self, name: str) -> Possessions | None:
        """What belongs to the host on a link."""
        entry = self.find(name)
        return possessions(self, entry) if entry else None

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
                raise HostError(*_words(operation), code)
            self._execute(operation, "")

    def foreign(self, *operations: Operation, cause: str = "ip") -> None:
        """What another process does; ``DeleteLink`` does not ask for its alias."""
        for operation in operations:
            if isinstance(operation, DeleteLink):
                self.remove(self._entry(operation, operation.name).link.index, cause)
            else:
                self._execute(operation, cause)

    def stir(self, index: int) -> None:
        """Something about a link changed that is no property of it: its event says so, if it is there."""
        if entry := self.entries.get(index):
            self._emit(LinkEvent(index, entry.link.name, ""))

    def cut_subnet(self, name: str, subnet: IPNetwork, cause: str = "ip") -> None:
        """Another process deletes the route of a link's own subnet."""
        entry = self.find(name)
        assert entry is not None
        entry.cut.add(subnet)
        self._emit(RouteEvent(entry.link.index, cause, name))

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
        self._add_sysctls(name)
        self._emit(LinkEvent(index, name, cause))
        return index

    def emit(self, event: HostEvent) -> None:
        """Report an event."""
        self._emit(event)

    def drop_address(self, entry: Entry, address: IPInterface, cause: str = "") -> None:
        """Take an address away if it is there; with the last of IPv4 go the link's routes and neighbours."""
        if address not in entry.addresses:
            return
        last = address.version == 4 and not any(a.version == 4 for a in entry.addresses - {address})
        self._drop(entry, [address], [r for r in entry.routes if last and r.destination.version == 4], cause)
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
        self._emit(LinkEvent(index, name, cause))

    def _execute(self, operation: Operation, cause: str) -> None:
        if isinstance(operation, PossessionOperation):
            perform(self, operation, cause)
        elif isinstance(operation, BridgeOperation):
            change_bridge(self, operation, cause)
        else:
            self._execute_common(operation, cause)

    def _execute_common(self, operation: Operation, cause: str) -> None:
        match operation:
            case CreateBridge() | CreateVeth() | CreateMacvlan():
                self._create(operation, cause)
            case SetLink() | SetFunction():
                self._set(operation, cause)
            case RenameLink():
                self._rename(operation, cause)
            case DeleteLink():
                self._delete_link(operation, cause)
            case AddAddress() | DeleteAddress():
                self._address(operation, cause)
            case AddConnectedRoute(link, address):
                self._entry(operation, link).cut.discard(ip_network(address.network))
            case AddRoute() | DeleteRoute():
                self._route(operation, cause)
            case WriteSysctl():
                self._write_sysctl(operation, cause)
            case DisableTxChecksum(name):
                self._entry(operation, name).tx_checksum = False
            case _:
                self._limit(operation, cause)

    def _limit(self, operation: TrafficOperation, cause: str) -> None:
        if isinstance(operation, CreateIfb):
            self._create(operation, cause)
            return
        target = self._entry(operation, operation.to).link.index if isinstance(operation, Redirect) else 0
        entry = self._entry(operation, operation.link)
        self.limits.execute(entry.link.index, operation, target)
        self._emit(TrafficEvent(entry.link.index, cause, entry.link.name))

    def _rename(self, operation: RenameLink, cause: str) -> None:
        entry = self._entry(operation, operation.name)
        if self.find(operation.new):
            raise HostError(*_words(operation), errno.EEXIST)
        moved = {path: value for path, value in self.values.items() if path[2:4] == ("conf", operation.name)}
        for path, value in moved.items():
            del self.values[path]
            self.values[(*path[:3], operation.new, *path[4:])] = value
        self.change(entry, cause, name=operation.new)

    def _delete_link(self, operation: DeleteLink, cause: str) -> None:
        entry = self.find(operation.name)
        if entry and entry.link.alias == operation.alias:
            self.remove(entry.link.index, cause)

    def _write_sysctl(self, operation: WriteSysctl, cause: str) -> None:
        if operation.path in self.values:
            self._write(operation.path, operation.value, cause)
        elif not operation.optional:
            raise HostError(*_words(operation), errno.ENOENT)

    def _create(self, want: CreateBridge | CreateVeth | CreateMacvlan | CreateIfb, cause: str) -> None:
        if isinstance(want, CreateMacvlan):
            return self._create_macvlan(want, cause)
        if self.find(want.name) is not None:
            raise HostError(*_words(want), errno.EEXIST)
        if isinstance(want, CreateIfb):
            self.change(self.entries[self.create(want.name, "ifb", cause=cause)], cause, alias=want.alias)
            return
        delay = want.forward_delay if isinstance(want, CreateBridge) else SMALLEST_DELAY
        stp = isinstance(want, CreateBridge) and want.stp
        kind = "bridge" if isinstance(want, CreateBridge) else "veth"
        entry = self.entries[self.create(want.name, kind, want.mac, want.mtu, cause)]
        bridge = BridgeState(stp, max(delay, SMALLEST_DELAY) if stp else delay) if kind == "bridge" else None
        self.change(entry, cause, alias=want.alias, bridge=bridge)
        if isinstance(want, CreateBridge) and want.options != BridgeOptions():
            try:
                change_bridge(self, want, cause)
            except HostError:
                self.remove(entry.link.index, cause)
                raise

    def _create_macvlan(self, want: CreateMacvlan, cause: str) -> None:
        lower = self._entry(want, want.lower).link
        above = {e.link.index: self.modes[e.link.index] for e in self.entries.values() if e.link.lower == lower.index}
        if self.find(want.name) is not None:
            raise HostError(*_words(want), errno.EEXIST)
        if "passthrough" in above.values() or (above and want.mode == "passthrough"):
            raise HostError(*_words(want), errno.EINVAL)
        entry = self.entries[self.create(want.name, want.kind, want.mac, lower.mtu, cause)]
        self.modes[entry.link.index] = want.mode
        self.change(entry, cause, alias=want.alias, lower=lower.index)

    def _set(self, want: SetLink | SetFunction, cause: str) -> None:
        if isinstance(want, SetLink):
            return self._set_link(want, cause)
        entry = self._entry(want, want.pf)
        if want.vf not in self.cards.get(want.pf, {}):
            raise HostError(*_words(want), errno.EINVAL)
        given = {"mac": want.mac, "spoof_check": want.spoof_check, "trust": want.trust, "link_state": want.link_state}
        changes = {key: value for key, value in given.items() if value is not None}
        if want.vlan is not None:
            changes |= {"vlan": want.vlan[0], "qos": want.vlan[1]}
        self.cards[want.pf][want.vf] = self.cards[want.pf][want.vf].model_copy(update=changes)
        self._emit(LinkEvent(entry.link.index, want.pf, cause))

    def _set_link(self, want: SetLink, cause: str) -> None:
        entry = self._entry(want, want.name)
        changes: dict[str, object] = {"mac": want.mac, "mtu": want.mtu, "alias": want.alias, "up": want.up}
        changes["master"] = self._master(want)
        joins = changes["master"] is not None and changes["master"] != entry.link.master
        changes["isolated"] = False if joins and want.isolated is None else want.isolated
        if want.stp is not None or want.forward_delay is not None:
            changes["bridge"] = _bridge(entry.link, want)
        if want.isolated is not None and not (changes["master"] or entry.link.master):
            raise HostError(*_words(want), errno.EOPNOTSUPP)
        self.change(entry, cause, **{key: value for key, value in changes.items() if value is not None})
        if want.up is False:
            self._drop(entry, [a for a in entry.addresses if a.version == 6], list(entry.routes), cause)

    def _master(self, want: SetLink) -> int | None:
        if not want.master:
            return None if want.master is None else 0
        return self._entry(want, want.master).link.index

    def _address(self, operation: AddAddress | DeleteAddress, cause: str) -> None:
        address = operation.address
        if isinstance(operation, DeleteAddress):
            entry = self.find(operation.link)
            if entry:
                self.drop_address(entry, address, cause)
            return
        entry = self._entry(operation, operation.link)
        if address in entry.addresses:
            raise HostError(*_words(operation), errno.EEXIST)
        entry.addresses.add(address)
        self._emit(AddressEvent(entry.link.index, cause, entry.link.name))

    def _route(self, operation: AddRoute | DeleteRoute, cause: str) -> None:
        route = _shown(operation.route)
        if isinstance(operation, DeleteRoute):
            entry = self.find(operation.link)
            if entry and route in entry.routes:
                self._drop(entry, [], [route], cause)
            return
        entry = self._entry(operation, operation.link)
        if code := self._refusal(entry, route):
            raise HostError(*_words(operation), code)
        entry.routes.add(route)
        self._emit(RouteEvent(entry.link.index, cause, entry.link.name))

    def _refusal(self, entry: Entry, route: KernelRoute) -> int:
        taken = {(r.destination, r.metric) for other in self.entries.values() for r in other.routes}
        if not entry.link.up:
            return errno.ENETDOWN
        if route.gateway and not any(route.gateway in address.network for address in entry.addresses):
            return errno.ENETUNREACH if route.gateway.version == 4 else errno.EHOSTUNREACH
        return errno.EEXIST if (route.destination, route.metric) in taken else 0

    def _drop(self, entry: Entry, addresses: Sequence[IPInterface], routes: Sequence[KernelRoute], cause: str) -> None:
        entry.addresses -= set(addresses)
        entry.routes -= set(routes)
        for _ in addresses:
            self._emit(AddressEvent(entry.link.index, cause, entry.link.name))
        for _ in routes:
            self._emit(RouteEvent(entry.link.index, cause, entry.link.name))

    def _write(self, path: Path, value: str, cause: str) -> None:
        self.values[path] = value
        if path == IP_FORWARD:
            self._write(("net", "ipv4", "conf", "all", "forwarding"), value, cause)
            return
        if path[2:] == ("conf", "all", "forwarding"):
            if path[1] == "ipv4":
                self.values[IP_FORWARD] = value
            for other in [p for p in self.values if p[:3] == path[:3] and p[4:] == ("forwarding",) and p != path]:
                self._write(other, value, cause)
        if path[2:3] == ("conf",) and path[-1] in REPORTED:
            family = socket.AF_INET if path[1] == "ipv4" else socket.AF_INET6
            index = self._index(path[3])
            self._emit(SysctlEvent(family, index, name=path[3] if index > 0 else ""))

    def _index(self, name: str) -> int:
        special = {"all": -1, "default": -2}
        entry = self.find(name)
        return special.get(name, entry.link.index if entry else 0)

    def _add_sysctls(self, name: str) -> None:
        for family, values in PER_LINK.items():
            for key, value in values.items():
                inherited = self.values.get(("net", family, "conf", "default", key), value)
                self.values["net", family, "conf", name, key] = inherited

    def _entry(self, operation: Operation, name: str) -> Entry:
        entry = self.find(name)
        if entry is None:
            raise HostError(*_words(operation), errno.ENODEV)
        return entry

    def change(self, entry: Entry, cause: str = "", **changes: object) -> None:
        entry.link = replace(entry.link, **changes)  # type: ignore[arg-type]
        self._emit(LinkEvent(entry.link.index, entry.link.name, cause))

    def _emit(self, event: HostEvent) -> None:
        for listener in self._listeners:
            listener(event)


def _shown(route: KernelRoute) -> KernelRoute:
    if route.destination.version == 6 and not route.metric:
        return replace(route, metric=IPV6_METRIC)
    return route


def _bridge(link: Link, want: SetLink) -> BridgeState:
    have = link.bridge or BridgeState(stp=False, forward_delay=0)
    stp = have.stp if want.stp is None else want.stp
    delay = have.forward_delay if want.forward_delay is None else want.forward_delay
    return replace(have, stp=stp, forward_delay=max(delay, SMALLEST_DELAY) if stp else delay)


def _host_routes(entry: Entry) -> Iterator[HostRoute]:
    name = entry.link.name
    if name == "lo" or not entry.link.up:
        return
    for address in entry.addresses:
        yield HostRoute(ip_network(address.network), name, TABLE_MAIN, PROTO_KERNEL)
    for route in entry.routes:
        yield HostRoute(route.destination, name, TABLE_MAIN, PROTO_STATIC, route.gateway)


def _words(operation: Operation) -> tuple[str, str]:
    """Operation and object as the real kernel's errors name them."""
    if isinstance(operation, SetLink):
        names = ("mac", "mtu", "up", "alias", "master", "stp", "forward_delay", "isolated")
        changed = [name for name in names if getattr(operation, name) is not None]
        return f"set {', '.join(changed)} of", operation.name
    if isinstance(operation, RenameLink):
        return "rename", f"{operation.name} to {operation.new}"
    if isinstance(operation, CreateMacvlan):
        return f"create {operation.kind}", f"{operation.name} on {operation.lower}"
    for kinds, words in (
        (PossessionOperation, possession_words),
        (BridgeOperation, bridge_words),
        (TrafficOperation, memory_traffic.words),
    ):
        if isinstance(operation, kinds):
            return words(operation)  # type: ignore[operator, no-any-return]
    verb = WORDS[type(operation)]
    match operation:
        case AddAddress(link, address) | DeleteAddress(link, address):
            return verb, f"{address} on {link}"
        case AddConnectedRoute(link, address):
            return verb, f"{address.network} on {link}"
        case AddRoute(link, route) | DeleteRoute(link, route):
            return verb, f"{route.destination} on {link}"
        case WriteSysctl(path):
            return verb, "/".join(path)
    return verb, operation.name
