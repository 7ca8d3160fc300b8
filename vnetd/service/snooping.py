"""Addresses guests were seen to use, from packets that rules show (``ruleset.snooping``). Kept in memory only.

They tell people what a guest uses that neither leases from vnetd nor talks to the host. Nothing is decided by them: a
guest without a filter may claim what it likes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from vnetd.host.protocols import Packets
from vnetd.packets.presence import presences
from vnetd.packets.sightings import Address, Packet
from vnetd.service.notices import Notices
from vnetd.service.port_object import PortObject, PortTable
from vnetd.service.views import Notice, Removed

KEPT = 600.0
"""Seconds for which an address is a guest's after it was last seen to use it."""
MOST = 64
"""Addresses of one guest; the one not seen for longest gives way."""


@dataclass(eq=False, slots=True)
class _Guest:
    """When each address was last seen, by the monotonic clock, the latest last; all under one MAC address."""

    mac: str
    seen: dict[Address, float] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer = None


class Snooping:
    """What was seen of each port. ``changed`` is told a port that has others now."""

    def __init__(
        self, packets: Packets, notices: Notices, ports: PortTable, changed: Callable[[PortObject], None]
    ) -> None:
        self._ports = ports
        self._changed = changed
        self._guests: dict[UUID, _Guest] = {}
        packets.subscribe(self._shown)
        notices.subscribe(self._noticed)

    def ages(self, port: PortObject) -> dict[Address, int]:
        """Addresses with the seconds since each was last seen."""
        guest, now = self._guests.get(port.uuid), asyncio.get_running_loop().time()
        if guest is None or guest.mac != port.record.mac:
            return {}
        return {address: int(now - seen) for address, seen in guest.seen.items()}

    def close(self) -> None:
        """Forget everything."""
        for guest in self._guests.values():
            guest.cancel()
        self._guests.clear()

    def _shown(self, packet: Packet) -> None:
        port = self._ports.kept.by_name(packet.device) if packet.snooped else None
        if port is None or port.record.unseen or packet.source != port.record.mac:
            return
        if told := presences(packet):
            guest = self._guest(port)
            before = set(guest.seen)
            for one in told:
                guest.seen.pop(one.address, None)
                if not one.gone:
                    guest.seen[one.address] = asyncio.get_running_loop().time()
            while len(guest.seen) > MOST:
                del guest.seen[next(iter(guest.seen))]
            self._settle(port, guest, before)

    def _guest(self, port: PortObject) -> _Guest:
        guest = self._guests.get(port.uuid)
        if guest is None or guest.mac != port.record.mac:
            if guest:
                guest.cancel()
            guest = self._guests[port.uuid] = _Guest(port.record.mac)
        return guest

    def _settle(self, port: PortObject, guest: _Guest, before: set[Address]) -> None:
        """See to it that the eldest ends, and tell if there are others than before."""
        if guest.seen and guest.timer is None:
            eldest = next(iter(guest.seen.values()))
            guest.timer = asyncio.get_running_loop().call_at(eldest + KEPT, self._expire, port, guest)
        if set(guest.seen) != before:
            self._changed(port)

    def _expire(self, port: PortObject, guest: _Guest) -> None:
        guest.timer = None
        before, ended = set(guest.seen), asyncio.get_running_loop().time() - KEPT
        guest.seen = {address: seen for address, seen in guest.seen.items() if seen > ended}
        self._settle(port, guest, before)

    def _noticed(self, notice: Notice) -> None:
        if isinstance(notice, Removed) and (guest := self._guests.pop(notice.view.uuid, None)):
            guest.cancel()
