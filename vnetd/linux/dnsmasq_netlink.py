"""Spares a dnsmasq the news of routes.

dnsmasq joins the route groups of rtnetlink whatever its configuration is, only to ask again what upstream servers did
not answer and to read resolv.conf anew. With 300 networks each start of one more would wake 300 processes several
times. vnetd tells dnsmasq its upstream servers itself, so it takes that membership away from outside: pidfd_getfd(2)
gives it a copy of dnsmasq's socket, and memberships are the socket's, not the copy's (netlink(7)).
"""

import ctypes
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
ROUTE_GROUPS = (7, 11)
"""RTNLGRP_IPV4_ROUTE and RTNLGRP_IPV6_ROUTE (linux/rtnetlink.h)."""

_libc = ctypes.CDLL(None, use_errno=True)


def spare(live: Live) -> None:
    """Take a dnsmasq's sockets out of the route groups. Where the host does not allow it, all stays as it is."""
    try:
        for own in _sockets(live):
            with own:
                _leave(own)
    except OSError:
        pass  # it merely wakes more often


def _sockets(live: Live) -> Iterator[socket.socket]:
    """Copies of the process's sockets; the caller closes them."""
    for entry in sorted(Path(f"/proc/{live.pid}/fd").iterdir()):
        if os.readlink(entry).startswith("socket:"):
            yield socket.socket(fileno=_copy(live.pidfd, int(entry.name)))


def _copy(pidfd: int, number: int) -> int:
    copy = int(_libc.syscall(PIDFD_GETFD, pidfd, number, 0))
    if copy < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return copy


def _leave(own: socket.socket) -> None:
    if own.family == socket.AF_NETLINK and own.proto == NETLINK_ROUTE:
        for group in ROUTE_GROUPS:
            own.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group)
