"""Spares a dnsmasq the news of routes and addresses.

dnsmasq joins these groups of rtnetlink whatever its configuration is. Of routes it only learns when to ask again what
upstream servers did not answer and to read resolv.conf anew, and vnetd tells it its upstream servers itself; of
addresses it makes nothing unless it binds dynamically, advertises or speaks DHCPv6. With 300 networks each start of one
more would wake 300 processes several times. So vnetd takes that membership away from outside: pidfd_getfd(2) gives it
a copy of dnsmasq's socket, and memberships are the socket's, not the copy's (netlink(7)).
"""

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from vnetd.linux.dnsmasq_process import Live

PIDFD_GETFD = 438
"""Number of the system call, the same on every architecture."""
SOL_NETLINK = 270
NETLINK_DROP_MEMBERSHIP = 2
NETLINK_ROUTE = 0
ROUTE_GROUPS, ADDRESS_GROUPS = (7, 11), (5, 9)
"""RTNLGRP_IPV4_ROUTE and RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR (linux/rtnetlink.h)."""

_libc = ctypes.CDLL(None, use_errno=True)


def deafen(live: Live, *, addresses: bool) -> None:
    """Take a dnsmasq's sockets out of the groups of routes, and of ``addresses``.

    Where the host does not allow it, all stays as it is.
    """
    groups = (*ROUTE_GROUPS, *(ADDRESS_GROUPS if addresses else ()))
    try:
        for own in _sockets(live):
            with own:
                _leave(own, groups)
    except OSError:
        pass  # it merely wakes more often


def _sockets(live: Live) -> Iterator[socket.socket]:
    """Copies of the process's sockets; the caller closes them. What it closes meanwhile is none of them."""
    for entry in sorted(Path(f"/proc/{live.pid}/fd").iterdir()):
        try:
            copy = _copy(live.pidfd, int(entry.name)) if os.readlink(entry).startswith("socket:") else None
        except FileNotFoundError:
            continue
        if copy is not None:
            yield socket.socket(fileno=copy)


def _copy(pidfd: int, number: int) -> int:
    """A copy of another process's descriptor. Raises ``FileNotFoundError`` if it was closed, other ``OSError``."""
    copy = int(_libc.syscall(PIDFD_GETFD, pidfd, number, 0))
    if copy < 0:
        code = ctypes.get_errno()
        raise OSError(errno.ENOENT if code == errno.EBADF else code, "pidfd_getfd")
    return copy


def _leave(own: socket.socket, groups: tuple[int, ...]) -> None:
    if own.family == socket.AF_NETLINK and own.proto == NETLINK_ROUTE:
        for group in groups:
            own.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group)
