"""Links in namespaces of others, seen and deleted from here: the kernel knows namespaces by numbers for that."""

import errno
from contextlib import suppress

from vnetd.linux import netlink
from vnetd.linux.links import (
    IFLA_EXT_MASK,
    IFLA_IFNAME,
    IFLA_NET_NS_FD,
    RTEXT_FILTER_SKIP_STATS,
    about,
    parse_link,
)
from vnetd.linux.netlink import S32, U32, ReadSocket, attributes, encode
from vnetd.linux.operations import index_of, reporting
from vnetd.plan.links import Link

RTM_NEWNSID, RTM_DELNSID, RTM_GETNSID = 88, 89, 90
NETNSA_NSID, NETNSA_FD = 1, 3
IFLA_TARGET_NETNSID = 46
ANY_NUMBER = -1
GENERIC_HEADER = 4
"""Bytes of struct rtgenmsg with its padding."""
GONE = frozenset({errno.ENODEV, errno.EINVAL})
"""No such link, no such namespace."""

_NO_STATISTICS = encode(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS))


def number_of(sock: ReadSocket, netns: int) -> int:
    """The number of the namespace open at ``netns``; it is given one if it has none. Raises ``HostError``."""
    with reporting("number namespace", str(netns)):
        body = bytes(GENERIC_HEADER) + encode(NETNSA_FD, U32.pack(netns))
        number = sock.get(RTM_GETNSID, body, _number)
        if number == ANY_NUMBER:
            with suppress(FileExistsError):  # somebody gave it one meanwhile
                sock.change(RTM_NEWNSID, 0, body + encode(NETNSA_NSID, S32.pack(ANY_NUMBER)))
            number = sock.get(RTM_GETNSID, body, _number)
        return number


def parse_number(data: bytes, start: int, end: int) -> int:
    """The number an RTM_DELNSID message is about."""
    return _number(data, start, end)


def move_link(sock: ReadSocket, netns: int, device: str, name: str) -> None:
    """Move a link into a namespace under another name. Raises ``HostError``."""
    with reporting("move link", f"{device} into its namespace as {name}"):
        body = about(index_of(device)) + encode(IFLA_NET_NS_FD, U32.pack(netns))
        sock.change(netlink.RTM_NEWLINK, 0, body + encode(IFLA_IFNAME, name.encode() + b"\0"))


def link_inside(sock: ReadSocket, number: int, name: str, alias: str) -> Link | None:
    """The link in a namespace that carries ``alias``, ``None`` if there is none. Raises ``HostError``.

    It was given ``name``. Whoever lives there may have given it another since: then all links there are looked at.
    """
    with reporting("read", f"link {name} in namespace {number}", GONE):
        named = _link_called(sock, number, name)
        if named and named.alias == alias:
            return named
        every = sock.dump(netlink.RTM_GETLINK, _inside(number) + _NO_STATISTICS, parse_link)
        return next((link for link in every if link.alias == alias), None)
    return None


def delete_inside(sock: ReadSocket, number: int, name: str, alias: str) -> None:
    """Delete the link in a namespace that carries ``alias``, as ``link_inside`` finds it. Raises ``HostError``."""
    if link := link_inside(sock, number, name, alias):
        with reporting("delete link", f"{link.name} in namespace {number}", GONE):
            sock.change(netlink.RTM_DELLINK, 0, _inside(number, link.index))


def _link_called(sock: ReadSocket, number: int, name: str) -> Link | None:
    body = _inside(number) + encode(IFLA_IFNAME, name.encode() + b"\0") + _NO_STATISTICS
    try:
        return sock.get(netlink.RTM_GETLINK, body, parse_link)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None


def _inside(number: int, index: int = 0) -> bytes:
    return about(index) + encode(IFLA_TARGET_NETNSID, S32.pack(number))


def _number(data: bytes, start: int, end: int) -> int:
    found = attributes(data, start + GENERIC_HEADER, end).get(NETNSA_NSID)
    number: int = S32.unpack(found)[0] if found else ANY_NUMBER
    return number
