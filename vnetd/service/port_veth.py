"""Maker of veth pairs: one end here, the other in the guest's network namespace."""

from vnetd.host.protocols import Host
from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.model.port import PortSpec
from vnetd.plan.kernel import CreateVeth
from vnetd.reconcile.desired import DEFAULT_MTU
from vnetd.reconcile.tap import silent
from vnetd.service.naming import host_side_mac
from vnetd.service.port_making import Made, Making


class VethPair:
    """A pair of virtual cards joined by a cable."""

    template = "veth%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It needs a namespace for its other end."""
        require_netns(spec)

    async def make(self, making: Making) -> Made:
        """Make the pair. The guest's end is up first, but as long as this one is down nothing passes."""
        record, spec = making.record, making.spec
        pair = CreateVeth(
            name=record.device,
            mac=host_side_mac(record.mac),
            peer_name=spec.guest_device,
            peer_mac=record.mac,
            peer_netns=making.netns,
            mtu=record.mtu or DEFAULT_MTU,
            alias=making.desired.alias,
        )
        device, bridge = await self._host.namespaces.make_pair(
            pair,
            then=[silent(record.device)],
            look=(record.device, making.desired.bridge),
            addresses=spec.addresses,
            gateways=spec.gateways,
            placing=making.placing,
            commit=making.commit,
        )
        return Made(seen=(device, bridge))

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


def require_netns(spec: PortSpec) -> None:
    """Raise ``Invalid`` if no namespace is named."""
    if not spec.netns:
        raise Invalid(f"netns is missing: kind {spec.kind} needs the guest's network namespace (name, path or pid)")
