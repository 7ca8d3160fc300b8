"""What a caller says about a port it wants, and what is remembered of one."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, Field, model_validator

from vnetd.model.base import IfName, IfTemplate, IPAddress, IPInterface, Mac, Mtu, Text, UnicastMac, Value
from vnetd.model.filter import Parameters
from vnetd.model.functions import FunctionUse
from vnetd.model.network_ports import Bandwidth, Vlan
from vnetd.model.networkport import Plug
from vnetd.model.user_forward import UserForward, parse_forward

UNLIMITED = Bandwidth()


class PortKind(StrEnum):
    """How a guest is attached."""

    VETH = "veth"
    TAP = "tap"
    TAP_FD = "tap-fd"
    EXISTING = "existing"
    MACVTAP = "macvtap"
    MACVTAP_FD = "macvtap-fd"
    HOSTDEV = "hostdev"
    PASST = "passt"
    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"

    @property
    def inside(self) -> bool:
        """Whether it is wholly in the guest's namespace and joins no bridge."""
        return self in {PortKind.MACVLAN, PortKind.IPVLAN}


class Lifetime(StrEnum):
    """What ends a port, besides its device, its network and a boot."""

    EXPLICIT = "explicit"
    CONNECTION = "connection"


def _several(value: object) -> object:
    """One text stands for a list of one."""
    return (value,) if isinstance(value, str) else value


def _vlan(value: object) -> object:
    """VLANs as people give them: ``30``, or several texts ``30``, ``10:untagged``, ``10:tagged`` for a trunk."""
    if value is None or isinstance(value, Vlan | dict):
        return value
    texts = [str(value)] if isinstance(value, int | str) else value
    if isinstance(value, bool) or not isinstance(texts, list | tuple):
        raise ValueError("a VLAN's number is needed, or a list such as '30', '10:untagged'")
    return {"tags": tuple(_vlan_tag(str(text)) for text in texts), "trunk": True if len(texts) > 1 else None}


def _vlan_tag(text: str) -> dict[str, object]:
    number, _, native = text.partition(":")
    if not (number.isascii() and number.isdecimal()):
        raise ValueError(
            f"{text[:20]!r} is no VLAN: a number is needed, with ':untagged' or ':tagged' for the native one"
        )
    return {"id": int(number), "native": native or None}


class PortSpec(Value):
    """A wanted port. ``device`` may hold one ``%d``; ``netns`` is a name, an absolute path or a process id.

    In that namespace the guest's end is called ``guest_device``, gets ``addresses``, and routes by default through
    ``gateways``, one of a family, each in the subnet of an address or link-local. A macvlan or ipvlan lies on the
    host's device ``lower``, by default the network's forward device.
    ``owner`` and ``group`` are the numeric ids that may open a persistent tap, by default the caller's uid; whether it
    has one queue or more is fixed when it is made. ``mac`` is the guest's; no two ports of a network have the same
    unless ``duplicate_mac``. ``vlan``: on a bridge that filters; by default the port group's, else the network's.
    ``portgroup`` names one of the network's, by default its default one; ``bandwidth`` is
    the port group's unless said, ``isolated`` the network's ``isolated_ports``.
    ``link``: whether the guest's cable is plugged. With ``learn_mac`` the guest's first packet tells its ``mac``, and
    nothing passes before. With ``lifetime`` connection it ends when the caller leaves the bus.
    ``forwards`` are of a port of mode user, whose passt runs as ``owner``; ``spoof_check`` and ``trust`` of a virtual
    function.
    """

    kind: PortKind
    device: IfTemplate | None = None
    netns: Text | None = None
    guest_device: IfName = "eth0"
    lower: IfName | None = None
    addresses: Annotated[tuple[IPInterface, ...], BeforeValidator(_several)] = ()
    gateways: Annotated[tuple[IPAddress, ...], BeforeValidator(_several)] = ()
    mac: UnicastMac | None = None
    duplicate_mac: bool = False
    learn_mac: bool = False
    mtu: Mtu | None = None
    filter: Text | None = None
    parameters: Parameters = Field(default_factory=dict)
    portgroup: Text | None = None
    vlan: Annotated[Vlan | None, BeforeValidator(_vlan)] = None
    isolated: bool | None = None
    link: bool = True
    lifetime: Lifetime = Lifetime.EXPLICIT
    bandwidth: Bandwidth | None = None
    owner: Annotated[int, Field(ge=-1, le=2**31 - 1)] = -1
    group: Annotated[int, Field(ge=-1, le=2**31 - 1)] = -1
    queues: Annotated[int, Field(ge=1, le=64)] = 1
    vnet_hdr: bool = True
    forwards: tuple[Annotated[UserForward, BeforeValidator(parse_forward)], ...] = ()
    spoof_check: bool | None = None
    trust: bool | None = None

    @model_validator(mode="after")
    def _gateways_are_reachable(self) -> "PortSpec":
        for gateway in self.gateways:
            near = gateway.is_link_local if gateway.version == 6 else False
            if not near and not any(gateway in address.network for address in self.addresses):
                raise ValueError(f"gateway {gateway} lies in the subnet of none of the addresses")
        if len({gateway.version for gateway in self.gateways}) < len(self.gateways):
            raise ValueError("gateways are two of one family: there can be one default route of each")
        return self


class PersistentTap(Value):
    """A tap that stays, and who may open it: numeric ids, -1 for none. ``several``: it may have more than one queue."""

    owner: int
    group: int
    several: bool
    vnet_hdr: bool


class PortRecord(Value):
    """A port that is there, kept below /run; ``owner`` is the uid of who asked for it.

    What is absent here is the network's: see ``service/port_wishes``. ``floor_class`` is the minor number of the
    class that keeps its floor on the network's bridge.
    ``former_mac`` is what a device in macvtap mode passthrough gets back, ``run_as`` the uid of its passt.
    """

    uuid: UUID
    network: UUID
    kind: PortKind
    device: IfName
    mac: UnicastMac
    mtu: int | None = None
    filter: Text | None = None
    parameters: Parameters = Field(default_factory=dict)
    portgroup: Text | None = None
    vlan: Vlan | None = None
    isolated: bool | None = None
    confined: bool = False
    """Whether it was root who isolated it: others leave it so."""
    link: bool = True
    unseen: bool = False
    """Whether ``mac`` only stands for the guest's, which its first packet will tell."""
    made_for: UnicastMac | None = None
    """What ``mac`` was while it stood for another: the host's side was made after it."""
    blocked: Text = ""
    """Why the port is down although its link is up."""
    lifetime: Lifetime = Lifetime.EXPLICIT
    connection: Text = ""
    """Which one it ends with (``Caller.connection``), if it does."""
    guest_device: IfName = "eth0"
    lower: str = ""
    namespace: int = -1
    """Number of the namespace an inner port is in, and there its name."""
    tampered: int = 0
    """How often the holder of its tap changed what is not the holder's."""
    bandwidth: Bandwidth | None = None
    group_bandwidth: Bandwidth | None = None
    granted: Bandwidth | None = None
    """What root said of its bandwidth, ``None`` for nothing: others stay within that, else within the port group's."""
    floor_class: int | None = None
    tap: PersistentTap | None = None
    """Of a port whose device is one."""
    plug: Plug | None = None
    former_mac: Mac | None = None
    function: FunctionUse | None = None
    forwards: tuple[UserForward, ...] = ()
    run_as: int | None = None
    owner: int

    @property
    def limits(self) -> Bandwidth:
        """The limits in force: the port's own, else those its port group had when it joined."""
        return (self.bandwidth if self.bandwidth is not None else self.group_bandwidth) or UNLIMITED

    @property
    def floor(self) -> int:
        """kB/s of the network's that are reserved for it."""
        return (self.limits.inbound.floor if self.limits.inbound else None) or 0


class BindingRecord(Value):
    """A filter bound to a device vnetd did not make, kept below /run; ``bridged`` unless that is a macvtap."""

    uuid: UUID
    device: IfName
    filter: Text
    mac: UnicastMac | None = None
    parameters: Parameters = Field(default_factory=dict)
    bridged: bool = True
