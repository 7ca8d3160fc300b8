"""Makers of macvtap ports: one that stays, for a program that opens its /dev/tapN, and one that is handed out open."""

from functools import partial

from vnetd.host.protocols import Host
from vnetd.model.errors import HostError
from vnetd.model.network import Network
from vnetd.model.port import PortSpec
from vnetd.plan.kernel import CreateMacvlan, SetLink, WriteSysctl
from vnetd.plan.links import Link
from vnetd.plan.macvtap import Stacked
from vnetd.reconcile.macvtap import macvtap_placement
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
        (link, lower), spec = await self._create(making), making.spec
        node = await self._host.macvtaps.grant(link.name, link.index, spec.owner, spec.group)
        return Made((), {"node": node, "lower": lower.name}, (link, lower))

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""

    async def _create(self, making: Making) -> tuple[Link, Link]:
        kernel, device = self._host.kernel, making.record.device
        await kernel.apply(_steps(making))
        link, lower = await kernel.links_named((device, _stack(making).lower))
        if link is None or lower is None:
            raise HostError("create macvtap", device, "it went as soon as it was made")
        return link, lower


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
        record, spec = making.record, making.spec
        fds, (link, lower) = await self._host.macvtaps.open(
            record.device,
            _stack(making).lower,
            record.mac,
            spec.queues,
            spec.vnet_hdr,
            _steps(making),
            making.commit,
            partial(macvtap_placement, making.desired),
        )
        return Made(tuple(fds), {"lower": lower.name}, (link, lower))

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


def _steps(making: Making) -> list[SetLink | CreateMacvlan | WriteSysctl]:
    """What makes the macvtap, down, on the device its record names. What fails half-way is undone by its target."""
    record, stack = making.record, _stack(making)
    device = CreateMacvlan(
        name=record.device,
        kind="macvtap",
        lower=stack.lower,
        mode=str(stack.mode),
        mac=record.mac,
        alias=making.desired.alias,
    )
    first = [SetLink(stack.lower, mac=record.mac)] if stack.former_mac else []
    return [*first, device, silent(record.device)]


def _stack(making: Making) -> Stacked:
    assert isinstance(making.desired.plug, Stacked)
    return making.desired.plug
