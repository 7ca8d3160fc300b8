"""Links as rtnetlink reports them."""

import errno
import fcntl
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

from vnetd.linux import netlink
from vnetd.linux.netlink import Attributes, ReadSocket, attribute, attributes, encode, nested
from vnetd.linux.operations import reporting
from vnetd.plan.links import BridgeState, Link, TunState

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_CARRIER = 18, 20, 27, 28, 29, 33
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BR_FORWARD_DELAY, IFLA_BR_HELLO_TIME, IFLA_BR_MAX_AGE, IFLA_BR_AGEING_TIME, IFLA_BR_STP_STATE = 1, 2, 3, 4, 5
IFLA_BR_PRIORITY, IFLA_BR_VLAN_FILTERING, IFLA_BR_MCAST_SNOOPING, IFLA_BR_VLAN_DEFAULT_PVID = 6, 7, 23, 39
IFLA_BRPORT_ISOLATED = 33
IFLA_TUN_OWNER, IFLA_TUN_GROUP, IFLA_TUN_PERSIST = 1, 2, 6
IFLA_TUN_NUM_QUEUES, IFLA_TUN_NUM_DISABLED_QUEUES = 8, 9
SIOCGIFMTU = 0x8921
RTEXT_FILTER_SKIP_STATS = 1 << 3
IFF_UP = 1

_IFREQ = struct.Struct("=16si20x")
_NO_STATISTICS = encode(IFLA_EXT_MASK, netlink.U32.pack(RTEXT_FILTER_SKIP_STATS))


def about(index: int) -> bytes:
    """How a request begins that is about the link with this index, or with 0 about those its attributes name."""
    header: bytes = netlink.LINK.pack(0, 0, index, 0, 0)
    return header


_ANY = about(0)


def make_link(sock: ReadSocket, name: str, alias: str, body: bytes, rest: bytes = b"") -> None:
    """Make a link of these attributes, then give it what the kernel does not take in the same request: its alias, and
    ``rest``. If it cannot have that there is no link. Raises ``OSError``.

    It is known by its name: to ask for its index would take a descriptor, and there may be none left.
    """
    named = _ANY + encode(IFLA_IFNAME, name.encode() + b"\0")
    sock.change(netlink.RTM_NEWLINK, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, named + body)
    try:
        sock.change(netlink.RTM_NEWLINK, 0, named + encode(IFLA_IFALIAS, alias.encode() + b"\0") + rest)
    except BaseException:
        sock.change(netlink.RTM_DELLINK, 0, named)  # without its alias it would be nobody's for ever
        raise


def read_link(sock: ReadSocket, name: str) -> Link | None:
    """The link ``name`` (an alternative name counts too), ``None`` if there is none. Raises ``OSError``."""
    body = _ANY + encode(IFLA_IFNAME, name.encode() + b"\0") + _NO_STATISTICS
    try:
        return sock.get(netlink.RTM_GETLINK, body, parse_link)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def look_at(sock: ReadSocket, names: Sequence[str]) -> tuple[Link | None, ...]:
    """The links of these names, in this order. Raises ``HostError``."""
    with reporting("read", f"links {', '.join(names)}"):
        return tuple(read_link(sock, name) for name in names)


def read_link_at(sock: ReadSocket, index: int) -> Link | None:
    """The link with this index, ``None`` if there is none. Raises ``OSError``."""
    try:
        return sock.get(netlink.RTM_GETLINK, about(index) + _NO_STATISTICS, parse_link)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise


def read_links(sock: ReadSocket) -> list[Link]:
    """Every link. Raises ``OSError``."""
    return sock.dump(netlink.RTM_GETLINK, _ANY + _NO_STATISTICS, parse_link)


def read_group(sock: ReadSocket, group: int) -> set[int]:
    """Indexes of the links in a link group. Raises ``OSError``."""
    found = sock.dump(netlink.RTM_GETLINK, _ANY + _NO_STATISTICS, _index_and_group)
    return {index for index, member_of in found if member_of == group}


def parse_link(data: bytes, start: int, end: int) -> Link:
    """A ``Link`` from the payload of RTM_NEWLINK."""
    _family, _type, index, flags, _change = netlink.LINK.unpack_from(data, start)
    found = attributes(data, start + netlink.LINK.size, end)
    info = nested(found.get(IFLA_LINKINFO))
    kind = _text(info.get(IFLA_INFO_KIND))
    return Link(
        index=index,
        name=_text(found.get(IFLA_IFNAME)),
        kind=kind,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found, IFLA_MTU),
        up=bool(flags & IFF_UP),
        alias=_text(found.get(IFLA_IFALIAS)),
        master=_number(found, IFLA_MASTER),
        group=_number(found, IFLA_GROUP),
        bridge=_bridge(nested(info.get(IFLA_INFO_DATA))) if kind == "bridge" else None,
        isolated=_isolated(info),
        carrier=bool(_number(found, IFLA_CARRIER)),
        lower=_number(found, IFLA_LINK),
        tun=_tun(nested(info.get(IFLA_INFO_DATA))) if kind == "tun" else None,
    )


def _bridge(data: Attributes) -> BridgeState:
    return BridgeState(
        stp=bool(_number(data, IFLA_BR_STP_STATE)),
        forward_delay=_number(data, IFLA_BR_FORWARD_DELAY),
        vlan_filtering=bool(_number(data, IFLA_BR_VLAN_FILTERING)),
        priority=_number(data, IFLA_BR_PRIORITY),
        hello_time=_number(data, IFLA_BR_HELLO_TIME),
        max_age=_number(data, IFLA_BR_MAX_AGE),
        ageing_time=_number(data, IFLA_BR_AGEING_TIME),
        multicast_snooping=bool(_number(data, IFLA_BR_MCAST_SNOOPING)),
        default_pvid=_number(data, IFLA_BR_VLAN_DEFAULT_PVID) if IFLA_BR_VLAN_DEFAULT_PVID in data else None,
    )


def _tun(data: Attributes) -> TunState:
    return TunState(
        persist=bool(_number(data, IFLA_TUN_PERSIST)),
        owner=_number(data, IFLA_TUN_OWNER) if IFLA_TUN_OWNER in data else -1,
        group=_number(data, IFLA_TUN_GROUP) if IFLA_TUN_GROUP in data else -1,
        queues=_queues(data),
    )


def _queues(data: Attributes) -> int | None:
    if IFLA_TUN_NUM_QUEUES not in data:
        return None
    return _number(data, IFLA_TUN_NUM_QUEUES) + _number(data, IFLA_TUN_NUM_DISABLED_QUEUES)


def _isolated(info: Attributes) -> bool:
    if _text(info.get(IFLA_INFO_SLAVE_KIND)) != "bridge":
        return False
    return bool(_number(nested(info.get(IFLA_INFO_SLAVE_DATA)), IFLA_BRPORT_ISOLATED))


def _index_and_group(data: bytes, start: int, end: int) -> tuple[int, int]:
    index: int = netlink.LINK.unpack_from(data, start)[2]
    group = attribute(data, start + netlink.LINK.size, end, IFLA_GROUP)
    return index, int.from_bytes(group or b"", sys.byteorder)


def _text(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode(errors="replace") if value else ""


def _number(found: Attributes, kind: int) -> int:
    """An unsigned attribute of any width (rtnetlink's are in host byte order), 0 if absent."""
    return int.from_bytes(found.get(kind, b""), sys.byteorder)


def name_of(index: int) -> str:
    """The link's name, "" if there is none any more; a look-up without locks, far cheaper than a request."""
    with suppress(OSError):
        return socket.if_indextoname(index) if index > 0 else ""
    return ""


def number_of(name: str) -> int:
    """The link's index, 0 if there is none; as cheap as ``name_of``."""
    with suppress(OSError):
        return socket.if_nametoindex(name)
    return 0


class NameLookup:
    """Looks for links by name, without locks: no request that would wait for whoever changes links.

    Its socket is made when first needed, in the network namespace of the thread that asks.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def is_taken(self, name: str) -> bool:
        """Whether a link has this name (an alternative one counts too). Raises ``OSError``.

        To bind a socket is the one way to ask: SIOCGIFINDEX has the kernel load a module called after a link that is
        not there.
        """
        return _binds(self._asking(), name)

    def mtu(self, name: str) -> int | None:
        """The MTU of the link ``name`` (an alternative one counts too), ``None`` if there is none. Raises ``OSError``.

        The ioctl has a module loaded for a link that is not there, so it is asked for what is.
        """
        if not self.is_taken(name):
            return None
        try:
            answer = fcntl.ioctl(self._asking(), SIOCGIFMTU, _IFREQ.pack(name.encode(), 0))
        except OSError as error:
            if error.errno == errno.ENODEV:  # went meanwhile
                return None
            raise
        mtu: int = _IFREQ.unpack(answer)[1]
        return mtu

    def close(self) -> None:
        """Close the socket, if it was made."""
        if self._socket is not None:
            self._socket.close()

    def _asking(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        return self._socket


def _binds(sock: socket.socket, name: str) -> bool:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        raise
    return True
