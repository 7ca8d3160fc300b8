"""Which addresses a port's guest has: the one place that joins what leases and the host's neighbour table say."""

import asyncio

from vnetd.host.protocols import Kernel
from vnetd.service.leases import LeaseBook
from vnetd.service.network_object import NetworkObject
from vnetd.service.port_object import PortObject
from vnetd.service.views import AddressView

LEASE, NEIGHBOUR = "lease", "neighbour"


class PortAddresses:
    """Joins the sources. A guest is known by its MAC address: who forges another's is taken for it."""

    def __init__(self, kernel: Kernel, leases: LeaseBook) -> None:
        self._kernel = kernel
        self._leases = leases

    async def of(self, port: PortObject) -> tuple[AddressView, ...]:
        """Addresses by source, leases first, the youngest of a source first.

        A lease is in force, so it is named until it expires; a neighbour as long as the kernel keeps it in its table.
        """
        leased, heard = await asyncio.gather(self._leased(port.network, port.record.mac), self._heard(port))
        return (*leased, *heard)

    async def _leased(self, network: NetworkObject, mac: str) -> tuple[AddressView, ...]:
        if network.live is None:
            return ()
        found = [
            AddressView(lease.address, lease.family, LEASE, self._leases.age(network.uuid, lease))
            for lease in await self._leases.read(network.live, network.uuid)
            if lease.mac.lower() == mac
        ]
        return tuple(sorted(found, key=lambda one: (one.age, one.address)))

    async def _heard(self, port: PortObject) -> tuple[AddressView, ...]:
        bridge = port.network.bridge
        found = [
            AddressView(str(one.address), f"ipv{one.address.version}", NEIGHBOUR, one.age)
            for one in (await self._kernel.neighbours(bridge) if bridge else ())
            if one.mac == port.record.mac
        ]
        return tuple(sorted(found, key=lambda one: (one.age, one.address)))
