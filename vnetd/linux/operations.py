"""Operations on links, addresses and routes, each as the requests the kernel understands."""

import errno
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from vnetd.linux.ethtool import disable_tx_checksum
from vnetd.linux.pyroute2_lean import IPRoute, NetlinkError
from vnetd.model.base import IPInterface
from vnetd.model.errors import HostError
from vnetd.plan.kernel import (
    AddConnectedRoute,
    AddRoute,
    DeleteAddress,
    DeleteRoute,
    DisableTxChecksum,
    Operation,
)
from vnetd.plan.links import KernelRoute

RT_TABLE_MAIN = 254
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
IP6_RT_PRIO_USER = 1024
CONNECTED_METRIC6 = 256  # IP6_RT_PRIO_ADDRCONF
ADDRESS_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
ROUTE_GONE = frozenset({errno.ESRCH, errno.ENODEV, errno.ENETUNREACH})


@contextmanager
def reporting(operation: str, subject: str, gone: Collection[int] = ()) -> Iterator[None]:
    """Turn the kernel's refusal into a ``HostError``; error numbers in ``gone`` mean there is nothing to do."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        code = error.code if isinstance(error, NetlinkError) else error.errno or errno.EIO
        if code not in gone:
            raise HostError(operation, subject, code) from error


def index_of(name: str) -> int:
    """Index of a link. Raises ``OSError`` (ENODEV), which Python's own call leaves without an error number."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def execute(route: IPRoute, operation: Operation) -> None:
    """Have the kernel do one operation that is not done elsewhere (``direct``, ``deletion``). Raises ``HostError``."""
    match operation:
        case DeleteAddress(link, address):
            with reporting("delete address", f"{address} on {link}", ADDRESS_GONE):
                route.addr("del", index=index_of(link), address=str(address.ip), **_length(address))
        case AddRoute() | AddConnectedRoute() | DeleteRoute():
            _execute_route(route, operation)
        case DisableTxChecksum(name):
            with reporting("disable tx checksum of", name):
                disable_tx_checksum(name)
        case _:
            raise TypeError(f"{operation!r} is not executed here")


def _execute_route(route: IPRoute, operation: AddRoute | AddConnectedRoute | DeleteRoute) -> None:
    match operation:
        case AddRoute(link, wanted):
            with reporting("add route", f"{wanted.destination} on {link}"):
                route.route("add", **_route(link, wanted))
        case AddConnectedRoute(link, address):
            with reporting("add route", f"{address.network} on {link}"):
                route.route("add", **_connected_route(link, address))
        case DeleteRoute(link, wanted):
            with reporting("delete route", f"{wanted.destination} on {link}", ROUTE_GONE):
                route.route("del", **_route(link, wanted) | {"scope": RT_SCOPE_NOWHERE})


def _length(address: IPInterface) -> dict[str, int]:
    return {"prefixlen": address.network.prefixlen}


def _connected_route(link: str, address: IPInterface) -> dict[str, Any]:
    """Arguments for the route of an address's subnet, as the kernel makes it: so it goes when the address goes."""
    subnet = KernelRoute(address.network, None, CONNECTED_METRIC6 if address.version == 6 else 0)
    source = {"prefsrc": str(address.ip)} if address.version == 4 else {}
    return _route(link, subnet) | {"proto": "kernel"} | source


def _route(link: str, want: KernelRoute) -> dict[str, Any]:
    """Arguments for a static route of the main table."""
    version6 = want.destination.version == 6
    arguments: dict[str, Any] = {
        "family": socket.AF_INET6 if version6 else socket.AF_INET,
        "dst": str(want.destination),
        "oif": index_of(link),
        "table": RT_TABLE_MAIN,
        "proto": "static",
        # Without a gateway an IPv4 destination is on the link itself; IPv6 knows no scopes here.
        "scope": RT_SCOPE_UNIVERSE if version6 or want.gateway else RT_SCOPE_LINK,
    }
    if want.metric or version6:
        arguments["priority"] = want.metric or IP6_RT_PRIO_USER
    if want.gateway is not None and want.gateway.version == want.destination.version:
        arguments["gateway"] = str(want.gateway)
    elif want.gateway is not None:
        arguments["via"] = {"family": socket.AF_INET6, "addr": str(want.gateway)}
    return arguments
