"""Links in memory: made, changed, renamed and deleted as rtnetlink does."""

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

from support.memory_bridges import change_bridge, default_vlans
from support.memory_words import words

from vnetd.host.events import LinkEvent
from vnetd.model.errors import HostError
from vnetd.plan.functions import SetFunction
from vnetd.plan.kernel import CreateBridge, CreateMacvlan, CreateVeth, DeleteLink, RenameLink, SetLink
from vnetd.plan.links import BridgeOptions, BridgeState, Link
from vnetd.plan.traffic import CreateIfb

if TYPE_CHECKING:
    from support.memory_kernel import MemoryKernel

LinkOperation = CreateBridge | CreateVeth | CreateMacvlan | CreateIfb | SetLink | SetFunction | RenameLink | DeleteLink
SMALLEST_DELAY = 200
"""1/100 s: the forward delay the kernel insists on with STP on (IEEE 802.1D)."""


def change_link(kernel: "MemoryKernel", operation: LinkOperation, cause: str) -> None:
    """Do one operation. Raises ``HostError`` as the kernel would."""
    match operation:
        case CreateMacvlan():
            _create_macvlan(kernel, operation, cause)
        case CreateBridge() | CreateVeth() | CreateIfb():
            _create(kernel, operation, cause)
        case SetLink():
            _set_link(kernel, operation, cause)
        case SetFunction():
            _set_function(kernel, operation, cause)
        case RenameLink():
            _rename(kernel, operation, cause)
        case DeleteLink():
            _delete_link(kernel, operation, cause)


def _create(kernel: "MemoryKernel", want: CreateBridge | CreateVeth | CreateIfb, cause: str) -> None:
    if kernel.find(want.name) is not None:
        raise HostError(*words(want), errno.EEXIST)
    if isinstance(want, CreateIfb):
        kernel.change(kernel.entries[kernel.create(want.name, "ifb", cause=cause)], cause, alias=want.alias)
        return
    delay = want.forward_delay if isinstance(want, CreateBridge) else SMALLEST_DELAY
    stp = isinstance(want, CreateBridge) and want.stp
    kind = "bridge" if isinstance(want, CreateBridge) else "veth"
    entry = kernel.entries[kernel.create(want.name, kind, want.mac, want.mtu, cause)]
    bridge = BridgeState(stp, max(delay, SMALLEST_DELAY) if stp else delay) if kind == "bridge" else None
    kernel.change(entry, cause, alias=want.alias, bridge=bridge)
    if isinstance(want, CreateBridge) and want.options != BridgeOptions():
        try:
            change_bridge(kernel, want, cause)
        except HostError:
            kernel.remove(entry.link.index, cause)
            raise


def _create_macvlan(kernel: "MemoryKernel", want: CreateMacvlan, cause: str) -> None:
    lower = kernel.require(want, want.lower).link
    above = {e.link.index: kernel.modes[e.link.index] for e in kernel.entries.values() if e.link.lower == lower.index}
    if kernel.find(want.name) is not None:
        raise HostError(*words(want), errno.EEXIST)
    if "passthrough" in above.values() or (above and want.mode == "passthrough"):
        raise HostError(*words(want), errno.EINVAL)
    entry = kernel.entries[kernel.create(want.name, want.kind, want.mac, lower.mtu, cause)]
    kernel.modes[entry.link.index] = want.mode
    kernel.change(entry, cause, alias=want.alias, lower=lower.index)


def _set_function(kernel: "MemoryKernel", want: SetFunction, cause: str) -> None:
    entry = kernel.require(want, want.pf)
    if want.vf not in kernel.cards.get(want.pf, {}):
        raise HostError(*words(want), errno.EINVAL)
    given = {"mac": want.mac, "spoof_check": want.spoof_check, "trust": want.trust, "link_state": want.link_state}
    changes = {key: value for key, value in given.items() if value is not None}
    if want.vlan is not None:
        changes |= {"vlan": want.vlan[0], "qos": want.vlan[1]}
    kernel.cards[want.pf][want.vf] = kernel.cards[want.pf][want.vf].model_copy(update=changes)
    kernel.emit(LinkEvent(entry.link.index, want.pf, cause))


def _set_link(kernel: "MemoryKernel", want: SetLink, cause: str) -> None:
    entry = kernel.require(want, want.name)
    changes: dict[str, object] = {"mac": want.mac, "mtu": want.mtu, "alias": want.alias, "up": want.up}
    changes["master"] = _master(kernel, want)
    joins = changes["master"] is not None and changes["master"] != entry.link.master
    changes["isolated"] = False if joins and want.isolated is None else want.isolated
    if want.stp is not None or want.forward_delay is not None:
        changes["bridge"] = _bridge(entry.link, want)
    if want.isolated is not None and not (changes["master"] or entry.link.master):
        raise HostError(*words(want), errno.EOPNOTSUPP)
    if joins:
        entry.vlans = default_vlans(found.link if (found := kernel.find(want.master or "")) else None)
    kernel.change(entry, cause, **{key: value for key, value in changes.items() if value is not None})
    if want.up is False:
        kernel.drop(entry, [a for a in entry.addresses if a.version == 6], list(entry.routes), cause)


def _master(kernel: "MemoryKernel", want: SetLink) -> int | None:
    if not want.master:
        return None if want.master is None else 0
    return kernel.require(want, want.master).link.index


def _bridge(link: Link, want: SetLink) -> BridgeState:
    have = link.bridge or BridgeState(stp=False, forward_delay=0)
    stp = have.stp if want.stp is None else want.stp
    delay = have.forward_delay if want.forward_delay is None else want.forward_delay
    return replace(have, stp=stp, forward_delay=max(delay, SMALLEST_DELAY) if stp else delay)


def _rename(kernel: "MemoryKernel", operation: RenameLink, cause: str) -> None:
    entry = kernel.require(operation, operation.name)
    if kernel.find(operation.new):
        raise HostError(*words(operation), errno.EEXIST)
    moved = {path: value for path, value in kernel.values.items() if path[2:4] == ("conf", operation.name)}
    for path, value in moved.items():
        del kernel.values[path]
        kernel.values[(*path[:3], operation.new, *path[4:])] = value
    kernel.change(entry, cause, name=operation.new)


def _delete_link(kernel: "MemoryKernel", operation: DeleteLink, cause: str) -> None:
    entry = kernel.find(operation.name)
    if entry and entry.link.alias == operation.alias:
        kernel.remove(entry.link.index, cause)
