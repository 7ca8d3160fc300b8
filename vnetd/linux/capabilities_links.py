"""Which kinds of links this kernel can make, found out in the network namespace of the calling thread.

What is made stays there: to delete each would take the kernel ten times as long as to let go of the namespace.
"""

import errno
import os
import platform
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from vnetd.linux import netlink
from vnetd.linux.links import IFLA_BR_VLAN_FILTERING, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO
from vnetd.linux.netlink import U32, ReadSocket, encode
from vnetd.linux.taps import open_tap
from vnetd.model.capability import Capability
from vnetd.model.errors import HostError

IFLA_LINK = 5
IFLA_VLAN_ID, IFLA_VXLAN_ID, IFLA_VXLAN_PORT, IFLA_MACVLAN_MODE, VETH_INFO_PEER = 1, 1, 15, 1, 1
MACVLAN_MODE_BRIDGE = 4
BASE, OTHER_BASE = "vnetd-bridge", "vnetd-lower"
"""Bridges: what lies on top of another device is tried on one. A device bears macvlans or ipvlans, not both."""

_VLAN = encode(IFLA_VLAN_ID, (2).to_bytes(2, sys.byteorder))
_PEER = encode(VETH_INFO_PEER, netlink.LINK.pack(0, 0, 0, 0, 0) + encode(IFLA_IFNAME, b"vnetd-peer\0"))
_VXLAN = encode(IFLA_VXLAN_ID, U32.pack(1)) + encode(IFLA_VXLAN_PORT, socket.htons(4789).to_bytes(2, sys.byteorder))
_MODE = encode(IFLA_MACVLAN_MODE, U32.pack(MACVLAN_MODE_BRIDGE))
KINDS = {
    "vlan": (_VLAN, BASE),
    "macvlan": (_MODE, BASE),
    "macvtap": (_MODE, BASE),
    "ipvlan": (b"", OTHER_BASE),
    "veth": (_PEER, ""),
    "vxlan": (_VXLAN, ""),
    "ifb": (b"", ""),
}
"""Data of the request, and which device such a one lies on top of."""
MAKES_DEVICES_WHEN_LOADED = {"ifb"}
"""In the machine's own namespace; so its module is looked for, not loaded."""


def probe_links() -> Iterator[Capability]:
    """Bridges and their VLAN filtering, taps, and every kind of ``KINDS``."""
    sock = ReadSocket()
    try:
        yield _tried("bridge", _refusal(sock, "bridge", BASE, b""))
        filtering = encode(IFLA_BR_VLAN_FILTERING, b"\1")
        yield _tried("bridge-vlan-filtering", _refusal(sock, "bridge", "vnetd-filtering", filtering))
        _refusal(sock, "bridge", OTHER_BASE, b"")
        for kind, (data, lower) in KINDS.items():
            if kind in MAKES_DEVICES_WHEN_LOADED and _waits_as_module(kind):
                yield Capability(kind, True, f"kernel module {kind}, not loaded yet")
            else:
                yield _tried(kind, _refusal(sock, kind, f"vnetd-{kind}", data, _index(lower) if lower else 0), kind)
    finally:
        sock.close()
    for name, queues in (("tap", 1), ("tap-multiqueue", 2)):
        yield _tried(name, _no_tap(queues))


def _tried(name: str, code: int, kind: str = "") -> Capability:
    if not code:
        return Capability(name, True)
    if kind and code == errno.EOPNOTSUPP:
        return Capability(name, False, f"this kernel ({platform.release()}) has no devices of kind {kind}")
    return Capability(name, False, f"this kernel ({platform.release()}) says: {os.strerror(code)}")


def _refusal(sock: ReadSocket, kind: str, name: str, data: bytes, on_top_of: int = 0) -> int:
    """The error number of making such a link, 0 if it could be made."""
    info = encode(IFLA_INFO_KIND, kind.encode()) + (encode(IFLA_INFO_DATA, data) if data else b"")
    body = netlink.LINK.pack(0, 0, 0, 0, 0) + encode(IFLA_IFNAME, name.encode() + b"\0") + encode(IFLA_LINKINFO, info)
    if on_top_of:
        body += encode(IFLA_LINK, U32.pack(on_top_of))
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
    try:
        sock.change(netlink.RTM_NEWLINK, flags, body)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _no_tap(queues: int) -> int:
    try:
        fds = open_tap("vnetd-tap", queues, True)
    except HostError as error:
        return error.errno or errno.EIO
    for fd in fds:
        os.close(fd)
    return 0


def _waits_as_module(name: str) -> bool:
    """Whether a module of this name lies ready but is not loaded."""
    if Path("/sys/module", name).exists():
        return False
    listed = Path("/lib/modules", platform.release(), "modules.dep")
    try:
        lines = listed.read_text().splitlines()
    except OSError:
        return False
    return any(f"/{name}.ko" in line.partition(":")[0] for line in lines)
