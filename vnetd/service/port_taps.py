"""Makers of taps: those that live as long as their queues are open, and persistent ones."""

from vnetd.host.protocols import Host
from vnetd.model.network import Network
from vnetd.model.port import PortSpec
from vnetd.reconcile.tap import make_tap, silent
from vnetd.service.port_making import Made, Making, refuse_inside


class OpenedTap:
    """A tap whose queues are handed to the caller."""

    template = "vnet%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It has no end in a namespace."""
        refuse_inside(spec)

    async def make(self, making: Making) -> Made:
        """Open the queues; the kernel removes the tap when the last is closed."""
        spec, device = making.spec, making.record.device
        first = (silent(device), making.desired.properties)
        look = (device, making.desired.bridge)
        fds, (seen, bridge) = await self._host.taps.open_seen(
            device, spec.queues, spec.vnet_hdr, first, look, making.placing, making.commit
        )
        return Made(tuple(fds), seen=(seen, bridge))

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


class PersistentTap:
    """A tap for a program that opens /dev/net/tun itself as the owner or a member of the group."""

    template = "vnet%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It has no end in a namespace."""
        refuse_inside(spec)

    async def make(self, making: Making) -> Made:
        """Make it for its owner and group."""
        assert making.record.tap is not None
        await make_tap(self._host, making.record.device, making.record.tap, making.desired.properties)
        return Made()

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""
