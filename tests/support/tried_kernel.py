"""A kernel to try, in memory or real, with all it has reported; and what tests of it begin with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from support.waiting import eventually

from vnetd.host.events import HostEvent
from vnetd.host.protocols import Kernel
from vnetd.model.errors import HostError
from vnetd.plan.kernel import (
    AddAddress,
    AddRoute,
    CreateBridge,
    SetLink,
)
from vnetd.plan.links import KernelRoute

OURS = "vnetd:network:1"
BRIDGE = CreateBridge("virbr0", "52:54:00:12:34:56", 1500, stp=False, forward_delay=0, alias=OURS)
V4, V6 = ip_interface("192.168.77.1/24"), ip_interface("fd77::1/64")
STATIC4 = KernelRoute(ip_network("10.20.0.0/16"), ip_address("192.168.77.2"))
STATIC6 = KernelRoute(ip_network("fd20::/48"), ip_address("fd77::2"), 1024)
ADDRESSED = (BRIDGE, AddAddress("virbr0", V4), AddAddress("virbr0", V6), SetLink("virbr0", up=True))
ROUTED = (*ADDRESSED, AddRoute("virbr0", STATIC4), AddRoute("virbr0", STATIC6))
ACCEPT_RA = ("net", "ipv6", "conf", "virbr0", "accept_ra")
IP_FORWARD = ("net", "ipv4", "ip_forward")


@dataclass
class Tried:
    """A kernel and the events it has reported."""

    kernel: Kernel
    events: list[HostEvent] = field(default_factory=list)

    async def reports(self, expected: Callable[[HostEvent], Any]) -> None:
        await eventually(lambda: any(expected(event) for event in self.events), "event")

    async def index(self, name: str = "virbr0") -> int:
        link = await self.kernel.link(name)
        assert link is not None
        return link.index


async def refused(kernel: Kernel, *operations: Any) -> HostError:
    """The error these operations end with."""
    with pytest.raises(HostError) as refusal:
        await kernel.apply(operations)
    return refusal.value
