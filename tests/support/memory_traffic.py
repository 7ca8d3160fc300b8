"""Traffic control in memory: what the kernel keeps of it and refuses, nothing of what it does to packets."""

import errno
from dataclasses import replace

from vnetd.model.errors import HostError
from vnetd.plan.traffic import (
    OWN_PRIORITY,
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
    Traffic,
    TrafficOperation,
)

WORDS: dict[type, str] = {
    CreateIfb: "create ifb",
    AddHtb: "limit",
    DeleteRoot: "delete limit of",
    PutClass: "set limit of",
    DeleteClass: "delete limit of",
    AddFilter: "set reservation on",
    DeleteFilter: "set reservation on",
    DeletePriority: "set reservation on",
    Redirect: "limit what is received by",
    EndRedirect: "end the limit of what is received by",
}


def words(operation: TrafficOperation) -> tuple[str, str]:
    """Operation and object as the real kernel's errors name them."""
    return WORDS[type(operation)], operation.name if isinstance(operation, CreateIfb) else operation.link


class MemoryTraffic:
    """Traffic control of all links, by index."""

    def __init__(self) -> None:
        self._held: dict[int, Traffic] = {}

    def of(self, index: int) -> Traffic:
        """What one link has."""
        return self._held.get(index, Traffic())

    def forget(self, index: int) -> None:
        """The link is gone: what was led to it goes nowhere."""
        self._held.pop(index, None)
        for other, held in self._held.items():
            if held.redirect == index:
                self._held[other] = replace(held, redirect=-1)

    def execute(self, index: int, operation: TrafficOperation, target: int = 0) -> None:
        """Do one operation on the link ``index``; ``target`` is where ``Redirect`` leads."""
        self._held[index] = _after(self.of(index), operation, target)


def _after(held: Traffic, operation: TrafficOperation, target: int) -> Traffic:
    match operation:
        case AddHtb():
            if held.root:
                raise HostError(*words(operation), errno.EEXIST)
            return replace(held, root="htb", default=2)
        case DeleteRoot():
            return Traffic(ingress=held.ingress, redirect=held.redirect)
        case PutClass(_, one):
            return _put(held, operation, one)
        case DeleteClass(_, minor):
            if any(one.parent == minor for one in held.classes) or any(one.minor == minor for one in held.filters):
                raise HostError(*words(operation), errno.EBUSY)
            return replace(held, classes=frozenset(one for one in held.classes if one.minor != minor))
        case Redirect():
            return replace(held, ingress=True, redirect=target)
        case EndRedirect():
            return replace(held, ingress=False, redirect=0)
        case AddFilter() | DeleteFilter() | DeletePriority():
            return _filtered(held, operation)
    raise TypeError(f"{operation!r} is not of a link's traffic control")


def _filtered(held: Traffic, operation: AddFilter | DeleteFilter | DeletePriority) -> Traffic:
    match operation:
        case AddFilter(_, wanted):
            if held.root != "htb":
                raise HostError(*words(operation), errno.EINVAL)
            return replace(held, filters=held.filters | {wanted})
        case DeleteFilter(_, wanted):
            return replace(held, filters=held.filters - {wanted})
        case DeletePriority(_, priority):
            filters = frozenset() if priority == OWN_PRIORITY else held.filters
            return replace(held, filters=filters, strange=held.strange - {priority})


def _put(held: Traffic, operation: PutClass, one: HtbClass) -> Traffic:
    if held.root != "htb" or (one.parent and one.parent not in {other.minor for other in held.classes}):
        raise HostError(*words(operation), errno.EINVAL if held.root else errno.EOPNOTSUPP)
    return replace(held, classes=frozenset(other for other in held.classes if other.minor != one.minor) | {one})
