"""Bridges beyond what is said of a link: further options, VLANs of ports, parts of a device by VLAN tag."""

import errno
import socket
import struct
from collections.abc import Iterator

from vnetd.linux import netlink
from vnetd.linux.links import (
    IFLA_BR_AGEING_TIME,
    IFLA_BR_HELLO_TIME,
    IFLA_BR_MAX_AGE,
    IFLA_BR_MCAST_SNOOPING,
    IFLA_BR_PRIORITY,
    IFLA_BR_VLAN_DEFAULT_PVID,
    IFLA_BR_VLAN_FILTERING,
    IFLA_EXT_MASK,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    make_link,
)
from vnetd.linux.netlink import U32, ReadSocket, attribute, encode
from vnetd.linux.operations import index_of, reporting
from vnetd.plan.kernel import AddPortVlan, CreateVlan, DeletePortVlan, Operation, SetBridge
from vnetd.plan.links import BridgeOptions, PortVlan

IFLA_LINK, IFLA_AF_SPEC = 5, 26
IFLA_VLAN_ID = 1
IFLA_BRIDGE_FLAGS, IFLA_BRIDGE_VLAN_INFO = 0, 2
BRIDGE_FLAGS_SELF = 2
VLAN_PVID, VLAN_UNTAGGED = 1 << 1, 1 << 2
RTEXT_FILTER_BRVLAN = 1 << 1
AF_BRIDGE = 7
VLAN_GONE = frozenset({errno.ENOENT, errno.ENODEV})
_U16 = struct.Struct("=H")
_VLAN = struct.Struct("=HH")


def bridge_options(options: BridgeOptions) -> bytes:
    """Attributes of these options, in the order in which the kernel can take them: filtering comes last."""
    given: list[tuple[int, int | None, struct.Struct]] = [
        (IFLA_BR_PRIORITY, options.priority, _U16),
        (IFLA_BR_HELLO_TIME, options.hello_time, U32),
        (IFLA_BR_MAX_AGE, options.max_age, U32),
        (IFLA_BR_AGEING_TIME, options.ageing_time, U32),
        (IFLA_BR_MCAST_SNOOPING, options.multicast_snooping, struct.Struct("=B")),
        (IFLA_BR_VLAN_DEFAULT_PVID, options.default_pvid, _U16),
        (IFLA_BR_VLAN_FILTERING, options.vlan_filtering, struct.Struct("=B")),
    ]
    return b"".join(encode(kind, form.pack(value)) for kind, value, form in given if value is not None)


def execute_on_bridge(sock: ReadSocket, operation: Operation) -> bool:
    """Do ``operation`` if it is one of those done here; whether it was. Raises ``HostError`` naming it."""
    match operation:
        case SetBridge(name, options):
            with reporting("set bridge options of", name):
                info = encode(IFLA_INFO_KIND, b"bridge") + encode(IFLA_INFO_DATA, bridge_options(options))
                sock.change(netlink.RTM_NEWLINK, 0, _link(index_of(name)) + encode(IFLA_LINKINFO, info))
        case CreateVlan():
            _create_vlan(sock, operation)
        case AddPortVlan(name, vlan, own):
            flags = (VLAN_PVID if vlan.pvid else 0) | (VLAN_UNTAGGED if vlan.untagged else 0)
            with reporting("add VLAN", f"{vlan.id} on {name}"):
                sock.change(netlink.RTM_SETLINK, 0, _port_vlan(name, vlan.id, flags, own))
        case DeletePortVlan(name, number, own):
            with reporting("delete VLAN", f"{number} on {name}", VLAN_GONE):
                sock.change(netlink.RTM_DELLINK, 0, _port_vlan(name, number, 0, own))
        case _:
            return False
    return True


def read_port_vlans(sock: ReadSocket, name: str) -> frozenset[PortVlan]:
    """The VLANs a bridge port, or a bridge itself, takes part in; none where the kernel knows none.

    The kernel lists those of all ports, whatever it is asked. Raises ``OSError``.
    """
    index = index_of(name)
    body = netlink.LINK.pack(AF_BRIDGE, 0, 0, 0, 0) + encode(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_BRVLAN))
    found: set[PortVlan] = set()
    for device, vlans in sock.dump(netlink.RTM_GETLINK, body, _vlans):
        if device == index:
            found.update(vlans)
    return frozenset(found)


def _create_vlan(sock: ReadSocket, want: CreateVlan) -> None:
    with reporting("create VLAN device", want.name):
        info = encode(IFLA_INFO_KIND, b"vlan") + encode(IFLA_INFO_DATA, encode(IFLA_VLAN_ID, _U16.pack(want.vlan)))
        body = encode(IFLA_LINK, U32.pack(index_of(want.parent))) + encode(IFLA_LINKINFO, info)
        make_link(sock, want.name, want.alias, body)


def _port_vlan(name: str, vlan: int, flags: int, own: bool) -> bytes:
    """A request about one VLAN; without ``own`` it goes to the port's bridge."""
    inside = encode(IFLA_BRIDGE_FLAGS, _U16.pack(BRIDGE_FLAGS_SELF)) if own else b""
    inside += encode(IFLA_BRIDGE_VLAN_INFO, _VLAN.pack(flags, vlan))
    header: bytes = netlink.LINK.pack(AF_BRIDGE, 0, index_of(name), 0, 0)
    return header + encode(IFLA_AF_SPEC, inside)


def _vlans(data: bytes, start: int, end: int) -> tuple[int, list[PortVlan]]:
    index: int = netlink.LINK.unpack_from(data, start)[2]
    inside = attribute(data, start + netlink.LINK.size, end, IFLA_AF_SPEC) or b""
    return index, list(_each_vlan(inside))


def _each_vlan(inside: bytes) -> Iterator[PortVlan]:
    start = 0
    while start + netlink.ATTRIBUTE.size <= len(inside):
        length, kind = netlink.ATTRIBUTE.unpack_from(inside, start)
        if length < netlink.ATTRIBUTE.size:
            return
        if kind & netlink.ATTRIBUTE_TYPE == IFLA_BRIDGE_VLAN_INFO:
            flags, number = _VLAN.unpack_from(inside, start + netlink.ATTRIBUTE.size)
            yield PortVlan(number, pvid=bool(flags & VLAN_PVID), untagged=bool(flags & VLAN_UNTAGGED))
        start += (length + 3) & ~3


def _link(index: int) -> bytes:
    header: bytes = netlink.LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    return header
