"""Traffic control of one device as values: what the kernel holds, and the operations on it.

What leaves a device goes through an ``htb`` with handle 1 whose classes go by minor number; below each leaf stands a
``bfifo``. What a device receives cannot be queued there, so it is led through an ``ifb``, a device of its own.
"""

from dataclasses import dataclass

OWN_PRIORITY = 2
"""Of the filters that choose reservations."""
DEFAULT = 2
"""Minor number of the class for all that nothing else claims."""


@dataclass(frozen=True, slots=True)
class HtbClass:
    """A class of the ``htb`` with handle 1, by minor number; ``parent`` 0 is the qdisc itself.

    ``rate`` and ``ceil`` in bytes/s, ``buffer`` and ``ceil_buffer`` in ticks of 64 ns. ``queue`` is the length in
    bytes of the ``bfifo`` below it, whose handle is the class's minor number; 0: no such queue.
    """

    minor: int
    parent: int
    rate: int
    ceil: int
    buffer: int
    ceil_buffer: int
    quantum: int
    queue: int = 0


@dataclass(frozen=True, slots=True)
class ToClass:
    """A filter: frames to the MAC address ``mac`` go through the class with this minor number."""

    mac: str
    minor: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic control of a device as the kernel shows it.

    ``root`` is the kind of its root qdisc if that has handle 1 (``other`` for any other somebody set, "" for the
    kernel's own). ``strange`` are priorities of filters below it that are none of vnetd's. ``redirect`` is the index
    of the device that takes what this one receives, 0 for none, -1 for one that was deleted, which swallows all;
    ``ingress`` is whether there is an ingress qdisc.
    """

    root: str = ""
    default: int = 0
    classes: frozenset[HtbClass] = frozenset()
    filters: frozenset[ToClass] = frozenset()
    strange: frozenset[int] = frozenset()
    ingress: bool = False
    redirect: int = 0


@dataclass(frozen=True, slots=True)
class CreateIfb:
    """Make an ``ifb``, down, with its alias."""

    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class AddHtb:
    """Make an ``htb`` with handle 1 the root qdisc of a link, instead of what the kernel put there."""

    link: str


@dataclass(frozen=True, slots=True)
class DeleteRoot:
    """Remove the root qdisc of a link with all its classes; none is no error."""

    link: str


@dataclass(frozen=True, slots=True)
class PutClass:
    """Make or change a class and its queue; what waits in it stays."""

    link: str
    htb_class: HtbClass


@dataclass(frozen=True, slots=True)
class DeleteClass:
    """Remove a class with its queue; one that is gone is no error."""

    link: str
    minor: int


@dataclass(frozen=True, slots=True)
class AddFilter:
    """Send frames to a MAC address through a class."""

    link: str
    filter: ToClass


@dataclass(frozen=True, slots=True)
class DeleteFilter:
    """Remove one such filter; one that is gone is no error."""

    link: str
    filter: ToClass


@dataclass(frozen=True, slots=True)
class DeletePriority:
    """Remove all filters of one priority below the root qdisc; none is no error."""

    link: str
    priority: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """Have all that ``link`` receives go through the device ``to`` first; another redirection is replaced."""

    link: str
    to: str


@dataclass(frozen=True, slots=True)
class EndRedirect:
    """What ``link`` receives goes straight on; with it goes the ingress qdisc, if it is of that kind."""

    link: str


TrafficOperation = (
    CreateIfb
    | AddHtb
    | DeleteRoot
    | PutClass
    | DeleteClass
    | AddFilter
    | DeleteFilter
    | DeletePriority
    | Redirect
    | EndRedirect
)
Named = tuple[str, TrafficOperation]
"""An operation with the object it repairs, in words for people."""
