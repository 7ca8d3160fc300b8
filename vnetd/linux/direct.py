"""The changes every start of a network and every port consists of, as bytes: make links, change them, add addresses.

The same through pyroute2 costs 0.3 to 0.5 ms each, most of it holding the interpreter lock against the threads that
write rules and dnsmasq's files at the same time (docs/adr/0002). Everything else goes through the library.
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Interface

from vnetd.linux import netlink
from vnetd.linux.bridges import bridge_options
from vnetd.linux.functions import set_function
from vnetd.linux.links import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_BR_FORWARD_DELAY,
    IFLA_BR_STP_STATE,
    IFLA_BRPORT_ISOLATED,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINK,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    make_link,
    number_of,
)
from vnetd.linux.netlink import U32, ReadSocket, encode
from vnetd.linux.operations import RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, index_of, reporting
from vnetd.linux.route_messages import RTA_OIF, RTN_UNICAST
from vnetd.linux.sysctl import write_sysctl
from vnetd.model.base import IPAddress, IPInterface
from vnetd.model.errors import HostError
from vnetd.plan.functions import SetFunction
from vnetd.plan.kernel import (
    AddAddress,
    CreateBridge,
    CreateMacvlan,
    CreateVeth,
    Operation,
    RenameLink,
    SetLink,
    WriteSysctl,
)

IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
VETH_INFO_PEER = 1
IFLA_MACVLAN_MODE = IFLA_IPVLAN_MODE = 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthrough": 8}
IPVLAN_MODE_L2 = b"\0\0"
MOST_PORTS = 1023
"""Of a bridge: the kernel's BR_MAX_PORTS without the number 0."""
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
        case CreateVeth():
            create_veth(sock, operation)
        case CreateMacvlan():
            create_macvlan(sock, operation)
        case SetLink():
            set_link(sock, operation)
        case RenameLink(name, new):
            rename_link(sock, name, new)
        case SetFunction():
            set_function(sock, operation)
        case WriteSysctl(path, value, optional):
            write_sysctl(path, value, optional=optional)
        case _:
            return False
    return True


def create_bridge(sock: ReadSocket, want: CreateBridge) -> None:
    """Make a bridge with its options and its alias; it is left down. Raises ``HostError``."""
    data = _spanning(want.stp, want.forward_delay)
    # A new bridge does not filter, and a kernel that cannot refuses to be told so.
    data += bridge_options(replace(want.options, vlan_filtering=want.options.vlan_filtering or None))
    body = (
        _mac(want.mac)
        # A bridge follows the smallest MTU of its ports until somebody *changes* its own, and setting the value it
        # has already is no change. So it is born with another one.
        + encode(IFLA_MTU, U32.pack(want.mtu ^ 1))
        + _info(b"bridge", data)
    )
    with reporting("create bridge", want.name):
        make_link(sock, want.name, want.alias, body, encode(IFLA_MTU, U32.pack(want.mtu)))


def create_veth(sock: ReadSocket, want: CreateVeth) -> None:
    """Make a pair with the other end in its namespace; both are left down.

    Raises ``HostError``, which names the other end if its name is the one that is taken.
    """
    mtu = encode(IFLA_MTU, U32.pack(want.mtu))
    peer = _link(0) + _name(want.peer_name) + _mac(want.peer_mac) + mtu
    peer += encode(IFLA_NET_NS_FD, U32.pack(want.peer_netns))
    body = _mac(want.mac) + mtu + _info(b"veth", encode(VETH_INFO_PEER, peer))
    try:
        with reporting("create veth", want.name):
            make_link(sock, want.name, want.alias, body)
    except HostError as error:
        if error.errno != errno.EEXIST or number_of(want.name):
            raise
        raise HostError("create veth", f"{want.name}, {want.peer_name} in its namespace", errno.EEXIST) from error


def create_macvlan(sock: ReadSocket, want: CreateMacvlan) -> None:
    """Make a macvlan or macvtap, or an ipvlan, which has its lower device's MAC; left down. Raises ``HostError``."""
    if want.kind == "ipvlan":
        own, data = b"", encode(IFLA_IPVLAN_MODE, IPVLAN_MODE_L2)
    else:
        own, data = _mac(want.mac), encode(IFLA_MACVLAN_MODE, U32.pack(MACVLAN_MODES[want.mode]))
    with reporting(f"create {want.kind}", f"{want.name} on {want.lower}"):
        lower = encode(IFLA_LINK, U32.pack(index_of(want.lower)))
        make_link(sock, want.name, want.alias, own + lower + _info(want.kind.encode(), data))


def set_link(sock: ReadSocket, want: SetLink) -> None:
    """Change a link in the order that keeps a port closed: everything else, then isolation, then up.

    Isolation is a request of its own: the kernel looks for the port's bridge before it changes the master. Raises
    ``HostError``.
    """
    with reporting(f"set {_changed(want)} of", want.name), _telling_when_full(want):
        index, properties = index_of(want.name), _properties(want)
        if want.isolated is not None:
            if properties:
                sock.change(netlink.RTM_NEWLINK, 0, _link(index) + properties)
            sock.change(netlink.RTM_NEWLINK, 0, _link(index) + _isolation(want.isolated))
            properties = b""
        if properties or want.up is not None:
            sock.change(netlink.RTM_NEWLINK, 0, _link(index, want.up) + properties)


@contextmanager
def _telling_when_full(want: SetLink) -> Iterator[None]:
    """The kernel's words for a bridge that takes no more ports are "Exchange full"."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EXFULL:
            raise
        reason = f"{want.master} has as many ports as Linux gives a bridge: {MOST_PORTS}"
        raise HostError("plug in", want.name, reason) from error


def place(sock: ReadSocket, operations: Sequence[SetLink], first: Sequence[SetLink | WriteSysctl] = ()) -> None:
    """Do ``first``, and put a device in its bridge as ``operations`` say, or leave it where that is away.

    The last of ``first`` is one request with what it can be one with. Raises ``HostError``.
    """
    here = all(number_of(one.master) for one in operations if one.master)
    for one in _joined([*first, *operations]) if here else first:
        execute_directly(sock, one)


def _joined(operations: Iterable[SetLink | WriteSysctl]) -> list[SetLink | WriteSysctl]:
    """What a link is and where it is put in one operation: the kernel looks at its master, then at whether it is up."""
    found: list[SetLink | WriteSysctl] = []
    for one in operations:
        match found[-1:], one:
            case (
                [SetLink(name, mac, mtu, None, alias, None, None, None, None)],
                SetLink(same, None, None, up, None, master, None, None, None),
            ) if name == same:
                found[-1] = SetLink(name, mac, mtu, up, alias, master)
            case _:
                found.append(one)
    return found


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
    set_link(sock, SetLink(name, up=True))


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
            sock.change(netlink.RTM_NEWLINK, 0, _link(index, up=False))
            sock.change(netlink.RTM_NEWLINK, 0, body)
            raise_link(sock, new)


def _link(index: int, up: bool | None = None) -> bytes:
    return netlink.LINK.pack(0, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)


def _properties(want: SetLink) -> bytes:
    given = b"" if want.mac is None else _mac(want.mac)
    given += b"" if want.mtu is None else encode(IFLA_MTU, U32.pack(want.mtu))
    given += b"" if want.alias is None else _alias(want.alias)
    if want.master is not None:
        given += encode(IFLA_MASTER, U32.pack(index_of(want.master) if want.master else 0))
    if spanning := _spanning(want.stp, want.forward_delay):
        given += _info(b"bridge", spanning)
    return given


def _changed(want: SetLink) -> str:
    names = ("mac", "mtu", "up", "alias", "master", "stp", "forward_delay", "isolated")
    return ", ".join(name for name in names if getattr(want, name) is not None)


def _name(name: str) -> bytes:
    return encode(IFLA_IFNAME, name.encode() + b"\0")


def _alias(alias: str) -> bytes:
    return encode(IFLA_IFALIAS, alias.encode() + b"\0")


def _mac(mac: str) -> bytes:
    return encode(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))


def _info(kind: bytes, data: bytes) -> bytes:
    return encode(IFLA_LINKINFO, encode(IFLA_INFO_KIND, kind) + encode(IFLA_INFO_DATA, data))


def _spanning(stp: bool | None, forward_delay: int | None) -> bytes:
    given = b"" if forward_delay is None else encode(IFLA_BR_FORWARD_DELAY, U32.pack(forward_delay))
    return given + (b"" if stp is None else encode(IFLA_BR_STP_STATE, U32.pack(stp)))


def _isolation(isolated: bool) -> bytes:
    slave = encode(IFLA_INFO_SLAVE_KIND, b"bridge")
    slave += encode(IFLA_INFO_SLAVE_DATA, encode(IFLA_BRPORT_ISOLATED, bytes([isolated])))
    return encode(IFLA_LINKINFO, slave)
