"""Which namespaces of others lose links: the kernel tells it of those that have a number here."""

import socket
from collections.abc import Callable

from vnetd.host.events import HostEvent, NamespaceEvent, Overflow
from vnetd.linux.netlink import NETLINK_ROUTE, RECEIVE, RTM_DELLINK, RTNLGRP_LINK, S32, SOL_NETLINK
from vnetd.linux.netlink_listener import Burst, Listener, listening

NETLINK_LISTEN_ALL_NSID = 8
RECEIVE_BUFFER = 2 << 20
"""Bytes: some thousand events of links, of all containers of the host."""
HERE = -1


class InnerEvents:
    """Calls ``emit`` with each namespace in which a link is deleted, or moved away from, in the running loop.

    Its own socket, apart from that for this namespace's events: indexes of links mean something else elsewhere.
    """

    def __init__(self, emit: Callable[[HostEvent], None]) -> None:
        """Listen from now on. Raises ``OSError``, without CAP_NET_BROADCAST too."""
        sock = listening(NETLINK_ROUTE, RECEIVE_BUFFER, (RTNLGRP_LINK,), only=RTM_DELLINK)
        try:
            sock.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)
        except BaseException:
            sock.close()
            raise
        self._emit = emit
        self._number = HERE
        self._listener = Listener(sock, self._take, self._receive)

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        self._listener.close()

    def _receive(self, sock: socket.socket) -> bytes:
        """A datagram, with the number of where it is from noted."""
        data, ancillary, _, _ = sock.recvmsg(RECEIVE, socket.CMSG_SPACE(S32.size))
        self._number = HERE
        for level, kind, value in ancillary:
            if (level, kind) == (SOL_NETLINK, NETLINK_LISTEN_ALL_NSID):
                self._number = S32.unpack(value)[0]
        return data

    def _take(self, burst: Burst) -> None:
        events: dict[HostEvent, None] = {}
        for data in burst:
            if data is None:
                events[Overflow("rtnetlink")] = None
            elif self._number != HERE:
                events[NamespaceEvent(self._number)] = None
        for event in events:
            self._emit(event)
