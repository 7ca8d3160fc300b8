"""DHCP leases of networks: read on request, compared when dnsmasq wrote them."""

import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_address
from uuid import UUID

from vnetd.dnsmasq.leases import Lease, changes, parse, render
from vnetd.host.protocols import Dnsmasq
from vnetd.model.base import IPAddress
from vnetd.model.network import Network
from vnetd.service.api import Options
from vnetd.service.lease_import import leases_of
from vnetd.service.notices import Notices
from vnetd.service.views import LeaseChange, LeaseView


class LeaseBook:
    """What leases each network had when last looked at."""

    def __init__(self, dnsmasq: Dnsmasq, notices: Notices) -> None:
        self._dnsmasq = dnsmasq
        self._notices = notices
        self._known: dict[UUID, tuple[Lease, ...]] = {}
        self._noticed: dict[UUID, dict[tuple[str, str], tuple[int, float]]] = {}
        """By network, address and MAC: the expiry that was last noticed, and when by the monotonic clock."""

    async def read(self, network: Network, uuid: UUID) -> tuple[LeaseView, ...]:
        """Leases in force, by address as dnsmasq lists them."""
        text = await self._dnsmasq.leases(str(uuid))
        now = time.time()  # lease times are wall clock: dnsmasq writes seconds since the epoch
        leases = (parse(text) if text else None) or ()
        return tuple(_view(network, lease) for lease in leases if lease.is_current(now))

    async def current(self, network: Network, uuid: UUID, mac: str) -> tuple[IPAddress, ...]:
        """Addresses one guest has leased now."""
        return tuple(ip_address(one.address) for one in await self.read(network, uuid) if one.mac == mac)

    async def give(self, network: Network, uuid: UUID, rows: Sequence[Options]) -> None:
        """Add leases another server gave to those of a network nobody serves. Raises as ``leases_of`` does."""
        given = leases_of(network, rows)
        own = parse(await self._dnsmasq.leases(str(uuid)) or "") or ()
        merged = {lease.address: lease for lease in (*given, *own)}
        await self._dnsmasq.give_leases(str(uuid), render(merged.values()))

    async def refresh(self, network: Network, uuid: UUID, *, announce: bool = True) -> None:
        """Compare with the last look and announce what came and went."""
        text = await self._dnsmasq.leases(str(uuid))
        leases = parse(text) if text is not None else ()
        if leases is None:  # cut off in the middle of a write: the next event brings the rest
            return
        self._note(uuid, leases)
        added, removed = changes(self._known.get(uuid, ()), leases)
        self._known[uuid] = leases
        if announce:
            for came, some in ((False, removed), (True, added)):
                for lease in some:
                    self._notices.tell(LeaseChange(uuid, network.name, came, _view(network, lease)))

    def age(self, uuid: UUID, lease: LeaseView) -> int:
        """Seconds since a lease was given or renewed, or since this run of the daemon first saw it."""
        now = asyncio.get_running_loop().time()
        _, noticed = self._noticed.get(uuid, {}).get((lease.address, lease.mac), (0, now))
        return int(now - noticed)

    def _note(self, uuid: UUID, leases: tuple[Lease, ...]) -> None:
        before, now = self._noticed.get(uuid, {}), asyncio.get_running_loop().time()
        current: dict[tuple[str, str], tuple[int, float]] = {}
        for lease in leases:
            key = (str(lease.address), lease.mac)
            expiry, noticed = before.get(key, (lease.expiry, now))
            current[key] = (lease.expiry, noticed if expiry == lease.expiry else now)
        self._noticed[uuid] = current

    def forget(self, uuid: UUID) -> None:
        """The network is gone."""
        self._known.pop(uuid, None)
        self._noticed.pop(uuid, None)


def _view(network: Network, lease: Lease) -> LeaseView:
    version = 4 if lease.family == "ipv4" else 6
    prefixes = [a.address.network.prefixlen for a in network.addresses if a.address.version == version]
    return LeaseView(
        address=str(lease.address),
        prefix=prefixes[0] if prefixes else 0,
        family=lease.family,
        mac=lease.mac,
        hostname=lease.hostname,
        client_id=lease.client_id,
        expiry=lease.expiry,
        iaid=str(lease.iaid or ""),
    )
