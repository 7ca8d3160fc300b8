"""Addresses and routes of links in memory."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from support.memory_words import words

from vnetd.host.events import AddressEvent, RouteEvent
from vnetd.model.errors import HostError
from vnetd.plan.kernel import AddAddress, AddConnectedRoute, AddRoute, DeleteAddress, DeleteRoute
from vnetd.plan.links import HostRoute, KernelRoute

if TYPE_CHECKING:
    from support.memory_kernel import Entry, MemoryKernel

AddressOperation = AddAddress | DeleteAddress | AddRoute | DeleteRoute | AddConnectedRoute
PROTO_KERNEL, PROTO_STATIC, TABLE_MAIN = 2, 4, 254
IPV6_METRIC = 1024


def change_address(kernel: "MemoryKernel", operation: AddressOperation, cause: str) -> None:
    """Do one operation. Raises ``HostError`` as the kernel would."""
    match operation:
        case AddAddress() | DeleteAddress():
            _change_address(kernel, operation, cause)
        case AddRoute() | DeleteRoute():
            _change_route(kernel, operation, cause)
        case AddConnectedRoute(link, address):
            kernel.require(operation, link).cut.discard(ip_network(address.network))


def _change_address(kernel: "MemoryKernel", operation: AddAddress | DeleteAddress, cause: str) -> None:
    address = operation.address
    if isinstance(operation, DeleteAddress):
        entry = kernel.find(operation.link)
        if entry:
            kernel.drop_address(entry, address, cause)
        return
    entry = kernel.require(operation, operation.link)
    if address in entry.addresses:
        raise HostError(*words(operation), errno.EEXIST)
    entry.addresses.add(address)
    kernel.emit(AddressEvent(entry.link.index, cause, entry.link.name))


def _change_route(kernel: "MemoryKernel", operation: AddRoute | DeleteRoute, cause: str) -> None:
    route = _shown(operation.route)
    if isinstance(operation, DeleteRoute):
        entry = kernel.find(operation.link)
        if entry and route in entry.routes:
            kernel.drop(entry, [], [route], cause)
        return
    entry = kernel.require(operation, operation.link)
    if code := _refusal(kernel, entry, route):
        raise HostError(*words(operation), code)
    entry.routes.add(route)
    kernel.emit(RouteEvent(entry.link.index, cause, entry.link.name))


def _refusal(kernel: "MemoryKernel", entry: "Entry", route: KernelRoute) -> int:
    taken = {(r.destination, r.metric) for other in kernel.entries.values() for r in other.routes}
    if not entry.link.up:
        return errno.ENETDOWN
    if route.gateway and not any(route.gateway in address.network for address in entry.addresses):
        return errno.ENETUNREACH if route.gateway.version == 4 else errno.EHOSTUNREACH
    return errno.EEXIST if (route.destination, route.metric) in taken else 0


def _shown(route: KernelRoute) -> KernelRoute:
    if route.destination.version == 6 and not route.metric:
        return replace(route, metric=IPV6_METRIC)
    return route


def host_routes(entry: "Entry") -> Iterator[HostRoute]:
    """Routes of a link as the host's list shows them."""
    name = entry.link.name
    if name == "lo" or not entry.link.up:
        return
    for address in entry.addresses:
        yield HostRoute(ip_network(address.network), name, TABLE_MAIN, PROTO_KERNEL)
    for route in entry.routes:
        yield HostRoute(route.destination, name, TABLE_MAIN, PROTO_STATIC, route.gateway)
