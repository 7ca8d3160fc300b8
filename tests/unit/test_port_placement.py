"""What of a new port is done in one breath with making it."""

from dataclasses import replace
from typing import Any

import pytest

from vnetd.linux.direct import _joined
from vnetd.model.network_ports import Bandwidth, Rate
from vnetd.plan.kernel import SetLink, WriteSysctl
from vnetd.plan.rules import EMPTY
from vnetd.plan.shaping import shaping_of
from vnetd.reconcile.port import DesiredPort, Inside, placement

UUID = "2b7a4a1e-0000-4000-8000-000000000001"
PORT = DesiredPort(
    uuid=UUID,
    device="vnet0",
    bridge="virbr0",
    alias=f"vnetd:port:{UUID}",
    mac="fe:54:00:00:00:01",
    mtu=1500,
    isolated=False,
    fragment=EMPTY,
)


@pytest.mark.parametrize(
    ("wish", "steps"),
    [
        ({}, (SetLink("vnet0", master="virbr0", up=True),)),
        ({"shaping": shaping_of(UUID, None)}, (SetLink("vnet0", master="virbr0", up=True),)),
        ({"up": False}, (SetLink("vnet0", master="virbr0"),)),
        (
            {"isolated": True},
            (SetLink("vnet0", master="virbr0"), SetLink("vnet0", isolated=True), SetLink("vnet0", up=True)),
        ),
    ],
)
def test_a_port_that_needs_its_bridge_alone_is_placed_as_soon_as_it_is_made(wish: Any, steps: Any) -> None:
    assert placement(replace(PORT, **wish)) == steps


LIMITS = Bandwidth(inbound=Rate(average=1000))


@pytest.mark.parametrize(
    "wish",
    [
        {"vlans": frozenset()},
        {"shaping": shaping_of(UUID, LIMITS)},
        {"plug": Inside(1, "eth0", "eth7"), "bridge": ""},
    ],
)
def test_what_needs_more_waits_until_its_device_was_looked_at(wish: Any) -> None:
    assert placement(replace(PORT, **wish)) == ()


SILENT = WriteSysctl(("net", "ipv6", "conf", "vnet0", "disable_ipv6"), "1")
OWN = SetLink("vnet0", mac="fe:54:00:00:00:01", mtu=1400, alias="ours")


def test_what_a_link_is_and_where_it_is_put_is_one_request() -> None:
    whole = SetLink("vnet0", mac="fe:54:00:00:00:01", mtu=1400, up=True, alias="ours", master="virbr0")
    assert _joined([SILENT, OWN, SetLink("vnet0", master="virbr0", up=True)]) == [SILENT, whole]
    assert _joined([OWN, SetLink("vnet0", master="virbr0")]) == [replace(whole, up=None)]


@pytest.mark.parametrize(
    "operations",
    [
        (OWN, SILENT, SetLink("vnet0", master="virbr0", up=True)),
        (OWN, SetLink("vnet1", master="virbr0", up=True)),
        (OWN, SetLink("vnet0", isolated=True)),
        (OWN, SetLink("vnet0", stp=True)),
        (OWN, SetLink("vnet0", mac="fe:54:00:00:00:02")),
        (SetLink("vnet0", isolated=True), SetLink("vnet0", up=True)),
        (SetLink("vnet0", stp=True), SetLink("vnet0", up=True)),
        (SetLink("vnet0", up=False), SetLink("vnet0", master="virbr0", up=True)),
        (SetLink("vnet0", master="virbr0"), SetLink("vnet0", isolated=True), SetLink("vnet0", up=True)),
    ],
    ids=[
        "apart",
        "two links",
        "isolation",
        "stp",
        "two addresses",
        "isolated",
        "bridge",
        "down",
        "closed until isolated",
    ],
)
def test_what_is_of_two_links_or_needs_an_order_stays_apart(operations: Any) -> None:
    assert tuple(_joined(operations)) == operations
