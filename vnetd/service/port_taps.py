"""Makers of taps: those that live as long as their queues are open, and persistent ones."""

from vnetd.host.protocols import Host
from vnetd.model.network import Network
from vnetd.model.port import PortSpec
from vnetd.plan.kernel import SetLink
from vnetd.service.naming import host_side_mac
from vnetd.service.port_making import Made, Making, refuse_inside, silent

NOBODY = -1


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
        spec = making.spec
        fds = tuple(await self._host.taps.open(making.record.device, spec.queues, spec.vnet_hdr))
        try:
            await tag(self._host, making)
        except BaseException:
            await self._host.taps.close(fds)
            raise
        return Made(fds)

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
        device, spec = making.record.device, making.spec
        # A tap of nobody could be opened by everybody.
        owner = making.record.owner if spec.owner == spec.group == NOBODY else spec.owner
        fds = await self._host.taps.open(device, min(spec.queues, 2), spec.vnet_hdr, owner)
        try:
            await tag(self._host, making)
            # Only now, when it can be told to be ours: whatever ends the daemon before, the kernel cleans up.
            await self._host.taps.keep(device, fds, spec.group)
        except BaseException:
            await self._host.taps.close(fds)
            raise
        return Made()

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


async def tag(host: Host, making: Making) -> None:
    """Give a new device MAC, MTU and the tag that says it is ours."""
    record = making.record
    properties = SetLink(record.device, mac=host_side_mac(record.mac), mtu=record.mtu, alias=making.desired.alias)
    await host.kernel.apply([properties, silent(record)])
