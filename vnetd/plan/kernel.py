"""What the kernel is asked to do, as values: an ``Operation`` is one thing.

Nothing here acts: ``host.Kernel`` executes operations, in order, and names the one that failed. What the kernel shows
is in ``plan.links``.
"""

from dataclasses import dataclass, field
from typing import Literal

from vnetd.model.base import IPAddress, IPInterface
from vnetd.plan.functions import SetFunction
from vnetd.plan.links import BridgeOptions, KernelRoute, PortVlan
from vnetd.plan.possessions import HeldAddress, HeldNeighbour, HeldRoute, HeldRule
from vnetd.plan.traffic import TrafficOperation


@dataclass(frozen=True, slots=True)
class CreateBridge:
    """Make a bridge with all its options in one request; it is left down. EEXIST if the name is taken."""

    name: str
    mac: str
    mtu: int
    stp: bool
    forward_delay: int
    alias: str
    options: BridgeOptions = field(default_factory=BridgeOptions)


@dataclass(frozen=True, slots=True)
class SetBridge:
    """Change options of a bridge. EOPNOTSUPP where the kernel's bridges cannot filter by VLAN and shall."""

    name: str
    options: BridgeOptions


@dataclass(frozen=True, slots=True)
class CreateVlan:
    """Make ``name``, the part of ``parent`` with this VLAN's tag (802.1Q); it is left down.

    EEXIST if the name is taken or the parent has such a part, EOPNOTSUPP if the kernel knows no VLANs.
    """

    name: str
    parent: str
    vlan: int
    alias: str


@dataclass(frozen=True, slots=True)
class AddPortVlan:
    """Let a bridge port take part in a VLAN, or change how it does; ``own`` means the bridge ``name`` itself."""

    name: str
    vlan: PortVlan
    own: bool = False


@dataclass(frozen=True, slots=True)
class DeletePortVlan:
    """Take a bridge port out of a VLAN; one it is not in is no error."""

    name: str
    vlan: int
    own: bool = False


@dataclass(frozen=True, slots=True)
class GiveAddress:
    """Add an address with all its attributes, IPv6 without duplicate detection; one that is there is announced anew."""

    link: str
    address: HeldAddress


@dataclass(frozen=True, slots=True)
class TakeAddress:
    """Remove an address found by itself and its peer; one that is gone already is no error."""

    link: str
    address: HeldAddress


@dataclass(frozen=True, slots=True)
class GiveRoute:
    """Add a route beside others to the same destination; the very same one being there is no error.

    A gateway that cannot be reached is said to be on the link: the route was there, so it is made.
    """

    route: HeldRoute


@dataclass(frozen=True, slots=True)
class TakeRoute:
    """Remove exactly this route; one that is gone already is no error."""

    route: HeldRoute


@dataclass(frozen=True, slots=True)
class GiveRule:
    """Add a rule of policy routing behind those of its priority; the very same one being there is no error."""

    rule: HeldRule


@dataclass(frozen=True, slots=True)
class TakeRule:
    """Remove a rule; one that is gone already is no error. Of its priority the first goes that has all it says."""

    rule: HeldRule


@dataclass(frozen=True, slots=True)
class GiveNeighbour:
    """Enter a neighbour for ever, in place of what the kernel found out about it."""

    link: str
    neighbour: HeldNeighbour


@dataclass(frozen=True, slots=True)
class TakeNeighbour:
    """Forget a neighbour; one that is gone already, as with the last IPv4 address of its link, is no error."""

    link: str
    neighbour: HeldNeighbour


@dataclass(frozen=True, slots=True)
class GiveProxy:
    """Answer neighbours of ``link`` for an address; being done already is no error."""

    link: str
    address: IPAddress


@dataclass(frozen=True, slots=True)
class TakeProxy:
    """Answer for it no more; not being done is no error."""

    link: str
    address: IPAddress


@dataclass(frozen=True, slots=True)
class CreateVeth:
    """Make a veth pair: ``name`` here with ``alias``, ``peer_name`` in the namespace open at fd ``peer_netns``.

    Both are left down. ``mac`` is that of this end, ``peer_mac`` that of the other.
    """

    name: str
    mac: str
    peer_name: str
    peer_mac: str
    peer_netns: int
    mtu: int
    alias: str


@dataclass(frozen=True, slots=True)
class CreateMacvlan:
    """Make a device of ``kind`` on top of the link ``lower``; it is left down and has its MTU, and an ipvlan its MAC.

    ``mode``: private, vepa, bridge or passthrough, the last of which takes the lower device for itself alone.
    """

    name: str
    kind: Literal["macvlan", "macvtap", "ipvlan"]
    lower: str
    mode: str
    mac: str
    alias: str


@dataclass(frozen=True, slots=True)
class SetLink:
    """Change a link found by name; ``None`` leaves a property alone. ``master`` "" takes it out of its bridge.

    ``stp`` and ``forward_delay`` (1/100 s) are for bridges, ``isolated`` for bridge ports.
    """

    name: str
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    alias: str | None = None
    master: str | None = None
    stp: bool | None = None
    forward_delay: int | None = None
    isolated: bool | None = None


@dataclass(frozen=True, slots=True)
class RenameLink:
    """Give a link another name. Where the kernel renames only links that are down it is set down for the moment."""

    name: str
    new: str


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete the link ``name`` if its alias is ``alias`` (ours); a link that is gone already is no error.

    Takes tens of milliseconds (RCU grace periods); several at once share one deletion.
    """

    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address without duplicate detection (IPv6 ``nodad``); IPv4 gets its subnet's broadcast address."""

    link: str
    address: IPInterface


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    """Remove an address; one that is gone already is no error."""

    link: str
    address: IPInterface


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a static route on a link."""

    link: str
    route: KernelRoute


@dataclass(frozen=True, slots=True)
class AddConnectedRoute:
    """Put back the route to an address's own subnet, the way the kernel made it when the address was added."""

    link: str
    address: IPInterface


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Remove a static route; one that is gone already is no error."""

    link: str
    route: KernelRoute


@dataclass(frozen=True, slots=True)
class WriteSysctl:
    """Write ``value`` below /proc/sys. ``path`` is split, as interface names may hold dots.

    A path that does not exist is an error unless ``optional`` (IPv6 compiled out or disabled at boot).
    """

    path: tuple[str, ...]
    value: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class DisableTxChecksum:
    """Switch a link's transmit checksum offload off, so that what the host sends through it is complete.

    DHCP clients that read raw packets drop UDP frames whose checksum a (virtual) card was to fill in.
    """

    name: str


PossessionOperation = (
    GiveAddress
    | TakeAddress
    | GiveRoute
    | TakeRoute
    | GiveRule
    | TakeRule
    | GiveNeighbour
    | TakeNeighbour
    | GiveProxy
    | TakeProxy
)
"""What moves with an uplink, onto a device or off it."""
Operation = (
    CreateBridge
    | CreateVeth
    | CreateMacvlan
    | CreateVlan
    | SetBridge
    | AddPortVlan
    | DeletePortVlan
    | PossessionOperation
    | SetFunction
    | SetLink
    | RenameLink
    | DeleteLink
    | AddAddress
    | DeleteAddress
    | AddRoute
    | AddConnectedRoute
    | DeleteRoute
    | WriteSysctl
    | DisableTxChecksum
    | TrafficOperation
)
