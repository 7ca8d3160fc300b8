"""Tells that the addresses of a port's guest are others now: all of them, once the sources were asked again."""

import asyncio
import logging

from vnetd.model.errors import VnetError
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_addresses import PortAddresses
from vnetd.service.port_object import PortObject, PortTable
from vnetd.service.registry import Registry
from vnetd.service.views import AddressesChanged, LeaseChange, Notice

log = logging.getLogger(__name__)


class AddressNews:
    """Announces ``AddressesChanged``. Of one port one at a time, so that the last that is told is what is."""

    def __init__(
        self, notices: Notices, networks: Registry[NetworkObject], ports: PortTable, addresses: PortAddresses
    ) -> None:
        self._notices = notices
        self._networks = networks
        self._ports = ports
        self._addresses = addresses
        self._changed: set[PortObject] = set()
        self._tasks: dict[PortObject, asyncio.Task[None]] = {}
        self._closed = False
        notices.subscribe(self._noticed)

    def changed(self, port: PortObject) -> None:
        """Some source says something else of this port than before: tell it soon, several changes at once."""
        if self._closed:
            return
        self._changed.add(port)
        if port not in self._tasks:
            self._tasks[port] = asyncio.get_running_loop().create_task(self._tell(port))

    async def close(self) -> None:
        """Tell no more, and wait for what is under way."""
        self._closed = True
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _noticed(self, notice: Notice) -> None:
        if isinstance(notice, LeaseChange) and (network := self._networks.by_uuid(notice.network)):
            for port in self._ports.sharing(network, notice.lease.mac.lower()):
                self.changed(port)

    async def _tell(self, port: PortObject) -> None:
        try:
            while port in self._changed:
                self._changed.discard(port)
                found = await self._addresses.of(port)
                if self._ports.kept.by_uuid(port.uuid) is port:
                    self._notices.tell(AddressesChanged(port.uuid, port.name, found))
        except VnetError as error:
            log.warning("addresses of port %s have changed, but cannot be told: %s", port.name, error)
        finally:
            self._changed.discard(port)
            del self._tasks[port]
