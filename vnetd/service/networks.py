"""Use cases of networks: define, start, stop, change, describe."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID, uuid4

from vnetd.model.errors import Busy, HostError, Invalid, VnetError
from vnetd.model.network import Network
from vnetd.reconcile.borrowed import desired_borrowed
from vnetd.reconcile.desired import Surroundings, desired_network, refuse_unrealised
from vnetd.reconcile.loop import Loop
from vnetd.service.activation import Activation
from vnetd.service.api import Options
from vnetd.service.definitions import DefinitionService
from vnetd.service.documents import boolean, parse, refuse_format, refuse_unknown, uuid_of
from vnetd.service.leases import LeaseBook
from vnetd.service.naming import BRIDGE_TEMPLATE, random_mac
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.preview import preview, preview_borrowed
from vnetd.service.views import Added, Caller, LeaseView, NetworkView, SwitchView
from vnetd.xmlcodec.documents import Usage, network_to_json, network_to_xml, parse_network
from vnetd.xmlcodec.update import apply_update

log = logging.getLogger(__name__)


class NetworkService(DefinitionService[NetworkObject]):
    """Networks. Implements ``service.api.Networks``."""

    def __init__(self, loop: Loop, notices: Notices, around: Surroundings) -> None:
        super().__init__(NetworkObject, loop.host, notices)
        self.leases_of = LeaseBook(loop.host.dnsmasq, notices)
        self.activation = Activation(loop, self.objects, around)
        self.usage: Callable[[NetworkObject], Usage]
        self.detach_ports: Callable[[NetworkObject], Awaitable[tuple[str, ...]]]
        self.follow_ports: Callable[[NetworkObject], Awaitable[None]]
        self._loop = loop

    def list(self) -> tuple[NetworkView, ...]:
        """All networks, by name."""
        return tuple(network.view() for network in self.objects)

    def get(self, ref: str) -> NetworkView:
        """One network by name or UUID. Raises ``NotFound``."""
        return self.objects.get(ref).view()

    async def define(self, caller: Caller, document: str, options: Options) -> NetworkView:
        """Keep a network's document; a network that runs is changed at once, its guests stay attached.

        Raises ``Invalid`` for a bad document, ``Exists`` for a name, UUID or bridge another network has.
        """
        refuse_unknown(options, "lenient")
        network = await parse(parse_network, document, options)
        async with self._naming:
            known = self.objects.same_identity(network.name, network.uuid)
            network = self._complete(network, known)
            means = self.activation.check(network)
            if known is None:
                known = NetworkObject(uuid_of(network), network.name, definition=network, compiled=means)
                await self._add(known)
            else:
                await self._redefine(known, network)
        self._tell(caller, "defined", known)
        return known.view()

    async def create(self, caller: Caller, document: str, options: Options) -> NetworkView:
        """Start a network without keeping its document; an inactive defined one starts in this form.

        Raises what ``define`` and ``start`` raise; a network that could not start leaves nothing.
        """
        refuse_unknown(options, "lenient")
        network = await parse(parse_network, document, options)
        async with self._naming:
            known = self.objects.same_identity(network.name, network.uuid)
            if known and known.active:
                raise Busy(f"network {known.name} is active already")
            network = self._complete(network, known)
            means = self.activation.check(network)
            fresh = known or NetworkObject(uuid_of(network), network.name, live=network, compiled=means)
            if known is None:
                self.objects.add(fresh)
        try:
            async with fresh.lock:
                self.objects.refuse_gone(fresh)
                await self.activation.refuse_missing_uplink(network)
                await self.activation.start(fresh, network)
        except BaseException:
            if known is None:
                self.objects.remove(fresh)
            raise
        finally:
            if known is not None:
                self._changed(known)
        if known is None:
            self._notices.tell(Added("network", fresh.view()))
        self._tell(caller, "started", fresh)
        return fresh.view()

    async def start(self, caller: Caller, uuid: UUID, *, boot: bool = False) -> None:
        """Bring a defined network up. Raises ``Busy`` if it is, ``InUse`` naming who has its subnet or bridge.

        Raises ``NotFound`` for an uplink that is not there, except at ``boot``, when it may come later.
        """
        async with self._held(uuid) as network:
            definition = network.startable()
            try:
                if not boot:
                    await self.activation.refuse_missing_uplink(definition)
                await self.activation.start(network, definition)
            finally:
                self._changed(network)
        self._tell(caller, "started", network)

    async def stop(self, caller: Caller, uuid: UUID) -> None:
        """Take a network down with its ports; a transient one is gone then. Raises ``Busy`` if it is not active."""
        async with self._held(uuid) as network:
            if not network.active:
                raise Busy(f"network {network.name} is not active")
            failures = await self.detach_ports(network)
            with self._going_down(network):
                await self.activation.stop(network, forget=network.definition is None)
        self._tell(caller, "stopped", network)
        if failures:
            raise HostError("stop", network.name, "; ".join(failures))

    async def update(
        self, caller: Caller, uuid: UUID, command: str, section: str, document: str, options: Options
    ) -> None:
        """Change one section of a network: what runs, what is kept, or both.

        Options: ``live``, ``config`` (booleans; without either: what runs if it does, else what is kept) and
        ``parent_index``. Raises ``Busy`` if there is no such form, else what the document deserves.
        """
        refuse_unknown(options, "live", "config", "parent_index")
        live, config = boolean(options, "live"), boolean(options, "config")
        index = options.get("parent_index", -1)
        if not isinstance(index, int):
            raise Invalid(f"option parent_index is {index!r}: a number is needed")
        async with self._held(uuid) as network:
            if not live and not config:
                live, config = network.active, not network.active
            if live and network.live is None:
                raise Busy(f"network {network.name} is not active")
            if config and network.definition is None:
                raise Busy(f"network {network.name} is transient: it has no definition to change")
            changes = {
                name: apply_update(before, command, section, document, parent_index=index)
                for name, wanted, before in (("live", live, network.live), ("config", config, network.definition))
                if wanted and before
            }
            await self._commit_update(network, changes.get("live"), changes.get("config"))
        self._tell(caller, "updated", network)

    async def plan(self, caller: Caller, document: str, options: Options) -> str:
        """What defining and starting this document would do, as JSON; changes nothing."""
        refuse_unknown(options, "lenient")
        network = await parse(parse_network, document, options)
        known = self.objects.same_identity(network.name, network.uuid)
        network = self._complete(network, known)
        refuse_unrealised(network)
        self.activation.check(network)
        if not (known and known.active):
            await self.activation.refuse_clash(network)
        if not network.mode.has_bridge:
            return preview_borrowed(known, desired_borrowed(network))
        return await preview(self._loop, known, desired_network(network, self.activation.around))

    def describe(self, uuid: UUID, format: str, options: Options) -> str:
        """The document of a network as ``xml`` or ``json``: of what runs, or with ``inactive`` of what is kept."""
        refuse_unknown(options, "inactive")
        network = self.objects.find(uuid)
        inactive = boolean(options, "inactive")
        form = network.form(inactive=inactive)
        refuse_format(format, "xml", "json")
        if format == "json":
            return network_to_json(form)
        return network_to_xml(form, None if inactive else self.usage(network))

    async def set_leases(self, caller: Caller, uuid: UUID, rows: Sequence[Options]) -> None:
        """Give a network that is not active the leases another server gave, besides its own; its own go before.

        Raises ``Invalid`` for leases that make no sense here, ``Busy`` while it is active.
        """
        async with self._held(uuid) as network:
            if network.active or network.definition is None:
                raise Busy(f"network {network.name} is active: leases can be given to it while it is stopped")
            await self.leases_of.give(network.definition, uuid, rows)
        log.info("network %s was given %d leases by uid %d", network.name, len(rows), caller.uid)

    async def leases(self, uuid: UUID) -> tuple[LeaseView, ...]:
        """Leases that have not expired; also of a network that is stopped."""
        return await self.leases_of.read(self.objects.find(uuid).current, uuid)

    def _complete(self, network: Network, known: NetworkObject | None) -> Network:
        """With everything that was left open: uuid, MAC, bridge name; kept from the object's earlier form."""
        updates: dict[str, object] = {} if network.uuid else {"uuid": uuid4()}
        if not network.mode.has_bridge:
            return network.model_copy(update=updates)
        before = known.current if known else None
        if network.mac is None:
            updates["mac"] = before.mac if before and before.mac else random_mac()
        name = self._bridge_name(network.bridge.name, known, BRIDGE_TEMPLATE)
        updates["bridge"] = network.bridge.model_copy(update={"name": name})
        return network.model_copy(update=updates)

    async def _redefine(self, known: NetworkObject, network: Network) -> None:
        async with known.lock:
            self.objects.refuse_gone(known)
            await self._commit_update(known, network if known.live else None, network)

    async def _commit_update(self, known: NetworkObject, live: Network | None, config: Network | None) -> None:
        """Both forms change or neither does: the document that cannot be realised is taken back."""
        before = known.definition
        if config:
            known.compiled = self.activation.check(config)
            await self._keep(known, config)
        if live:
            try:
                await self.activation.change(known, live)
            except BaseException as failure:
                if config:
                    await self._take_back(known, before, failure)
                self._changed(known)  # what was repaired on the way was told with the form it was to have
                raise
            await self.follow_ports(known)
        self._changed(known)

    async def _clear_away(self, network: NetworkObject) -> None:
        try:
            await self._loop.host.dnsmasq.stop(str(network.uuid), forget=True)
        except VnetError as error:  # the network is gone all the same
            log.warning("leases of network %s could not be removed: %s", network.name, error)

    def _forget(self, network: NetworkObject, last: NetworkView | SwitchView) -> None:
        self.leases_of.forget(network.uuid)
        super()._forget(network, last)
