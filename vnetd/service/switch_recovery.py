"""Switches an earlier run of the daemon left: taken over, finished, taken back where nobody confirmed them in time."""

import logging
from collections.abc import Awaitable, Callable

from vnetd.model.errors import VnetError
from vnetd.model.switch import Switch
from vnetd.plan.kernel import CreateBridge, CreateVlan, DeleteLink, SetLink
from vnetd.reconcile.loop import Loop
from vnetd.service.documents import uuid_of
from vnetd.service.records import Records
from vnetd.service.switch_object import DEFINITIONS, RUNNING, SwitchObject, SwitchRecord
from vnetd.service.switches import SwitchService
from vnetd.service.views import Caller

log = logging.getLogger(__name__)

TAG = "vnetd:switch"


class SwitchRecovery:
    """The switches' part of the daemon's start, in the order of its methods."""

    def __init__(self, loop: Loop, switches: SwitchService) -> None:
        self.records = Records(loop.host.store)
        self._loop = loop
        self._switches = switches
        self._recorded: set[str] = set()
        self._stopping: list[SwitchObject] = []

    async def take_over(self) -> None:
        """Read what is defined and what runs; changes nothing on the host."""
        for switch, fields in await self.records.load(DEFINITIONS, Switch, "switch", "switch"):
            known = SwitchObject(uuid_of(switch), switch.name, definition=switch)
            known.autostart = fields.get("autostart") is True
            known.unconfirmed = fields.get("unconfirmed") is True
            self._switches.objects.add(known)
            self._recorded.add(str(known.uuid))
        for record, _ in await self.records.load(RUNNING, SwitchRecord, "running switch"):
            self._resume(record)

    def recount(self) -> None:
        """Ports have been taken over: uplinks carry their VLANs as they did."""
        self._switches.recount()

    async def tag_unfinished(self) -> None:
        """The end of the daemon may have come between the making of a device and its tag: then it has our MAC."""
        for known in self._switches.objects:
            if known.target is None:
                continue
            made: list[CreateBridge | CreateVlan] = [known.target.desired.bridge]
            made += [uplink.made for uplink in known.target.desired.uplinks if uplink.made]
            for want in made:
                link = await self._loop.host.kernel.link(want.name)
                kind, mac = ("bridge", want.mac) if isinstance(want, CreateBridge) else ("vlan", link and link.mac)
                if link and not link.alias and (link.kind, link.mac) == (kind, mac):
                    await self._loop.host.kernel.apply([SetLink(want.name, alias=want.alias)])

    async def finish(self) -> None:
        """End stops that were under way, and take back what should have been confirmed by now."""
        for known in self._stopping:
            await self._attempt(known, self._switches.finish_stop)
        for known in tuple(self._switches.objects):
            if known.pending:
                await self._attempt(known, self._switches.resume)

    async def remove_leftovers(self) -> None:
        """Delete bridges and VLAN devices of switches that are not active any more."""
        claimed = {name for one in self._switches.objects if one.target for name in one.target.desired.devices}
        for link in await self._loop.host.kernel.links():
            tag, _, uuid = link.alias.rpartition(":")
            if tag == TAG and link.name not in claimed and uuid in self._recorded:
                log.info("removing %s, left over from an earlier run", link.name)
                await self._loop.host.kernel.apply([DeleteLink(link.name, link.alias)])

    async def autostart(self, caller: Caller) -> None:
        """Start what starts with the host; not what was started to be confirmed and was not."""
        for known in tuple(self._switches.objects):
            if known.unconfirmed and known.autostart and not known.active:
                log.warning("switch %s was never confirmed: it does not start with the host", known.name)
            elif known.autostart and not known.active:
                try:
                    await self._switches.start(caller, known.uuid, {}, boot=True)
                except VnetError as error:
                    log.error("switch %s could not be started: %s", known.name, error)

    def _resume(self, record: SwitchRecord) -> None:
        switch = record.switch
        known = self._switches.objects.by_uuid(uuid_of(switch))
        known = known or SwitchObject(uuid_of(switch), switch.name)
        self._recorded.add(str(known.uuid))
        self._switches.activation.resume(known, record)
        self._switches.objects.add(known)
        if record.stopping:
            self._stopping.append(known)

    async def _attempt(self, known: SwitchObject, finish: Callable[[SwitchObject], Awaitable[None]]) -> None:
        try:
            await finish(known)
        except VnetError as error:
            log.error("switch %s could not be put back: %s", known.name, error)
            known.problem = str(error)
            self._switches.confirmations.watch(known)
