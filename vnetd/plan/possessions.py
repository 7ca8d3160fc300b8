"""What hangs on a network device and belongs to the host: addresses, routes, rules, neighbours, name servers.

An uplink's possessions move to its bridge and back. They are kept with everything the kernel would need to have them
made again: scope, flags, label, lifetimes, table, protocol, metric, every next hop.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv6Network

from vnetd.model.base import IPAddress, IPInterface, IPNetwork
from vnetd.plan.link_dns import LinkDns

FOREVER = 0xFFFFFFFF
"""Seconds of a lifetime that never ends."""
PROTO_KERNEL = 2
SCOPE_LINK = 253
LINK_LOCAL6 = IPv6Network("fe80::/10")


@dataclass(frozen=True, slots=True)
class HeldAddress:
    """An address with all that was said when it was added; ``valid`` and ``preferred`` in seconds from now.

    ``flags`` are those a user can set (rtnetlink's ``IFA_F_…``). ``label`` is IPv4's; "" is the device's own name.
    """

    address: IPInterface
    peer: IPAddress | None = None
    broadcast: IPAddress | None = None
    scope: int = 0
    flags: int = 0
    label: str = ""
    metric: int = 0
    protocol: int = 0
    valid: int = FOREVER
    preferred: int = FOREVER

    @property
    def identity(self) -> tuple[IPInterface, IPAddress | None]:
        """What the kernel tells addresses of one device apart by."""
        return self.address, self.peer


@dataclass(frozen=True, slots=True)
class NextHop:
    """One way a route goes; ``weight`` as rtnetlink counts it, from 0."""

    device: str
    gateway: IPAddress | None = None
    weight: int = 0
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class HeldRoute:
    """A unicast route of any table; ``metrics`` are its path metrics (MTU, window …) as rtnetlink encodes them.

    ``expires`` in seconds from now, 0 for never. ``origin`` is the source prefix it is for (IPv6).
    """

    destination: IPNetwork
    hops: tuple[NextHop, ...]
    table: int = 254
    protocol: int = 4
    scope: int = 0
    tos: int = 0
    metric: int = 0
    source: IPAddress | None = None
    origin: IPNetwork | None = None
    preference: int | None = None
    expires: int = 0
    metrics: bytes = b""

    @property
    def identity(self) -> "HeldRoute":
        """The route without what changes as time goes by, and without saying whether its gateways are on the link."""
        return replace(self, hops=tuple(replace(hop, onlink=False) for hop in self.hops), expires=0)

    def through(self, before: str, now: str) -> "HeldRoute":
        """The same route with every hop through device ``before`` through ``now`` instead."""
        hops = tuple(replace(hop, device=now) if hop.device == before else hop for hop in self.hops)
        return replace(self, hops=hops)

    def uses(self, device: str) -> bool:
        """Whether one of its hops is this device."""
        return any(hop.device == device for hop in self.hops)


@dataclass(frozen=True, slots=True)
class HeldRule:
    """A rule of policy routing (``ip rule``) that names a device: packets come in by ``iif``, or sockets are bound to
    ``oif``.

    ``said`` is all else: the header and the other attributes as rtnetlink encodes them, the family first. A rule
    outlives its devices.
    """

    priority: int
    said: bytes
    iif: str = ""
    oif: str = ""

    def names(self, device: str) -> bool:
        """Whether it is about this device."""
        return device in {self.iif, self.oif}

    def through(self, before: str, now: str) -> "HeldRule":
        """The same rule about device ``now`` wherever it is about ``before``."""
        iif, oif = (now if name == before else name for name in (self.iif, self.oif))
        return replace(self, iif=iif, oif=oif)

    def __str__(self) -> str:
        devices = (f"{kind} {name}" for kind, name in (("iif", self.iif), ("oif", self.oif)) if name)
        return " ".join((str(self.priority), *devices))


@dataclass(frozen=True, slots=True)
class HeldNeighbour:
    """A neighbour entered by hand and for ever; ``flags`` are those a user can set (rtnetlink's ``NTF_…``)."""

    address: IPAddress
    mac: str
    flags: int = 0
    protocol: int = 0


@dataclass(frozen=True, slots=True)
class Possessions:
    """Everything of one device, in the kernel's order: of IPv4 addresses of a subnet the first is the primary one.

    ``routes`` go through the device or come from one of its addresses; ``rules`` name it; ``neighbours`` are permanent
    ones; ``proxies`` are addresses it answers neighbours for. ``unportable`` names what is there and cannot be made
    again, for errors. ``dns`` is what the host's resolver knows of it, which the kernel does not.
    """

    addresses: tuple[HeldAddress, ...] = ()
    routes: tuple[HeldRoute, ...] = ()
    neighbours: tuple[HeldNeighbour, ...] = ()
    proxies: tuple[IPAddress, ...] = ()
    unportable: tuple[str, ...] = ()
    dns: LinkDns | None = None
    rules: tuple[HeldRule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.addresses or self.routes or self.rules or self.neighbours or self.proxies or self.dns)


def is_portable(address: IPInterface) -> bool:
    """Whether an address moves: IPv6 link-local ones belong to each device itself."""
    return not (address.version == 6 and address.ip in LINK_LOCAL6)
