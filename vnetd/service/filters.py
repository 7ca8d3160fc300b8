"""Use cases of filters: define, bind to devices, change while in use."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from uuid import UUID, uuid4

from vnetd.model.capability import refusal
from vnetd.model.errors import Exists, InUse, Invalid, NotFound, Unsupported
from vnetd.model.filter import Filter
from vnetd.model.port import BindingRecord
from vnetd.packets.sightings import Address
from vnetd.plan.links import Link
from vnetd.plan.rules import Fragment
from vnetd.reconcile.bound_device import BoundDeviceTarget, entrance_owner, filterable
from vnetd.reconcile.loop import Loop
from vnetd.ruleset.filter import check_definition, references
from vnetd.ruleset.unbridged import entrance
from vnetd.service.api import Options
from vnetd.service.binding_object import BINDINGS, UNFILTERABLE, binding_owner, binding_record, binding_view, bound_by
from vnetd.service.documents import parse, refuse_format, refuse_unknown, uuid_of
from vnetd.service.filter_uses import Bound, compile_use, pupil_of
from vnetd.service.learning import AddressLearning
from vnetd.service.notices import Notices
from vnetd.service.registry import Registry
from vnetd.service.views import Added, BindingView, Caller, Changed, FilterView, LifecycleEvent, Removed
from vnetd.xmlcodec.documents import filter_to_json, filter_to_xml, parse_filter
from vnetd.xmlcodec.filter_builtin import builtin_filters

log = logging.getLogger(__name__)

DEFINITIONS = "etc/filters"


@dataclass(frozen=True, slots=True)
class FilterObject:
    """A filter and its UUID; ``builtin`` ones are not in the store until they are redefined."""

    uuid: UUID
    name: str
    filter: Filter
    builtin: bool = False


class FilterService:
    """Filters and bindings. Implements ``service.api.Filters``."""

    def __init__(self, loop: Loop, notices: Notices) -> None:
        self.objects: Registry[FilterObject] = Registry("filter")
        self.users: dict[str, Bound] = {}
        self._compiled: tuple[object, Fragment] | None = None  # the last, for a port is compiled twice in a row
        """Every use of a filter, by owner in the ruleset: ports and bindings."""
        self.changing = asyncio.Lock()
        """Held from reading filters until what was made of them is in force, or a filter that changes meanwhile
        would be undone."""
        self.switched: Callable[[], None] = lambda: None
        """Called after users of a redefined filter were switched over."""
        self.learning = AddressLearning(loop, self._relearned)
        self.learning.trusting(lambda device: any(bound.device == device for bound in self.users.values()))
        self._bindings: dict[UUID, BindingRecord] = {}
        self._entrances: dict[UUID, BoundDeviceTarget] = {}
        self._loop = loop
        self._notices = notices
        for name, filter in builtin_filters().items():
            self.objects.add(FilterObject(uuid_of(filter), name, filter, builtin=True))

    def list(self) -> tuple[FilterView, ...]:
        """All filters, by name."""
        return tuple(self._view(one) for one in self.objects)

    def get(self, ref: str) -> FilterView:
        """One filter by name or UUID. Raises ``NotFound``."""
        return self._view(self.objects.get(ref))

    async def define(self, caller: Caller, document: str, options: Options) -> FilterView:
        """Keep a filter. If it is in use all its users change over in one transaction, or none does.

        Raises ``Invalid`` for a bad document or one that some user cannot take, naming that device; ``Exists`` if
        name and UUID belong to different filters.
        """
        refuse_unknown(options, "lenient")
        filter = await parse(parse_filter, document, options)
        async with self.changing:
            known = self._same_identity(filter)
            if filter.uuid is None:
                filter = filter.model_copy(update={"uuid": uuid4()})
            fresh = FilterObject(uuid_of(filter), filter.name, filter)
            await self._change(known, fresh)
        self._notices.tell(Changed("filter", self._view(fresh)) if known else Added("filter", self._view(fresh)))
        self._tell(caller, "defined", fresh)
        return self._view(fresh)

    async def undefine(self, caller: Caller, uuid: UUID) -> None:
        """Drop a filter. Raises ``InUse`` naming the devices and filters that need it."""
        async with self.changing:
            one = self.objects.find(uuid)
            await self._undefine(one)
        self._tell(caller, "undefined", one)

    async def _undefine(self, one: FilterObject) -> None:
        users = [bound.device for bound in self._users_of(one.name)]
        if users:
            raise InUse(f"filter {one.name} is in use by {', '.join(sorted(users))}: unbind it there first")
        await self._loop.host.store.delete(DEFINITIONS, one.name)
        last = self._view(one)
        self.objects.remove(one)
        if builtin := builtin_filters().get(one.name):
            self.objects.add(FilterObject(uuid_of(builtin), builtin.name, builtin, builtin=True))
        self._notices.tell(Removed("filter", last))

    async def _change(self, known: FilterObject | None, fresh: FilterObject) -> None:
        """Users first, for one may not be able to take it; if it cannot be kept, they change back."""
        check_definition(self.mapping(), fresh.filter)
        await self._switch_users(fresh.filter)
        try:
            document = fresh.filter.model_dump(mode="json", by_alias=True)
            await self._loop.host.store.save(DEFINITIONS, fresh.name, document)
        except BaseException:
            if known:
                await self._switch_users(known.filter)
            raise
        if known:
            self.objects.remove(known)
        self.objects.add(fresh)

    def describe(self, uuid: UUID, format: str, options: Options) -> str:
        """The document of a filter as ``xml`` or ``json``."""
        refuse_unknown(options)
        filter = self.objects.find(uuid).filter
        refuse_format(format, "xml", "json")
        return filter_to_xml(filter) if format == "xml" else filter_to_json(filter)

    def bindings(self) -> tuple[BindingView, ...]:
        """All bindings, by device."""
        return tuple(binding_view(one) for one in sorted(self._bindings.values(), key=lambda one: one.device))

    def binding(self, ref: str) -> BindingView:
        """One binding by UUID or device. Raises ``NotFound``."""
        for one in self._bindings.values():
            if ref in {one.device, str(one.uuid)}:
                return binding_view(one)
        raise NotFound(f"there is no binding {ref!r}")

    async def bind(
        self, caller: Caller, device: str, filter: str, parameters: Mapping[str, Sequence[str]]
    ) -> BindingView:
        """Filter a device vnetd did not make. A port of a bridge need not be there yet: its rules wait for its name.

        Raises ``Exists`` if it is bound, ``InUse`` if it is a port of vnetd, ``Unsupported`` for a kind of device
        that is never a bridge port, ``Invalid`` for what the filter cannot be given.
        """
        record = binding_record(device, filter, parameters)
        async with self.changing:
            await self._bind(record)
        log.info("filter %s bound to %s by uid %d (pid %d)", filter, device, caller.uid, caller.pid)
        self._notices.tell(Added("binding", binding_view(record)))
        return binding_view(record)

    async def _bind(self, record: BindingRecord) -> None:
        owner, device = binding_owner(record.uuid), record.device
        if device in self._loop.devices.names():
            raise InUse(f"device {device} belongs to vnetd: set the filter of its port")
        if any(bound.device == device for bound in self.users.values()):
            raise Exists(f"device {device} has a filter already: remove it first")
        link = await self._loop.host.kernel.link(device)
        if link and link.kind in UNFILTERABLE:
            raise Unsupported(f"device {device} is a {link.kind}: only ports of a bridge and macvtaps can be filtered")
        if link and filterable(link):
            record = record.model_copy(update={"bridged": False})
        bound = bound_by(record)
        fragments = self._fragments(record, link)
        self.use(bound)
        try:
            await self._loop.host.store.save(BINDINGS, str(record.uuid), record.model_dump(mode="json"))
            await self._loop.rules.put(fragments)
        except BaseException:
            self.unuse(owner)
            await self._loop.host.store.delete(BINDINGS, str(record.uuid))
            raise
        self._keep(record, link)

    def _fragments(self, record: BindingRecord, link: Link | None) -> dict[str, Fragment]:
        """The rules of a binding by owner; those at the device itself only if that is there."""
        fragments = {binding_owner(record.uuid): self.compile(bound_by(record))}
        if link and not record.bridged:
            fragments[entrance_owner(str(record.uuid))] = entrance(record.device)
        return fragments

    def _keep(self, record: BindingRecord, link: Link | None) -> None:
        self._bindings[record.uuid] = record
        if not record.bridged:
            index = link.index if link else 0
            self._entrances[record.uuid] = BoundDeviceTarget(self._loop, str(record.uuid), record.device, index)

    async def unbind(self, caller: Caller, uuid: UUID) -> None:
        """Remove a binding and its rules. Raises ``NotFound``."""
        async with self.changing:
            record = self._bindings.get(uuid)
            if record is None:
                raise NotFound(f"there is no binding {uuid}")
            await self._unbind(record)
        log.info("filter %s unbound from %s by uid %d (pid %d)", record.filter, record.device, caller.uid, caller.pid)
        self._notices.tell(Removed("binding", binding_view(record)))

    async def _unbind(self, record: BindingRecord) -> None:
        """Its record goes first: what is left after a crash in between is removed with what nobody wants."""
        owner, uuid = binding_owner(record.uuid), str(record.uuid)
        await self._loop.host.store.delete(BINDINGS, uuid)
        if target := self._entrances.pop(record.uuid, None):
            await target.end()
        try:
            await self._loop.rules.put({owner: None, entrance_owner(uuid): None})
        except BaseException:
            self._keep(record, None)
            await self._loop.host.store.save(BINDINGS, uuid, record.model_dump(mode="json"))
            raise
        del self._bindings[record.uuid]
        self.unuse(owner)

    async def restore(self, record: BindingRecord) -> dict[str, Fragment]:
        """Take over a binding of an earlier run; returns its rules by owner."""
        link = await self._loop.host.kernel.link(record.device)
        fragments = self._fragments(record, link)
        self._keep(record, link)
        self.use(bound_by(record))
        return fragments

    def use(self, bound: Bound) -> None:
        """Note that a filter is in force on a device; what its guest's packets tell is learned from now on."""
        self.users[bound.owner] = bound
        self.learning.watch(bound, pupil_of(self.mapping(), bound))

    def unuse(self, owner: str) -> None:
        """Note that it is not any more."""
        if self.users.pop(owner, None):
            self.learning.forget(owner)

    def addresses(self, bound: Bound, version: int) -> tuple[Address, ...]:
        """What is known of a guest's addresses of one IP version: given, or learned."""
        given = bound.parameters.get("IP" if version == 4 else "IPV6", ())
        if given:
            return tuple(ip_address(one) for one in given)
        pupil = pupil_of(self.mapping(), bound)
        learned = bool(pupil and version in pupil.families)
        return pupil.addresses(self.learning.addresses(bound.owner), version) if pupil and learned else ()

    def compile(self, bound: Bound) -> Fragment:
        """The rules of a filter on a device. Raises ``Invalid`` or ``Unsupported`` saying what stands against it."""
        asked = (self.objects.version, bound, self.learning.known(bound))
        if self._compiled is None or self._compiled[0] != asked:
            self._compiled = asked, self._compile(self.mapping(), bound)
        return self._compiled[1]

    def mapping(self) -> Mapping[str, Filter]:
        """All filters by name, as the compiler takes them."""
        return {one.name: one.filter for one in self.objects.unordered()}

    def _compile(self, filters: Mapping[str, Filter], bound: Bound) -> Fragment:
        if (problem := self._loop.host.packets.problem) and pupil_of(filters, bound):
            what = f"filter {bound.filter} without its guest's addresses"
            raise refusal(what, "packet-log", problem, "give them as parameters (IP, IPV6)")
        return compile_use(filters, bound, self.learning.known(bound), self._loop.host.nft.features)

    async def _relearned(self, owner: str) -> None:
        """Put a guest's other addresses in force."""
        async with self.changing:
            if bound := self.users.get(owner):
                await self._loop.rules.put({owner: self.compile(bound)})
                self.switched()

    async def _switch_users(self, filter: Filter) -> None:
        filters = {**self.mapping(), filter.name: filter}
        changes = {}
        for owner, bound in self.users.items():
            if bound.filter == filter.name or filter.name in references(filters, bound.filter):
                try:
                    changes[owner] = self._compile(filters, bound)
                except (Invalid, Unsupported) as error:
                    raise Invalid(
                        f"filter {filter.name} is in use by {bound.device}, which cannot take it: {error}"
                    ) from None
        if changes:
            await self._loop.rules.put(changes)
            self.switched()
        for owner in changes:
            self.learning.watch(self.users[owner], pupil_of(filters, self.users[owner]))

    def _users_of(self, name: str) -> Sequence[Bound]:
        filters = self.mapping()
        return [b for b in self.users.values() if b.filter == name or name in references(filters, b.filter)]

    def _same_identity(self, filter: Filter) -> FilterObject | None:
        """What ``filter`` is a new form of; of a builtin one also without its UUID, or with another that is free."""
        known = self.objects.by_name(filter.name)
        if known and known.builtin and (filter.uuid is None or self.objects.by_uuid(filter.uuid) in (None, known)):
            return known
        return self.objects.same_identity(filter.name, filter.uuid)

    def _view(self, one: FilterObject) -> FilterView:
        return FilterView(one.uuid, one.name, tuple(sorted(bound.device for bound in self._users_of(one.name))))

    def _tell(self, caller: Caller, kind: str, one: FilterObject) -> None:
        log.info("filter %s %s by uid %d (pid %d)", one.name, kind, caller.uid, caller.pid)
        self._notices.tell(LifecycleEvent(kind, "filter", one.uuid, one.name))
