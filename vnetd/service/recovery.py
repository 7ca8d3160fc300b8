"""What an earlier run of the daemon left, taken over or finished; what boots with the host, started.

Nothing is deleted before the whole store has been read, and only what is provably vnetd's: it carries vnetd's tag
and its UUID is on record.
"""

import logging

from vnetd.model.errors import VnetError
from vnetd.model.filter import Filter
from vnetd.model.network import Network
from vnetd.model.networkport import DirectPlug
from vnetd.model.port import BindingRecord, PortRecord
from vnetd.plan.kernel import DeleteLink, SetLink
from vnetd.plan.rules import Fragment
from vnetd.reconcile.borrowed import BorrowedTarget
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.network import NetworkTarget
from vnetd.service import filters as filter_service
from vnetd.service.activation import need_of
from vnetd.service.binding_object import BINDINGS
from vnetd.service.default_network import DefaultNetwork
from vnetd.service.documents import uuid_of
from vnetd.service.filters import FilterObject, FilterService
from vnetd.service.naming import host_side_mac
from vnetd.service.network_object import DEFINITIONS, RUNNING, NetworkObject
from vnetd.service.networks import NetworkService
from vnetd.service.port_object import PORTS
from vnetd.service.ports import PortService
from vnetd.service.records import Records
from vnetd.service.switch_recovery import SwitchRecovery
from vnetd.service.switches import SwitchService
from vnetd.service.views import Caller

log = logging.getLogger(__name__)

HOST, AUTOSTARTED = "run/host", "autostarted"
DAEMON = Caller(uid=0, name="vnetd", administrator=True)


class Recovery:
    """Start of the daemon, in order: read, take over, repair, finish what was begun, start what boots."""

    def __init__(
        self, loop: Loop, networks: NetworkService, switches: SwitchService, filters: FilterService, ports: PortService
    ) -> None:
        self._loop = loop
        self._store = loop.host.store
        self._networks = networks
        self._switches = SwitchRecovery(loop, switches)
        self._filters = filters
        self._ports = ports
        self._recorded: set[str] = set()
        self._stopping: list[NetworkObject] = []
        self._stale: list[PortRecord] = []
        self._records = Records(loop.host.store)

    async def run(self) -> None:
        """All of it; when it returns, autostart networks are up and calls can be answered."""
        serving = await self._loop.host.dnsmasq.adopt()
        lent = await self._loop.host.passt.adopt()
        await self._loop.forwarding.load()
        await self._load_filters()
        await self._load_networks()
        await self._filters.learning.load()
        await self._switches.take_over()
        fragments = await self._take_over_networks()
        fragments |= await self._take_over_ports()
        self._switches.recount()
        fragments |= await self._take_over_bindings()
        await self._loop.rules.adopt(fragments, all_known=self._records.whole)
        await self._tag_unfinished()
        await self._switches.tag_unfinished()
        self._loop.listen()
        await self._switches.finish()
        await self._finish_stops()  # first, or they would be repaired to be taken down
        await self._loop.healer.sweep()
        await self._remove_leftovers(serving)
        await self._end_strays(lent)
        await self._read_leases()
        await self._filters.learning.catch_up()
        await self._autostart()
        await DefaultNetwork(self._loop, self._networks, DAEMON).put_in_place()

    async def _load_filters(self) -> None:
        for filter, _ in await self._records.load(filter_service.DEFINITIONS, Filter, "filter"):
            if builtin := self._filters.objects.by_name(filter.name):
                self._filters.objects.remove(builtin)
            self._filters.objects.add(FilterObject(uuid_of(filter), filter.name, filter))

    async def _load_networks(self) -> None:
        for network, fields in await self._records.load(DEFINITIONS, Network, "network", "network"):
            known = NetworkObject(uuid_of(network), network.name, definition=network)
            known.autostart = fields.get("autostart") is True
            self._networks.objects.add(known)
            self._recorded.add(str(known.uuid))

    async def _take_over_networks(self) -> dict[str, Fragment]:
        fragments = {}
        for network, fields in await self._records.load(RUNNING, Network, "running network", "network"):
            known = self._networks.objects.by_uuid(uuid_of(network))
            known = known or NetworkObject(uuid_of(network), network.name)
            self._recorded.add(str(known.uuid))
            known.live = network
            try:
                await self._networks.activation.resume(known)
            except VnetError as error:
                log.error("running network %s cannot be looked after and is left alone: %s", network.name, error)
                known.live, self._records.whole = None, False
                continue
            self._networks.objects.add(known)
            assert known.target is not None
            if need := need_of(network):
                self._loop.forwarding.expect(known.target.key, need)
            if fields.get("stopping") is True:
                self._stopping.append(known)
            fragments[known.target.key] = known.target.desired.fragment
        return fragments

    async def _take_over_ports(self) -> dict[str, Fragment]:
        fragments = {}
        for record, _ in await self._records.load(PORTS, PortRecord, "port"):
            self._recorded.add(str(record.uuid))
            network = self._networks.objects.by_uuid(record.network)
            if network is None or not network.active:
                self._stale.append(record)
                continue
            try:
                port = self._ports.restore(record, network)
            except VnetError as error:
                log.error("port %s keeps the rules it has: %s", record.device, error)
                self._records.whole = False
                continue
            if not port.record.plug or await self._loop.host.kernel.link(port.name):  # else its rules go as well
                fragments[port.target.key] = port.target.desired.fragment
                fragments[port.target.place_key] = port.target.desired.place
        return fragments

    async def _take_over_bindings(self) -> dict[str, Fragment]:
        fragments: dict[str, Fragment] = {}
        for record, _ in await self._records.load(BINDINGS, BindingRecord, "binding"):
            try:
                fragments |= await self._filters.restore(record)
            except VnetError as error:
                log.error("binding of %s keeps the rules it has: %s", record.device, error)
                self._records.whole = False
        return fragments

    async def _tag_unfinished(self) -> None:
        """The end of the daemon may have come between the making of a device and its tag.

        Untagged, with a name on record and the MAC address made up for it there, it is ours.
        """
        made = [
            (bridge.name, bridge.mac, bridge.alias)
            for network in self._networks.objects
            if isinstance(network.target, NetworkTarget) and (bridge := network.target.desired.bridge)
        ]
        made += [
            (side.device.name, side.device.mac, side.device.alias)
            for network in self._networks.objects
            if isinstance(network.target, BorrowedTarget) and (side := network.target.desired.host_side)
        ]
        made += [
            (port.name, _device_mac(port.record), port.target.desired.alias)
            for port in self._ports.objects
            if port.target.desired.alias
        ]
        for name, mac, alias in made:
            link = await self._loop.host.kernel.link(name)
            kinds = {"bridge", "veth", "macvtap", "macvlan", "ipvlan"}
            if link and not link.alias and link.mac == mac and link.kind in kinds:
                await self._loop.host.kernel.apply([SetLink(name, alias=alias)])

    async def _finish_stops(self) -> None:
        for known in self._stopping:
            try:
                await self._networks.stop(DAEMON, known.uuid)
            except VnetError as error:
                log.error("network %s was being stopped and cannot be: %s", known.name, error)

    async def _remove_leftovers(self, serving: tuple[str, ...]) -> None:
        """Devices and dnsmasq processes of networks and ports that are not active any more."""
        if not (self._records.whole and self._switches.records.whole):
            log.error("some records could not be read: leftovers are kept until that is cleared up")
            return
        claimed = self._loop.devices.names()
        for link in await self._loop.host.kernel.links():
            tag, _, uuid = link.alias.rpartition(":")
            if link.name in claimed or tag not in {"vnetd:network", "vnetd:port", "vnetd:shaper"}:
                continue
            if uuid not in self._recorded:
                log.warning("%s carries vnetd's tag but is on no record: it is left alone", link.name)
                continue
            log.info("removing %s, left over from an earlier run", link.name)
            await self._loop.host.kernel.apply([DeleteLink(link.name, link.alias)])
        await self._switches.remove_leftovers()
        for record in self._stale:
            await self._ports.clear_away(record)
        active = {str(known.uuid) for known in self._networks.objects if known.active}
        for uuid in sorted(set(serving) - active):
            await self._loop.host.dnsmasq.stop(uuid, forget=False)

    async def _end_strays(self, lent: tuple[str, ...]) -> None:
        """passt processes of ports that are not there any more."""
        if not self._records.whole:
            return
        ports = {str(port.uuid) for port in self._ports.objects}
        for port in sorted(set(lent) - ports):
            await self._loop.host.passt.stop(port)

    async def _read_leases(self) -> None:
        for known in self._networks.objects:
            if known.live:
                await self._networks.leases_of.refresh(known.live, known.uuid, announce=False)

    async def _autostart(self) -> None:
        """Once a boot: the mark is kept below /run, which a boot empties."""
        if AUTOSTARTED in await self._store.load(HOST):
            return
        await self._switches.autostart(DAEMON)
        for known in self._networks.objects:
            if known.autostart and not known.active:
                try:
                    await self._networks.start(DAEMON, known.uuid, boot=True)
                except VnetError as error:
                    log.error("network %s could not be started: %s", known.name, error)
        await self._store.save(HOST, AUTOSTARTED, True)


def _device_mac(record: PortRecord) -> str:
    """The MAC address vnetd gives the device of a port."""
    own = record.kind.inside or isinstance(record.plug, DirectPlug)
    return record.mac if own else host_side_mac(record.mac)
