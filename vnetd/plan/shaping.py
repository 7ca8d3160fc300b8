"""Limits of a device's traffic: from what users say to the tree of classes that realises it, and the steps to it.

Class 1:1 is the device's whole rate, 1:2 takes all that nothing else claims, 1:3 and up are reservations (floors)
chosen by destination MAC. What a device receives goes through an ``ifb``, which has a tree of the same form: one way
for all kernels, where ``police`` is missing from some, and drops what this queues. Layout and meaning of the numbers:
libvirt's network format, bandwidth; docs/adr says where vnetd differs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vnetd.model.network_ports import Bandwidth, Rate
from vnetd.plan.kernel import DeleteLink, Operation, SetLink
from vnetd.plan.links import Link
from vnetd.plan.traffic import (
    DEFAULT,
    AddFilter,
    AddHtb,
    CreateIfb,
    DeleteClass,
    DeleteFilter,
    DeletePriority,
    DeleteRoot,
    EndRedirect,
    HtbClass,
    PutClass,
    Redirect,
    ToClass,
    Traffic,
    TrafficOperation,
)

KIBIBYTE = 1024
TICK = 64
"""ns: the kernel counts a bucket by the time it takes to send it, in these (``/proc/net/psched``)."""
MAX_TICKS, MAX_RATE = 2**32 - 1, 2**63 - 1
ROOT, FIRST_FLOOR, LAST_FLOOR = 1, 3, 0xFFFE
"""Minor numbers of classes."""
SMALLEST_BURST, SMALLEST_QUANTUM, LARGEST_QUANTUM = 4096, 1600, 200_000
SMALLEST_QUEUE, LARGEST_QUEUE = 128 * KIBIBYTE, 16 * KIBIBYTE * KIBIBYTE


Named = tuple[str, Operation]
"""An operation with the object it repairs, in words for people."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Classes below an ``htb`` and the filters that choose among them. Empty: no ``htb``."""

    classes: tuple[HtbClass, ...] = ()
    filters: tuple[ToClass, ...] = ()


@dataclass(frozen=True, slots=True)
class Shaping:
    """Limits of one device: ``towards`` what it sends to guests, ``away`` what comes from them, through ``ifb``."""

    ifb: str
    alias: str
    towards: Tree = field(default_factory=Tree)
    away: Tree = field(default_factory=Tree)

    @property
    def empty(self) -> bool:
        """Whether nothing is limited."""
        return not self.towards.classes and not self.away.classes


@dataclass(frozen=True, slots=True)
class Limited:
    """What limits a device as observed: its own traffic control, the ``ifb`` and that one's."""

    device: Traffic
    ifb: Link | None
    ifb_traffic: Traffic


@dataclass(frozen=True, slots=True)
class Floor:
    """kB/s that the guest with this MAC address is sure to get, through the class with this minor number."""

    mac: str
    rate: int
    minor: int


def shaping_of(uuid: str, limits: Bandwidth | None, floors: Collection[Floor] = ()) -> Shaping:
    """What realises ``limits`` on the device of the network or port ``uuid``. Floors need a limit inbound."""
    limits = limits or Bandwidth()
    return Shaping(
        ifb=f"ifb{uuid.replace('-', '')[:12]}",
        alias=f"vnetd:shaper:{uuid}",
        towards=_tree(limits.inbound, floors),
        away=_tree(limits.outbound, ()),
    )


def ticks(size: int, rate: int) -> int:
    """The time ``size`` bytes take at ``rate`` bytes/s, as the kernel counts it."""
    return max(1, min(size * 10**9 // rate // TICK, MAX_TICKS))


def _tree(limit: Rate | None, floors: Collection[Floor]) -> Tree:
    if limit is None or not limit.average:
        return Tree()
    rest = max(limit.average - sum(floor.rate for floor in floors), 1)
    classes = [
        _class(ROOT, 0, limit.average, limit, leaf=False),
        _class(DEFAULT, ROOT, rest, limit),
        *(_class(floor.minor, ROOT, floor.rate, limit.model_copy(update={"burst": None})) for floor in floors),
    ]
    return Tree(tuple(classes), tuple(ToClass(floor.mac, floor.minor) for floor in floors))


def _class(minor: int, parent: int, average: int, limit: Rate, *, leaf: bool = True) -> HtbClass:
    """A class that has ``average`` for sure and may borrow up to the limit's peak.

    With a peak, ``burst`` may be sent at that rate before the average holds; without, as fast as the device can.
    """
    assert limit.average is not None
    rate, ceil = _bytes(average), _bytes(limit.peak or limit.average)
    burst = _bytes(limit.burst or 0) or _usual_burst(rate)
    ceil_burst = _usual_burst(ceil) if limit.peak else max(burst, _usual_burst(ceil))
    return HtbClass(
        minor=minor,
        parent=parent,
        rate=rate,
        ceil=max(ceil, rate),
        buffer=ticks(burst, rate),
        ceil_buffer=ticks(ceil_burst, ceil),
        quantum=max(SMALLEST_QUANTUM, min(rate // 10, LARGEST_QUANTUM)),
        queue=max(SMALLEST_QUEUE, min(ceil // 8, LARGEST_QUEUE)) if leaf else 0,
    )


def _bytes(kibibytes: int) -> int:
    return min(kibibytes * KIBIBYTE, MAX_RATE)


def _usual_burst(rate: int) -> int:
    """What a class may send at once if nobody says: 20 ms of its rate, for the kernel's clock is not exact."""
    return max(rate // 50, SMALLEST_BURST)


def plan_shaping(device: str, want: Shaping, have: Limited) -> list[Named]:
    """Steps that make the limits of ``device`` the wanted ones; none if they are."""
    steps = list(plan_tree(device, want.towards, have.device))
    return [*steps, *(_away(device, want, have) if want.away.classes else _no_away(device, want, have))]


def _away(device: str, want: Shaping, have: Limited) -> Iterator[Named]:
    what = f"limit of what {device} receives"
    if have.ifb is None:
        yield what, CreateIfb(want.ifb, want.alias)
    elif have.ifb.alias != want.alias:  # its name is made of a UUID of ours
        yield what, SetLink(want.ifb, alias=want.alias)
    if have.ifb is None or not have.ifb.up:
        yield what, SetLink(want.ifb, up=True)
    for _, operation in plan_tree(want.ifb, want.away, have.ifb_traffic):
        yield what, operation
    if have.ifb is None or have.device.redirect != have.ifb.index:
        yield what, Redirect(device, want.ifb)


def _no_away(device: str, want: Shaping, have: Limited) -> Iterator[Named]:
    """First what is received goes straight on, then what it went through is removed."""
    what = f"limit of what {device} receives"
    if have.device.redirect == -1 or (have.ifb and have.device.redirect == have.ifb.index):
        yield what, EndRedirect(device)
    if have.ifb:
        yield what, DeleteLink(want.ifb, want.alias)


def plan_tree(link: str, want: Tree, have: Traffic) -> Iterator[Named]:
    """Steps that make the tree below a device's root qdisc the wanted one."""
    what = f"limit of {link}"
    if not want.classes:
        if have.root == "htb" and have.default == DEFAULT:
            yield what, DeleteRoot(link)
        return
    if have.root != "htb" or have.default != DEFAULT:
        if have.root:
            yield what, DeleteRoot(link)
        yield what, AddHtb(link)
        have = Traffic()
    for operation in (*_surplus(link, want, have), *_missing(link, want, have)):
        yield what, operation


def _surplus(link: str, want: Tree, have: Traffic) -> Iterator[TrafficOperation]:
    """What is too much: filters first, then the classes they lead to, the lowest in the tree first."""
    for priority in sorted(have.strange):
        yield DeletePriority(link, priority)
    for one in sorted(have.filters - set(want.filters), key=lambda one: one.minor):
        yield DeleteFilter(link, one)
    places = {one.minor: one.parent for one in want.classes}
    gone = {one.minor: one.parent for one in have.classes if places.get(one.minor) != one.parent}
    for minor in sorted(gone, key=lambda minor: -_depth(minor, gone)):
        yield DeleteClass(link, minor)


def _missing(link: str, want: Tree, have: Traffic) -> Iterator[TrafficOperation]:
    for one in want.classes:
        if one not in have.classes:
            yield PutClass(link, one)
    for wanted in want.filters:
        if wanted not in have.filters:
            yield AddFilter(link, wanted)


def _depth(minor: int, parents: Mapping[int, int]) -> int:
    depth, seen = 0, {minor}
    while (minor := parents.get(minor, 0)) and minor not in seen:
        depth += 1
        seen.add(minor)
    return depth


def floors_beyond(limit: Rate | None, floors: Iterable[Floor]) -> int:
    """kB/s by which reservations exceed what the network is sure to have (its average)."""
    return max(sum(floor.rate for floor in floors) - ((limit and limit.average) or 0), 0)


def free_minor(taken: Collection[int]) -> int:
    """The smallest minor number for another reservation; 0 if there is none left."""
    return next((minor for minor in range(FIRST_FLOOR, LAST_FLOOR + 1) if minor not in taken), 0)
