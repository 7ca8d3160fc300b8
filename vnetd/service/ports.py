"""Use cases of ports: attach, hand out taps, detach, change."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from vnetd.model.errors import Busy, Denied, Invalid
from vnetd.model.port import PortKind, PortRecord, PortSpec
from vnetd.plan.rules import EMPTY
from vnetd.reconcile.loop import Loop
from vnetd.service.address_news import AddressNews
from vnetd.service.api import Options
from vnetd.service.bandwidth import changed, refuse_unable
from vnetd.service.filters import FilterService
from vnetd.service.leases import LeaseBook
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_addresses import PortAddresses
from vnetd.service.port_changes import PortChanges, refuse_stranger
from vnetd.service.port_document import describe_port
from vnetd.service.port_introductions import Introductions
from vnetd.service.port_lifecycle import PortLifecycle
from vnetd.service.port_moves import PortMoves
from vnetd.service.port_object import PortObject, PortTable, devices_of
from vnetd.service.port_plugs import kind_for
from vnetd.service.port_records import PortRecords, refuse_unisolated
from vnetd.service.port_spec import refuse_no_filter, spec_of
from vnetd.service.port_wishes import PortWishes
from vnetd.service.registry import Registry
from vnetd.service.snooping import Snooping
from vnetd.service.views import Added, AddressView, Attached, Caller, PortView
from vnetd.xmlcodec.documents import Usage

LEFT = "the connection it was tied to is gone"

log = logging.getLogger(__name__)


class PortService:
    """Ports. Implements ``service.api.Ports``."""

    def __init__(
        self,
        loop: Loop,
        notices: Notices,
        networks: Registry[NetworkObject],
        filters: FilterService,
        leases: LeaseBook,
    ) -> None:
        self._loop = loop
        self._notices = notices
        self._networks = networks
        self._ports = PortTable()
        self._records = PortRecords(loop, self._ports)
        self._snooping = Snooping(loop.host.packets, notices, self._ports, lambda port: self._news.changed(port))
        self._addresses = PortAddresses(loop.host.kernel, leases, filters.learning, self._snooping)
        self._news = AddressNews(notices, networks, self._ports, self._addresses)
        filters.learning.changed = self._relearned
        self._naming = asyncio.Lock()
        wishes = PortWishes(filters, loop.host.packets)
        self._lifecycle = PortLifecycle(loop, notices, self._ports, filters, wishes)
        self._changes = PortChanges(notices, loop.healer, self._ports, filters, wishes, self._lifecycle)
        self._moves = PortMoves(notices, self._ports, self._changes)
        self._introductions = Introductions(loop.host, self._ports, self._changes)

    @property
    def objects(self) -> Registry[PortObject]:
        """Every whole port."""
        return self._ports.kept

    def list(self) -> tuple[PortView, ...]:
        """All ports, by device."""
        return tuple(port.view() for port in self.objects)

    def get(self, ref: str) -> PortView:
        """One port by UUID or device. Raises ``NotFound``."""
        return self.objects.get(ref).view()

    def usage(self, network: NetworkObject) -> Usage:
        """How many ports a network has, on each device of its pool."""
        ports = self._ports.of(network)
        return Usage(len(ports), Counter(device for port in ports for device in devices_of(port.record)))

    def describe(self, uuid: UUID, format: str) -> str:
        """A port's document as ``xml`` or ``json``, with what it has from its port group and network."""
        port = self._ports.find(uuid)
        assert port.network.live is not None
        return describe_port(port.record, port.network.live, format)

    async def attach(self, caller: Caller, network: str, spec: Options) -> Attached:
        """Attach a guest; see ``model.port`` for kinds and keys.

        Raises ``Busy`` if the network is not active, ``Exists``/``InUse`` for a taken device, ``Invalid`` for a bad
        spec or filter. The port's filter is in force before its device joins the bridge.
        """
        wanted = spec_of(spec)
        if wanted.kind in {PortKind.TAP_FD, PortKind.MACVTAP_FD}:
            raise Invalid(f"kind '{wanted.kind}' is what OpenTap makes: attach takes the other kinds")
        return await self._attach(caller, network, wanted)

    async def open_tap(self, caller: Caller, network: str, spec: Options) -> Attached:
        """Make a tap and hand out its queues; the kernel removes it, and the port goes, when the last fd closes."""
        return await self._attach(caller, network, spec_of({**spec, "kind": str(PortKind.TAP_FD)}))

    async def detach(self, caller: Caller, uuid: UUID) -> None:
        """Take a port out; a device vnetd made is deleted. Raises ``NotFound`` and ``Denied``."""
        port = self._ports.find(uuid)
        refuse_stranger(caller, port)
        async with self._settled(port):
            await self._lifecycle.detach(port)
        log.info("port %s detached by uid %d (pid %d)", port.name, caller.uid, caller.pid)

    async def set_filter(
        self, caller: Caller, uuid: UUID, filter: str, parameters: Mapping[str, Sequence[str]]
    ) -> None:
        """Replace a port's filter in one transaction; empty removes it, for root. Raises what binding raises."""
        refuse_no_filter(caller, filter)
        values = {name: tuple(texts) for name, texts in parameters.items()}
        await self._changes.change(caller, self._ports.find(uuid), filter=filter or None, parameters=values)

    async def set_link(self, caller: Caller, uuid: UUID, up: bool) -> None:
        """Plug the guest's cable in or out. Plugging it in forgives what the holder of its tap did."""
        await self._changes.change(caller, self._ports.find(uuid), link=up, **({"blocked": ""} if up else {}))

    async def set_bandwidth(self, caller: Caller, uuid: UUID, limits: Options) -> None:
        """Change limits by flat name, ``inbound.average`` … ``outbound.burst``; 0 takes one away, others stay.

        Who is not root stays within what root said of this port, else within its port group's limits.

        Raises ``Denied`` for more than that, ``Invalid`` for what does not go together, ``InUse`` for a floor the
        network cannot promise, ``Unsupported`` naming what the kernel lacks.
        """
        port = self._ports.find(uuid)
        refuse_stranger(caller, port)
        wanted = changed(port.record.limits, limits)
        await refuse_unable(self._loop.host.capabilities, f"port {port.name}", wanted)
        granted = {"granted": wanted} if caller.administrator else {}
        await self._changes.change(caller, port, bandwidth=wanted, **granted)

    async def set_isolated(self, caller: Caller, uuid: UUID, isolated: bool) -> None:
        """Whether the port shall reach no other isolated port, while its guest runs.

        Raises ``Denied`` to who is not root and takes back what root or the network said.
        """
        port = self._ports.find(uuid)
        refuse_unisolated(caller, port.network, isolated)
        if port.record.confined and not isolated and not caller.administrator:
            raise Denied(f"port {port.name} was isolated by root, who alone may take that back")
        confined = {"confined": isolated} if caller.administrator else {}
        await self._changes.change(caller, port, isolated=isolated, **confined)

    async def move(self, caller: Caller, uuid: UUID, network: str) -> None:
        """Plug a port into another network, named by name or UUID, while its guest runs. See ``PortMoves``."""
        await self._moves.move(caller, self._ports.find(uuid), self._networks.get(network))

    async def set_port_group(self, caller: Caller, uuid: UUID, group: str) -> None:
        """Give a port the settings of another port group of its network; empty: of the default one."""
        await self._moves.regroup(caller, self._ports.find(uuid), group)

    async def follow(self, network: NetworkObject) -> None:
        """The network was changed while it runs: so are its ports."""
        await self._changes.follow(network)

    async def addresses(self, uuid: UUID) -> tuple[AddressView, ...]:
        """Addresses the guest has, by source. Raises ``NotFound``."""
        return await self._addresses.of(self._ports.find(uuid))

    async def detach_all(self, network: NetworkObject) -> tuple[str, ...]:
        """Take every port of a network out (it stops); called with the network's lock held.

        Goes on when one fails; returns what went wrong. Such a port stays, to be detached again.
        """
        ports = self._ports.of(network)
        results = await asyncio.gather(*(self._lifecycle.detach(port) for port in ports), return_exceptions=True)
        failures = []
        for port, result in zip(ports, results, strict=True):
            if isinstance(result, BaseException):
                log.error("port %s could not be taken out cleanly: %s", port.name, result)
                failures.append(f"port {port.name}: {result}")
        return tuple(failures)

    def restore(self, record: PortRecord, network: NetworkObject) -> PortObject:
        """Take over a port of an earlier run."""
        port = self._lifecycle.object(record, network)
        self._lifecycle.adopt(port)
        return port

    def connections(self) -> frozenset[str]:
        """Those that ports end with."""
        return frozenset(port.record.connection for port in self._ports) - {""}

    def left(self, connection: str) -> None:
        """A connection is gone, and with it go its ports."""
        for port in tuple(self.objects):
            if connection and port.record.connection == connection:
                self._lifecycle.expel(port, LEFT)

    async def clear_away(self, record: PortRecord) -> None:
        """Undo what is left of a port whose network runs no more, and forget it."""
        await self._lifecycle.clear_away(record)

    def touch(self, network: NetworkObject) -> None:
        """Look at all ports of a network: its bridge was made anew."""
        for port in self._ports.of(network):
            self._loop.healer.touch(port.target.key)

    def refiltered(self) -> None:
        """Filters were redefined: targets take over what the ruleset now holds for them."""
        for port in self._ports:
            port.target.refilter(self._loop.rules.fragment(port.target.key) or EMPTY)

    async def close(self) -> None:
        """Wait for ports that are being forgotten, or get to know their guests."""
        await self._introductions.close()
        self._snooping.close()
        await self._news.close()
        await self._lifecycle.close()

    def _relearned(self, owner: str) -> None:
        """What is known of a filter's user has changed; it may be a binding's, which is no port."""
        kind, _, uuid = owner.partition(":")
        if kind == "port" and (port := self.objects.by_uuid(UUID(uuid))):
            self._news.changed(port)

    @asynccontextmanager
    async def _settled(self, port: PortObject) -> AsyncIterator[None]:
        """The port with the lock of the network it is in, also if it was being moved. Raises ``NotFound``."""
        while True:
            network = port.network
            async with network.lock:
                self._ports.refuse_gone(port)
                if port.network is network:
                    yield
                    return

    async def _attach(self, caller: Caller, network_ref: str, spec: PortSpec) -> Attached:
        network = self._networks.get(network_ref)
        async with network.lock:
            if not network.active or network.state != "active":
                raise Busy(f"network {network.name} is not active: start it first")
            assert network.live is not None
            if (kind := kind_for(spec.kind, network.live)) is not spec.kind:
                spec = spec.model_copy(update={"kind": kind})
            port = await self._allocate(caller, network, spec)
            made = await self._lifecycle.make(caller, port, spec)
        if port.record.connection and not caller.present():  # it left before the port was there to end with it
            self._lifecycle.expel(port, LEFT)
        log.info(
            "port %s (%s) attached to %s by uid %d (pid %d)",
            port.name, port.record.kind, network.name, caller.uid, caller.pid,
        )  # fmt: skip
        view = port.view()
        self._notices.tell(Added("port", view))
        self._lifecycle.announce(network)
        result = {"device": port.name, "mac": port.record.mac, "network": network.name, **made.result}
        return Attached(view, result, made.fds)

    async def _allocate(self, caller: Caller, network: NetworkObject, spec: PortSpec) -> PortObject:
        assert network.live is not None
        maker = self._lifecycle.devices.of(spec.kind)
        maker.check(spec, network.live)
        async with self._naming:
            record = await self._records.make(caller, network, spec, maker.template)
            return self._lifecycle.object(record, network)
