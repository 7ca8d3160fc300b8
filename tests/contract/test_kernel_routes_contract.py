"""What every ``host.Kernel`` does with addresses and routes: the same about the one in memory and the real one."""

import errno
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from support.memory_kernel import MemoryKernel
from support.tried_kernel import (
    ADDRESSED,
    BRIDGE,
    ROUTED,
    STATIC4,
    STATIC6,
    V4,
    V6,
    refused,
)

from vnetd.host.protocols import Kernel
from vnetd.plan.kernel import (
    AddAddress,
    AddConnectedRoute,
    AddRoute,
    DeleteAddress,
    DeleteRoute,
    SetLink,
)
from vnetd.plan.links import HostRoute, KernelRoute


async def test_addresses_of_both_families_are_seen(kernel: Kernel) -> None:
    await kernel.apply(ADDRESSED)
    view = await kernel.view("virbr0")
    assert view is not None and {V4, V6} <= view.addresses
    assert view.routes == frozenset()


async def test_an_address_can_be_added_once(kernel: Kernel) -> None:
    await kernel.apply(ADDRESSED)
    for address in (V4, V6):
        error = await refused(kernel, AddAddress("virbr0", address))
        assert (error.errno, str(error)) == (errno.EEXIST, f"add address {address} on virbr0: File exists")


async def test_an_address_needs_its_link(kernel: Kernel) -> None:
    error = await refused(kernel, AddAddress("virbr0", V4))
    assert (error.errno, str(error)) == (errno.ENODEV, "add address 192.168.77.1/24 on virbr0: No such device")


async def test_deleted_addresses_are_gone(kernel: Kernel) -> None:
    await kernel.apply([*ADDRESSED, DeleteAddress("virbr0", V4), DeleteAddress("virbr0", V6)])
    view = await kernel.view("virbr0")
    assert view is not None and not {V4, V6} & view.addresses


async def test_static_routes_are_seen_and_connected_ones_are_not(kernel: Kernel) -> None:
    await kernel.apply(ROUTED)
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {STATIC4, STATIC6}


@pytest.mark.parametrize("route", [STATIC4, STATIC6], ids=str)
async def test_a_route_keeps_its_metric(kernel: Kernel, route: KernelRoute) -> None:
    wanted = replace(route, metric=77)
    await kernel.apply([*ADDRESSED, AddRoute("virbr0", wanted)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {wanted}
    await kernel.apply([DeleteRoute("virbr0", wanted)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == frozenset()


async def test_an_ipv6_route_without_a_metric_gets_the_kernels(kernel: Kernel) -> None:
    without = replace(STATIC6, metric=0)
    await kernel.apply([*ADDRESSED, AddRoute("virbr0", without)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {STATIC6}
    await kernel.apply([DeleteRoute("virbr0", without)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == frozenset()


@pytest.mark.parametrize("destination", ["0.0.0.0/0", "::/0", "198.51.100.0/24", "2001:db8::/32"])
async def test_a_route_may_have_no_gateway_and_be_the_default(kernel: Kernel, destination: str) -> None:
    wanted = KernelRoute(ip_network(destination), None, 1024 if ":" in destination else 0)
    await kernel.apply([*ADDRESSED, AddRoute("virbr0", wanted)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {wanted}


async def test_a_route_can_be_added_once(kernel: Kernel) -> None:
    await kernel.apply(ROUTED)
    error = await refused(kernel, AddRoute("virbr0", STATIC4))
    assert (error.errno, str(error)) == (errno.EEXIST, "add route 10.20.0.0/16 on virbr0: File exists")


async def test_a_gateway_must_be_reachable(kernel: Kernel) -> None:
    await kernel.apply(ADDRESSED)
    far4 = KernelRoute(STATIC4.destination, ip_address("172.31.0.1"))
    far6 = KernelRoute(STATIC6.destination, ip_address("fd99::1"))
    assert (await refused(kernel, AddRoute("virbr0", far4))).errno == errno.ENETUNREACH
    assert (await refused(kernel, AddRoute("virbr0", far6))).errno == errno.EHOSTUNREACH


async def test_a_route_needs_its_link_up(kernel: Kernel) -> None:
    error = await refused(kernel, BRIDGE, AddAddress("virbr0", V4), AddRoute("virbr0", STATIC4))
    assert error.errno in {errno.ENETDOWN, errno.ENETUNREACH}


async def test_the_last_address_takes_the_routes_along(kernel: Kernel) -> None:
    await kernel.apply([*ROUTED, DeleteAddress("virbr0", V4)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == {STATIC6}


async def test_a_link_set_down_loses_its_routes_and_keeps_its_ipv4_addresses(kernel: Kernel) -> None:
    await kernel.apply([*ROUTED, SetLink("virbr0", up=False)])
    view = await kernel.view("virbr0")
    assert view is not None and view.routes == frozenset() and view.addresses == {V4}


async def test_host_routes_name_device_table_and_origin(kernel: Kernel) -> None:
    await kernel.apply(ROUTED)
    routes = await kernel.host_routes()
    assert HostRoute(ip_network("192.168.77.0/24"), "virbr0", 254, 2) in routes
    assert HostRoute(ip_network("fd77::/64"), "virbr0", 254, 2) in routes
    assert HostRoute(STATIC4.destination, "virbr0", 254, 4, STATIC4.gateway) in routes
    assert HostRoute(STATIC6.destination, "virbr0", 254, 4, STATIC6.gateway) in routes
    assert all(route.device == "virbr0" and not route.destination.is_multicast for route in routes)


@pytest.mark.parametrize("address", [V4, V6])
async def test_the_route_of_an_addresses_subnet_is_seen_and_can_be_put_back(kernel: Kernel, address: Any) -> None:
    await kernel.apply(ADDRESSED)
    view = await kernel.view("virbr0")
    assert view is not None and {V4.network, V6.network} <= view.connected and not view.routes
    if isinstance(kernel, MemoryKernel):
        kernel.cut_subnet("virbr0", address.network)
    else:
        subprocess.run(["ip", "route", "delete", str(address.network), "dev", "virbr0"], check=True)
    view = await kernel.view("virbr0")
    assert view is not None and address.network not in view.connected
    await kernel.apply([AddConnectedRoute("virbr0", address)])
    view = await kernel.view("virbr0")
    assert view is not None and {V4.network, V6.network} <= view.connected and not view.routes
    await kernel.apply([DeleteAddress("virbr0", address)])
    view = await kernel.view("virbr0")
    assert view is not None and address.network not in view.connected, "it goes with its address"
