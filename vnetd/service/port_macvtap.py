"""Makers of macvtap ports: one that stays, for a program that opens its /dev/tapN, and one that is handed out open."""

from vnetd.host.protocols import Host
from vnetd.model.errors import HostError
from vnetd.model.network import Network
from vnetd.model.port import PortSpec
from vnetd.plan.kernel import CreateMacvlan, Operation, SetLink
from vnetd.plan.links import Link
from vnetd.plan.macvtap import Stacked
from vnetd.reconcile.tap import silent
from vnetd.service.port_deviceless import refuse_bridged
from vnetd.service.port_making import Made, Making


class PersistentMacvtap:
    """A macvtap whose device node belongs to an owner and a group."""

    template = "macvtap%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It passes no bridge."""
        refuse_bridged(spec)

    async def make(self, making: Making) -> Made:
        """Make the device and give its node away."""
        (link, lower), spec = await create(self._host, making), making.spec
        node = await self._host.macvtaps.grant(link.name, link.index, spec.owner, spec.group)
        return Made((), {"node": node, "lower": lower.name}, (link, lower))

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


class OpenedMacvtap:
    """A macvtap whose queues are handed to the caller; it goes when nobody holds one any more."""

    template = "macvtap%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It passes no bridge."""
        refuse_bridged(spec)

    async def make(self, making: Making) -> Made:
        """Make the device and open its queues."""
        (link, lower), spec = await create(self._host, making), making.spec
        fds = await self._host.macvtaps.open(link.name, link.index, link.mac, spec.queues, spec.vnet_hdr)
        return Made(tuple(fds), {"lower": lower.name}, (link, lower))

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


async def create(host: Host, making: Making) -> tuple[Link, Link]:
    """Make the macvtap on the lower device its record names, down; returns both.

    What fails half-way is undone by its target.
    """
    record, stack = making.record, _stack(making)
    device = CreateMacvlan(
        name=record.device,
        kind="macvtap",
        lower=stack.lower,
        mode=str(stack.mode),
        mac=record.mac,
        alias=making.desired.alias,
    )
    first: list[Operation] = [SetLink(stack.lower, mac=record.mac)] if stack.former_mac else []
    await host.kernel.apply([*first, device, silent(record.device)])
    link, lower = await host.kernel.links_named((record.device, stack.lower))
    if link is None or lower is None:
        raise HostError("create macvtap", record.device, "it went as soon as it was made")
    return link, lower


def _stack(making: Making) -> Stacked:
    assert isinstance(making.desired.plug, Stacked)
    return making.desired.plug
