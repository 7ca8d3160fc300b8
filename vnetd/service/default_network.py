"""The network ``default``: put in place once, when vnetd starts on a host for the first time.

Which one comes with the installation (``DOCUMENT``); without that, or if it is empty, there is none. That it was put
in place is on record, so that a user who removes it is not given it again.
"""

import logging
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import chain, islice
from uuid import UUID

from vnetd.model.base import IPAddress
from vnetd.model.errors import InUse, VnetError
from vnetd.model.network import Network
from vnetd.model.network_addressing import Address
from vnetd.model.network_dhcp import Dhcp
from vnetd.reconcile.loop import Loop
from vnetd.service.documents import parse
from vnetd.service.networks import NetworkService
from vnetd.service.views import Caller
from vnetd.xmlcodec.documents import network_to_json, parse_network

DOCUMENT = "default-network.xml"
KIND, RECORD = "var/host", "default-network"
PRIVATE = tuple(map(IPv4Network, ("192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8")))
"""Where another subnet is looked for (RFC 1918)."""
MOST_CANDIDATES = 4096

log = logging.getLogger(__name__)


class DefaultNetwork:
    """Puts it in place for ``caller``, the daemon itself."""

    def __init__(self, loop: Loop, networks: NetworkService, caller: Caller) -> None:
        self._loop = loop
        self._store = loop.host.store
        self._networks = networks
        self._caller = caller

    async def put_in_place(self) -> None:
        """Define, mark autostart and start it, unless that was done before; what hinders it is logged."""
        try:
            if RECORD in await self._store.load(KIND):
                return
            if (text := await self._store.installed(DOCUMENT)).strip():
                await self._define(await parse(parse_network, text, {}))
        except VnetError as error:
            log.error(
                "the default network could not be put in place, which is tried again at the next start: %s", error
            )

    async def _define(self, network: Network) -> None:
        if self._networks.objects.by_name(network.name) is None:
            fitting = await self._bridge_of_its_own(await self._free_subnet(network))
            view = await self._networks.define(self._caller, network_to_json(fitting), {})
            await self._networks.set_autostart(self._caller, view.uuid, True)
            await self._store.save(KIND, RECORD, {"uuid": str(view.uuid)})
            await self._start(view.uuid)
        else:
            await self._store.save(KIND, RECORD, {})

    async def _start(self, uuid: UUID) -> None:
        try:
            await self._networks.start(self._caller, uuid, boot=True)
        except VnetError as error:
            log.error("the default network was put in place but could not be started: %s", error)

    async def _free_subnet(self, network: Network) -> Network:
        """The network itself, or moved to the next subnet that neither the host nor another network uses."""
        first = next((a.address.network for a in network.addresses if isinstance(a.address, IPv4Interface)), None)
        if first is None or not (taken := await self._taken(first)):
            return network
        for subnet in islice(_others(first), MOST_CANDIDATES):
            if not await self._taken(subnet):
                log.warning("network %s uses subnet %s instead of %s: %s", network.name, subnet, first, taken)
                return moved(network, first, subnet)
        raise InUse(f"no private subnet of size /{first.prefixlen} is free for network {network.name}")

    async def _taken(self, subnet: IPv4Network) -> str:
        """Who has the subnet, "" for nobody."""
        try:
            await self._loop.routes.refuse_clash([subnet])
        except InUse as error:
            return str(error)
        for other in self._networks.objects:
            if any(subnet.overlaps(a.address.network) for a in other.current.addresses if a.address.version == 4):
                return f"network {other.name} has it"
        return ""

    async def _bridge_of_its_own(self, network: Network) -> Network:
        name = network.bridge.name
        ours = {*self._networks.bridges(), *self._networks.bridges_elsewhere()}
        if name not in ours and (not name or await self._loop.host.kernel.link(name) is None):
            return network
        log.warning("network %s gets another bridge than %s, which exists already", network.name, name)
        return network.model_copy(update={"bridge": network.bridge.model_copy(update={"name": None})})


def _others(first: IPv4Network) -> Iterator[IPv4Network]:
    """Private subnets of the same size: those after ``first``, then all others."""
    sized = [pool for pool in PRIVATE if pool.prefixlen <= first.prefixlen]
    after = (s for p in sized if first.subnet_of(p) for s in p.subnets(new_prefix=first.prefixlen) if s > first)
    return chain(after, *(pool.subnets(new_prefix=first.prefixlen) for pool in sized))


def moved(network: Network, old: IPv4Network, new: IPv4Network) -> Network:
    """The network with every address of subnet ``old`` at the same place of ``new``, which is as large."""
    offset = int(new.network_address) - int(old.network_address)

    def shifted(address: IPAddress) -> IPAddress:
        return IPv4Address(int(address) + offset) if address.version == 4 and address in old else address

    def dhcp(before: Dhcp) -> Dhcp:
        ranges = [r.model_copy(update={"start": shifted(r.start), "end": shifted(r.end)}) for r in before.ranges]
        hosts = [host.model_copy(update={"address": shifted(host.address)}) for host in before.hosts]
        return before.model_copy(update={"ranges": tuple(ranges), "hosts": tuple(hosts)})

    def address(before: Address) -> Address:
        if before.address.network != old:
            return before
        there = IPv4Interface((int(before.address.ip) + offset, old.prefixlen))
        return before.model_copy(update={"address": there, "dhcp": dhcp(before.dhcp) if before.dhcp else None})

    return network.model_copy(update={"addresses": tuple(address(one) for one in network.addresses)})
