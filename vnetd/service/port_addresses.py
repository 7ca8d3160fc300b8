"""Which addresses a port's guest has: the one place that joins what leases, filters, neighbours and packets say."""

import asyncio
from collections.abc import Iterable, Mapping

from vnetd.host.protocols import Kernel
from vnetd.packets.sightings import Address
from vnetd.service.learning import AddressLearning
from vnetd.service.leases import LeaseBook
from vnetd.service.network_object import NetworkObject
from vnetd.service.port_object import PortObject
from vnetd.service.snooping import Snooping
from vnetd.service.views import AddressView

LEASE, LEARNED, NEIGHBOUR, SNOOPED = "lease", "learned", "neighbour", "snooped"


class PortAddresses:
    """Joins the sources. A guest is known by its MAC address: who forges another's is taken for it."""

    def __init__(self, kernel: Kernel, leases: LeaseBook, learning: AddressLearning, snooping: Snooping) -> None:
        self._kernel = kernel
        self._leases = leases
        self._learning = learning
        self._snooping = snooping

    async def of(self, port: PortObject) -> tuple[AddressView, ...]:
        """Addresses by source, leases first, the youngest of a source first.

        A lease is in force, so it is named until it expires; what its filter has learned as long as the filter goes by
        it; a neighbour as long as the kernel keeps it in its table; what it was seen to use for ten minutes.
        """
        leased, heard = await asyncio.gather(self._leased(port.network, port.record.mac), self._heard(port))
        learned = _aged(LEARNED, self._learning.ages(port.target.key))
        return (*leased, *learned, *heard, *_aged(SNOOPED, self._snooping.ages(port)))

    async def _leased(self, network: NetworkObject, mac: str) -> tuple[AddressView, ...]:
        if network.live is None:
            return ()
        found = [
            AddressView(lease.address, lease.family, LEASE, self._leases.age(network.uuid, lease))
            for lease in await self._leases.read(network.live, network.uuid)
            if lease.mac.lower() == mac
        ]
        return _by_age(found)

    async def _heard(self, port: PortObject) -> tuple[AddressView, ...]:
        bridge = port.network.bridge
        found = [
            AddressView(str(one.address), f"ipv{one.address.version}", NEIGHBOUR, one.age)
            for one in (await self._kernel.neighbours(bridge) if bridge else ())
            if one.mac == port.record.mac
        ]
        return _by_age(found)


def _aged(source: str, ages: Mapping[Address, int]) -> tuple[AddressView, ...]:
    return _by_age(AddressView(str(one), f"ipv{one.version}", source, age) for one, age in ages.items())


def _by_age(found: Iterable[AddressView]) -> tuple[AddressView, ...]:
    return tuple(sorted(found, key=lambda one: (one.age, one.address)))
