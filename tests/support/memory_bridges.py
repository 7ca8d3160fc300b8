"""Bridges in memory beyond what is said of a link: further options, VLANs of ports, parts of a device by tag."""

import errno
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from vnetd.model.errors import HostError
from vnetd.plan.kernel import AddPortVlan, CreateBridge, CreateVlan, DeletePortVlan, SetBridge
from vnetd.plan.links import BridgeState, Link, PortVlan

if TYPE_CHECKING:
    from support.memory_kernel import Entry, MemoryKernel

BridgeOperation = SetBridge | CreateVlan | AddPortVlan | DeletePortVlan


def words(operation: BridgeOperation | CreateBridge) -> tuple[str, str]:
    """Operation and object as the real kernel's errors name them."""
    match operation:
        case CreateVlan(name):
            return "create VLAN device", name
        case AddPortVlan(name, vlan):
            return "add VLAN", f"{vlan.id} on {name}"
        case DeletePortVlan(name, number):
            return "delete VLAN", f"{number} on {name}"
        case CreateBridge(name):
            return "create bridge", name
        case SetBridge(name):
            return "set bridge options of", name


def change_bridge(kernel: "MemoryKernel", operation: BridgeOperation | CreateBridge, cause: str) -> None:
    """Do one operation; of a ``CreateBridge`` its options. Raises ``HostError`` as the kernel would."""
    match operation:
        case SetBridge(name) | CreateBridge(name):
            _set_options(kernel, operation, kernel.require(operation, name), cause)
        case CreateVlan():
            _create_vlan(kernel, operation, cause)
        case AddPortVlan(name, vlan, own):
            entry = kernel.require(operation, name)
            if not kernel.knows_vlans or not (entry.link.master or own):
                raise HostError(*words(operation), errno.EOPNOTSUPP)
            if vlan.pvid:
                entry.vlans = {key: replace(one, pvid=False) for key, one in entry.vlans.items()}
            entry.vlans[vlan.id] = vlan
            kernel.change(entry, cause)
        case DeletePortVlan(name, number):
            entry = kernel.require(operation, name)
            if entry.vlans.pop(number, None):
                kernel.change(entry, cause)


def _set_options(kernel: "MemoryKernel", operation: SetBridge | CreateBridge, entry: "Entry", cause: str) -> None:
    options = operation.options
    if (options.vlan_filtering or options.default_pvid is not None) and not kernel.knows_vlans:
        raise HostError(*words(operation), errno.EOPNOTSUPP)
    given = {key: value for key, value in asdict(options).items() if value is not None}
    state = entry.link.bridge or BridgeState(stp=False, forward_delay=0)
    kernel.change(entry, cause, bridge=replace(state, **given))
    if isinstance(operation, CreateBridge):
        entry.vlans = default_vlans(entry.link)


def default_vlans(bridge: Link | None) -> dict[int, PortVlan]:
    """VLANs a bridge that filters begins with, and so does what is plugged into it."""
    pvid = bridge.bridge.default_pvid if bridge and bridge.bridge else None
    return {pvid: PortVlan(pvid, pvid=True, untagged=True)} if pvid else {}


def _create_vlan(kernel: "MemoryKernel", operation: CreateVlan, cause: str) -> None:
    parent = kernel.require(operation, operation.parent)
    if not kernel.knows_vlans:
        raise HostError(*words(operation), errno.EOPNOTSUPP)
    if kernel.find(operation.name):
        raise HostError(*words(operation), errno.EEXIST)
    made = kernel.entries[kernel.create(operation.name, "vlan", parent.link.mac, cause=cause)]
    kernel.change(made, cause, alias=operation.alias, lower=parent.link.index)
