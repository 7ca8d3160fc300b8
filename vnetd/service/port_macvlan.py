"""Makers of macvlans and ipvlans in a guest's namespace, on top of a device of the host."""

from vnetd.host.protocols import Host
from vnetd.host.requirements import require
from vnetd.model.network import Network
from vnetd.model.port import PortKind, PortSpec
from vnetd.plan.kernel import CreateMacvlan, Operation, SetLink
from vnetd.service.port_making import Made, Making
from vnetd.service.port_veth import require_netns

BRIDGE = "bridge"
"""Mode of a macvlan in which those on one device reach each other."""


class InnerDevice:
    """A device that is made here, tagged, and moved to its guest."""

    template = "mvl%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It needs a namespace to be in."""
        require_netns(spec)

    async def make(self, making: Making) -> Made:
        """Make it and move it. What is made when the move fails goes with the port's target."""
        record, spec = making.record, making.spec
        await require(self._host.capabilities, f"kind {record.kind}", str(record.kind))
        device = CreateMacvlan(
            name=record.device,
            kind="ipvlan" if record.kind is PortKind.IPVLAN else "macvlan",
            lower=record.lower,
            mode=str(making.network.macvtap_mode or BRIDGE),
            mac=record.mac,
            alias=making.desired.alias,
        )
        operations: list[Operation] = [device]
        if record.mtu is not None:
            operations.append(SetLink(record.device, mtu=record.mtu))
        await self._host.kernel.apply(operations)
        await self._host.namespaces.move(making.netns, record.device, spec.guest_device)
        return Made(result={"lower": record.lower})

    async def finish(self, making: Making) -> None:
        """Address and raise it."""
        spec = making.spec
        await self._host.namespaces.configure_peer(
            making.netns, spec.guest_device, addresses=spec.addresses, gateways=spec.gateways
        )
