"""Network devices and what hangs on them, as the kernel shows them: values. Operations are given some of them."""

from dataclasses import dataclass

from vnetd.model.base import IPAddress, IPInterface, IPNetwork


@dataclass(frozen=True, slots=True)
class BridgeState:
    """Options of a bridge as the kernel shows them; times in 1/100 s.

    ``default_pvid`` is ``None`` on kernels whose bridges cannot filter by VLAN.
    """

    stp: bool
    forward_delay: int
    vlan_filtering: bool = False
    priority: int = 32768
    hello_time: int = 200
    max_age: int = 2000
    ageing_time: int = 30000
    multicast_snooping: bool = True
    default_pvid: int | None = None


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """Options of a bridge beyond those a link is given; ``None`` leaves one as it is. Times in 1/100 s."""

    priority: int | None = None
    hello_time: int | None = None
    max_age: int | None = None
    ageing_time: int | None = None
    multicast_snooping: bool | None = None
    default_pvid: int | None = None
    vlan_filtering: bool | None = None


@dataclass(frozen=True, slots=True)
class PortVlan:
    """A VLAN a bridge port, or the bridge itself, takes part in.

    ``pvid``: frames that come in without a tag belong to it; ``untagged``: its frames leave without one.
    """

    id: int
    pvid: bool = False
    untagged: bool = False


@dataclass(frozen=True, slots=True)
class TunState:
    """What holders of a tap can change: ids are -1 for nobody.

    ``queues`` are those somebody has open, whether in use or put aside; ``None`` for a tap that can have only one, of
    which the kernel does not tell.
    """

    persist: bool
    owner: int
    group: int
    queues: int | None


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. ``kind`` is rtnetlink's (``bridge``, ``veth``, ``tun``) or ``""`` for hardware."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    alias: str = ""
    master: int = 0
    group: int = 0
    bridge: BridgeState | None = None
    isolated: bool = False
    carrier: bool = False
    lower: int = 0
    """Index of the link this one lies on (macvtap, macvlan), or of a veth's other end."""
    tun: TunState | None = None


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A unicast route through ``gateway`` on one link.

    In an operation ``metric`` 0 is the kernel's default, which it shows as 0 for IPv4 and as 1024 for IPv6.
    """

    destination: IPNetwork
    gateway: IPAddress | None
    metric: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Somebody on a link who has answered the host; ``age`` in seconds since the host last knew for sure."""

    address: IPAddress
    mac: str
    age: int


@dataclass(frozen=True, slots=True)
class LinkView:
    """One link with all that hangs on it, read by requests the kernel filters (never full dumps)."""

    link: Link
    addresses: frozenset[IPInterface]
    routes: frozenset[KernelRoute]
    connected: frozenset[IPNetwork] = frozenset()
    """Subnets routed to the link itself, as the kernel does for each address of a link that is up."""


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A route of the host, of any table, and the device it leads to: used to find clashes and uplinks."""

    destination: IPNetwork
    device: str
    table: int
    protocol: int
    gateway: IPAddress | None = None
