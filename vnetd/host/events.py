"""What a host reports. An event says where to look, never what is there; ``cause`` is for people only."""

from dataclasses import dataclass
from typing import Literal

from vnetd.plan.rules import Family


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A link appeared, changed or went. ``name`` as far as the event tells it."""

    index: int
    name: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """An address of the link with this index changed; ``name`` if the link still exists."""

    index: int
    cause: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class RouteEvent:
    """A route through the link with this index, or a rule of policy routing about it, changed.

    0 if a route has none or several, or a rule's is not there. ``name`` as for addresses.
    """

    index: int
    cause: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class SysctlEvent:
    """A ``forwarding`` or ``rp_filter`` sysctl changed; ``index`` -1 is *all*, -2 *default*. ``name`` as above."""

    family: int
    index: int
    cause: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class TrafficEvent:
    """A qdisc, class or filter of the link with this index changed; ``name`` as for addresses."""

    index: int
    cause: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class RulesEvent:
    """Something in one of vnetd's nftables tables was changed by another process, which ``cause`` names.

    ``kind`` and ``name`` tell what to list again; kind ``table`` means the whole table, ``rules`` those of a chain.
    """

    family: Family
    kind: Literal["table", "chain", "rules", "set"]
    name: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class ProcessEvent:
    """The supervised dnsmasq of the network with this UUID ended."""

    network: str


@dataclass(frozen=True, slots=True)
class NamespaceEvent:
    """The network namespace known here by ``number`` is gone."""

    number: int

    @property
    def name(self) -> str:
        """What it is watched by, beside devices; no device can be called so."""
        return f"netns {self.number}"


@dataclass(frozen=True, slots=True)
class PasstEvent:
    """The supervised passt of the port with this UUID ended."""

    port: str


@dataclass(frozen=True, slots=True)
class FileEvent:
    """A file of the network with this UUID was written or removed; ``name`` is its base name.

    ``leases`` is the lease file; all others are rendered by vnetd and drift when they change.
    """

    network: str
    name: str


@dataclass(frozen=True, slots=True)
class Overflow:
    """Events of a source were lost: everything it reports on must be read again."""

    source: Literal["rtnetlink", "nftables", "inotify"]


HostEvent = (
    LinkEvent
    | AddressEvent
    | RouteEvent
    | SysctlEvent
    | TrafficEvent
    | RulesEvent
    | ProcessEvent
    | NamespaceEvent
    | PasstEvent
    | FileEvent
    | Overflow
)
