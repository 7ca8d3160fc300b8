"""What services return and announce: plain frozen values a front end turns into its own types."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

ObjectKind = Literal["network", "switch", "filter", "port", "binding"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: numeric uid, process id (0 if unknown), connection name, and whether it may change what is others'.

    ``connection`` names the connection among those of all times and buses; "" if it is none a port could end with.
    ``present`` tells whether it is there still.
    """

    uid: int
    pid: int = 0
    name: str = ""
    administrator: bool = False
    connection: str = ""
    present: Callable[[], bool] = field(default=lambda: True, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network as callers see it. ``state``: inactive starting active degraded stopping failed."""

    uuid: UUID
    name: str
    mode: str
    state: str
    active: bool
    persistent: bool
    autostart: bool
    bridge: str
    addresses: tuple[str, ...]
    ports: Sequence[UUID]
    problems: tuple[str, ...]
    healed_count: int


@dataclass(frozen=True, slots=True)
class SwitchView:
    """A switch as callers see it; states are those of networks. ``unconfirmed``: a change waits to be confirmed."""

    uuid: UUID
    name: str
    state: str
    active: bool
    persistent: bool
    autostart: bool
    unconfirmed: bool
    bridge: str
    uplinks: tuple[str, ...]
    ports: tuple[UUID, ...]
    problems: tuple[str, ...]
    healed_count: int


@dataclass(frozen=True, slots=True)
class FilterView:
    """A filter as callers see it; ``used_by`` are the devices it is bound to, directly or by reference."""

    uuid: UUID
    name: str
    used_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PortView:
    """A port: one attachment to a network. ``kind`` as in ``model.port``; ``owner`` is the uid that made it.

    ``state``: active, or degraded if there are ``problems``. ``link_up``: whether the guest's cable is plugged.
    ``bandwidth``: limits in force by flat name, ``inbound.average`` and so on.
    """

    uuid: UUID
    network: UUID
    network_name: str
    device: str
    kind: str
    state: str
    mac: str
    filter: str
    owner: int
    link_up: bool = True
    lifetime: str = "explicit"
    problems: tuple[str, ...] = ()
    isolated: bool = False
    portgroup: str = ""
    bandwidth: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BindingView:
    """A filter bound to a device vnetd did not make."""

    uuid: UUID
    device: str
    filter: str
    parameters: Mapping[str, tuple[str, ...]]
    mac: str


View = NetworkView | SwitchView | FilterView | PortView | BindingView


@dataclass(frozen=True, slots=True)
class AddressView:
    """An address of a port's guest. ``family``: ipv4, ipv6; ``source``: lease, learned, neighbour, snooped.

    ``age`` in seconds: since the lease was given or renewed, since the address was learned (as far as this run of the
    daemon knows), since the host last knew its neighbour for sure, or since it was last seen to use it.
    """

    address: str
    family: str
    source: str
    age: int


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A DHCP lease. ``expiry`` in seconds since the epoch, 0 for never; ``mac`` may be empty for DHCPv6."""

    address: str
    prefix: int
    family: Literal["ipv4", "ipv6"]
    mac: str
    hostname: str
    client_id: str
    expiry: int
    iaid: str = ""


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule of a filter in force on a device. ``towards``: ``guest`` or ``network``.

    ``packets`` and ``bytes`` are those of all devices that share the rule, which ``shared`` counts.
    """

    towards: str
    filter: str
    chain: str
    rule: str
    packets: int
    bytes: int
    shared: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: ``state`` is ``ok``, ``problem`` or ``unknown``."""

    check: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Attached:
    """Result of an attachment. ``fds`` are open tap queues which the receiver must close."""

    port: PortView
    result: Mapping[str, str | int | bool]
    fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Added:
    """An object came into being."""

    kind: ObjectKind
    view: View


@dataclass(frozen=True, slots=True)
class Changed:
    """An object looks different now; the receiver compares with what it announced before."""

    kind: ObjectKind
    view: View


@dataclass(frozen=True, slots=True)
class Removed:
    """An object is gone; ``view`` is the last one."""

    kind: ObjectKind
    view: View


@dataclass(frozen=True, slots=True)
class Healed:
    """Drift of a network or port was repaired. ``what`` names the object, ``details`` hold e.g. ``cause``."""

    kind: ObjectKind
    uuid: UUID
    name: str
    what: str
    details: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """A lease appeared (``added``) or went."""

    network: UUID
    name: str
    added: bool
    lease: LeaseView


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """A port's guest has others now; ``addresses`` are all of them, as ``Ports.addresses`` tells."""

    port: UUID
    name: str
    addresses: tuple[AddressView, ...]


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """Something happened that has no object signal of its own: ``defined started stopped undefined failed …``."""

    kind: str
    object: ObjectKind
    uuid: UUID
    name: str
    details: Mapping[str, str | int] = field(default_factory=dict)


Notice = Added | Changed | Removed | Healed | LeaseChange | AddressesChanged | LifecycleEvent
