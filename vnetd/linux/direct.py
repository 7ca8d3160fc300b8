"""The changes every start of a network consists of, as bytes: create a bridge, add an address, raise a link.

The same through pyroute2 costs 0.3 to 0.5 ms each, most of it holding the interpreter lock against the threads that
write rules and dnsmasq's files at the same time (docs/adr/0002). Everything else goes through the library.
"""

import errno
from dataclasses import replace
from ipaddress import IPv4Interface

from vnetd.linux import netlink
from vnetd.linux.addresses import RTA_OIF, RTN_UNICAST
from vnetd.linux.bridges import bridge_options
from vnetd.linux.functions import set_function
from vnetd.linux.links import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_BR_FORWARD_DELAY,
    IFLA_BR_STP_STATE,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
)
from vnetd.linux.netlink import U32, ReadSocket, encode
from vnetd.linux.operations import RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, index_of, reporting
from vnetd.model.base import IPAddress, IPInterface
from vnetd.plan.functions import SetFunction
from vnetd.plan.kernel import AddAddress, CreateBridge, Operation, RenameLink, SetLink

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
AF_INET, AF_INET6 = 2, 10
RTA_GATEWAY, RTPROT_STATIC = 5, 4
NEW = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL


def execute_directly(sock: ReadSocket, operation: Operation) -> bool:
    """Do ``operation`` if it is one of those done here; whether it was. Raises ``HostError`` naming it."""
    match operation:
        case CreateBridge():
            create_bridge(sock, operation)
        case AddAddress(link, address):
            add_address(sock, link, address)
        case SetLink(name=name, up=True) if operation == SetLink(name, up=True):
            raise_link(sock, name)
        case RenameLink(name, new):
            rename_link(sock, name, new)
        case SetFunction():
            set_function(sock, operation)
        case _:
            return False
    return True


def create_bridge(sock: ReadSocket, want: CreateBridge) -> None:
    """Make a bridge with its options and its alias; it is left down. Raises ``HostError``."""
    data = encode(IFLA_BR_FORWARD_DELAY, U32.pack(want.forward_delay)) + encode(IFLA_BR_STP_STATE, U32.pack(want.stp))
    # A new bridge does not filter, and a kernel that cannot refuses to be told so.
    data += bridge_options(replace(want.options, vlan_filtering=want.options.vlan_filtering or None))
    options = encode(IFLA_INFO_KIND, b"bridge") + encode(IFLA_INFO_DATA, data)
    body = (
        _link(0)
        + encode(IFLA_IFNAME, want.name.encode() + b"\0")
        + encode(IFLA_ADDRESS, bytes.fromhex(want.mac.replace(":", "")))
        # A bridge follows the smallest MTU of its ports until somebody *changes* its own, and setting the value it
        # has already is no change. So it is born with another one.
        + encode(IFLA_MTU, U32.pack(want.mtu ^ 1))
        + encode(IFLA_LINKINFO, options)
    )
    with reporting("create bridge", want.name):
        sock.change(netlink.RTM_NEWLINK, NEW, body)
        index = index_of(want.name)
        try:
            # The kernel takes no alias in the request that creates a link.
            alias = encode(IFLA_IFALIAS, want.alias.encode() + b"\0")
            sock.change(netlink.RTM_NEWLINK, 0, _link(index) + encode(IFLA_MTU, U32.pack(want.mtu)) + alias)
        except BaseException:
            sock.change(netlink.RTM_DELLINK, 0, _link(index))  # without its alias it would be nobody's for ever
            raise


def add_address(sock: ReadSocket, link: str, address: IPInterface) -> None:
    """Add an address: IPv6 without duplicate detection, IPv4 with its subnet's broadcast address.

    A subnet of two addresses or one has no broadcast address (RFC 3021). Raises ``HostError``.
    """
    length = address.network.prefixlen
    packed = address.ip.packed
    with reporting("add address", f"{address} on {link}"):
        index = index_of(link)
        if isinstance(address, IPv4Interface):
            body = netlink.ADDRESS.pack(AF_INET, length, 0, 0, index) + encode(IFA_LOCAL, packed)
            if length < 31:
                body += encode(IFA_BROADCAST, address.network.broadcast_address.packed)
        else:
            body = netlink.ADDRESS.pack(AF_INET6, length, 0, 0, index) + encode(IFA_FLAGS, U32.pack(IFA_F_NODAD))
        sock.change(netlink.RTM_NEWADDR, NEW, body + encode(IFA_ADDRESS, packed))


def add_default_route(sock: ReadSocket, link: str, gateway: IPAddress) -> None:
    """Have what goes nowhere else go through ``gateway`` on a link that is up. Raises ``HostError``."""
    family = AF_INET if gateway.version == 4 else AF_INET6
    with reporting("add route", f"default via {gateway} on {link}"):
        body = netlink.ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)
        body += encode(RTA_OIF, U32.pack(index_of(link))) + encode(RTA_GATEWAY, gateway.packed)
        sock.change(netlink.RTM_NEWROUTE, NEW, body)


def raise_link(sock: ReadSocket, name: str) -> None:
    """Set a link up. Raises ``HostError``."""
    with reporting("set up of", name):
        sock.change(netlink.RTM_NEWLINK, 0, netlink.LINK.pack(0, 0, index_of(name), IFF_UP, IFF_UP))


def rename_link(sock: ReadSocket, name: str, new: str) -> None:
    """Give a link another name; older kernels take that only while it is down. Raises ``HostError``."""
    with reporting("rename", f"{name} to {new}"):
        index = index_of(name)
        body = _link(index) + encode(IFLA_IFNAME, new.encode() + b"\0")
        try:
            sock.change(netlink.RTM_NEWLINK, 0, body)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            sock.change(netlink.RTM_NEWLINK, 0, netlink.LINK.pack(0, 0, index, 0, IFF_UP))
            sock.change(netlink.RTM_NEWLINK, 0, body)
            raise_link(sock, new)


def _link(index: int) -> bytes:
    return netlink.LINK.pack(0, 0, index, 0, 0)
