"""Ports whose guest's MAC address nobody told: the first packet the guest sends tells it."""

import asyncio
import logging

from vnetd.host.protocols import Host
from vnetd.model.errors import VnetError
from vnetd.packets.sightings import Packet
from vnetd.service.port_changes import PortChanges
from vnetd.service.port_object import PortObject, PortTable

log = logging.getLogger(__name__)

GROUP_BIT = 0x01
"""Of a MAC address's first octet: it names many, and nobody sends under it (IEEE 802)."""


class Introductions:
    """Listens to the packets that rules show (``ruleset.introduction``), in the event loop."""

    def __init__(self, host: Host, ports: PortTable, changes: PortChanges) -> None:
        self._ports = ports
        self._changes = changes
        self._tasks: dict[PortObject, asyncio.Task[None]] = {}
        host.packets.subscribe(self._seen)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _seen(self, packet: Packet) -> None:
        if packet.snooped:
            return
        port = self._ports.kept.by_name(packet.device)
        if port is None or not port.record.unseen or packet.towards_guest or port in self._tasks:
            return
        if packet.source and not int(packet.source[:2], 16) & GROUP_BIT:
            self._tasks[port] = asyncio.get_running_loop().create_task(self._introduce(port, packet.source))

    async def _introduce(self, port: PortObject, mac: str) -> None:
        """Its filter is in force for this address from now on. If that fails, the next packet tries again."""
        try:
            await self._changes.introduce(port, mac)
            log.info("the guest at %s has MAC address %s", port.name, mac)
        except VnetError as error:
            log.warning("the guest at %s, which says it is %s, is kept out: %s", port.name, mac, error)
        finally:
            del self._tasks[port]
