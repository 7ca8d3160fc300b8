"""What networks and switches have in common: a document that is kept, a form of it that runs, a bridge of their own."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

from vnetd.host.protocols import Host
from vnetd.model.errors import Busy, InUse, VnetError
from vnetd.reconcile.devices import numbered
from vnetd.service.naming import free_name
from vnetd.service.notices import Notices
from vnetd.service.registry import Registry
from vnetd.service.views import Added, Caller, Changed, LifecycleEvent, NetworkView, Removed, SwitchView

log = logging.getLogger(__name__)

D = TypeVar("D")


@dataclass(eq=False, slots=True)
class DefinedObject(ABC, Generic[D]):
    """``definition`` is what the user keeps, ``live`` what is realised now; at least one of them is there.

    ``lock`` serialises the use cases on this object. ``kind`` is also the word for error messages, ``folder`` where
    the store keeps definitions.
    """

    kind: ClassVar[Literal["network", "switch"]]
    folder: ClassVar[str]

    uuid: UUID
    name: str
    definition: D | None = None
    live: D | None = None
    autostart: bool = False
    state: str = "inactive"
    problem: str = ""
    healed: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def current(self) -> D:
        """The live form if active, else the definition."""
        current = self.live or self.definition
        assert current is not None, f"{self.kind} {self.name} has neither definition nor live state"
        return current

    @property
    def active(self) -> bool:
        """Whether it is, or is to be, realised."""
        return self.live is not None

    def startable(self) -> D:
        """What a start brings up. Raises ``Busy`` if it is up."""
        if self.active or self.definition is None:
            raise Busy(f"{self.kind} {self.name} is active already")
        return self.definition

    def form(self, *, inactive: bool) -> D:
        """What runs, else what is kept; with ``inactive`` what is kept. Raises ``Busy`` if nothing is."""
        if not inactive:
            return self.current
        if self.definition is None:
            raise Busy(f"{self.kind} {self.name} is transient: it has no definition")
        return self.definition

    def bridges(self) -> Iterator[str]:
        """The bridges it has made, or makes once started."""
        for form in (self.live, self.definition):
            if form and (bridge := self.made_bridge(form)):
                yield bridge

    @staticmethod
    @abstractmethod
    def made_bridge(form: D) -> str | None:
        """The bridge that is made for this form, if any."""

    @abstractmethod
    def view(self) -> NetworkView | SwitchView:
        """As callers see it."""

    @abstractmethod
    def definition_document(self) -> Mapping[str, object]:
        """What is kept below /etc."""


K = TypeVar("K", bound=DefinedObject[Any])


class DefinitionService(Generic[K]):
    """Use cases that networks and switches share, and the steps of the others.

    ``bridges_elsewhere``: owners of bridges by name, of the other kind.
    """

    def __init__(self, kind: type[K], host: Host, notices: Notices) -> None:
        self.objects: Registry[K] = Registry(kind.kind)
        self.bridges_elsewhere: Callable[[], dict[str, str]] = dict
        self._host = host
        self._store = host.store
        self._notices = notices
        self._naming = asyncio.Lock()

    async def undefine(self, caller: Caller, uuid: UUID) -> None:
        """Drop a document; what is active goes on as a transient one. Raises ``Busy`` for what is transient."""
        async with self._held(uuid) as known:
            if known.definition is None:
                raise Busy(f"{known.kind} {known.name} is transient: it has no definition to drop")
            last = known.view()
            await self._store.delete(known.folder, known.name)
            known.autostart = False
            if known.active:
                known.definition = None
                self._changed(known)
            else:
                await self._clear_away(known)
                self._forget(known, last)
        self._tell(caller, "undefined", known)

    async def set_autostart(self, caller: Caller, uuid: UUID, enabled: bool) -> None:
        """Whether it starts with the host. Raises ``Busy`` for a transient one."""
        async with self._held(uuid) as known:
            if known.definition is None:
                raise Busy(f"{known.kind} {known.name} is transient: only a defined one can start with the host")
            known.autostart, before = enabled, known.autostart
            try:
                await self._save(known)
            except VnetError:
                known.autostart = before
                raise
        self._changed(known)
        log.info("autostart of %s %s set to %s by uid %d", known.kind, known.name, enabled, caller.uid)

    def bridges(self, apart_from: K | None = None) -> dict[str, str]:
        """Owners, as ``network NAME``, by the bridges they have made, or make once started."""
        return {
            bridge: f"{known.kind} {known.name}"
            for known in self.objects
            if known is not apart_from
            for bridge in known.bridges()
        }

    def _bridge_name(self, asked: str | None, known: K | None, template: str) -> str:
        """The bridge a document gets: the one it names, else the one its object has, else the next that is free.

        ``asked`` may be a template itself. Raises ``InUse`` for a bridge another owner has.
        """
        taken = self.bridges(apart_from=known) | self.bridges_elsewhere()
        name = asked or (known.made_bridge(known.current) if known else None)
        if name is None or "%d" in name:
            names = (one for _, one in numbered(name or template) if one not in taken)
            return free_name(name or template, names, self._host.kernel.is_taken)
        if owner := taken.get(name):
            raise InUse(f"bridge {name} belongs to {owner} already: choose another bridge name")
        return name

    @asynccontextmanager
    async def _held(self, uuid: UUID) -> AsyncIterator[K]:
        """The object with its lock held. Raises ``NotFound``, also if it went while its lock was waited for."""
        known = self.objects.find(uuid)
        async with known.lock:
            self.objects.refuse_gone(known)
            yield known

    async def _add(self, fresh: K) -> None:
        """Keep a definition that is new."""
        await self._save(fresh)
        self.objects.add(fresh)
        self._notices.tell(Added(fresh.kind, fresh.view()))

    async def _keep(self, known: K, definition: object) -> None:
        """Keep another definition, or if it cannot be saved the one that was there."""
        before, known.definition = known.definition, definition
        try:
            await self._save(known)
        except BaseException:
            known.definition = before
            raise

    async def _take_back(self, known: K, before: object | None, failure: BaseException) -> None:
        """Keep again what was kept before ``failure``, which is told if that fails as well."""
        known.definition = before
        try:
            if before:
                await self._save(known)
            else:
                await self._store.delete(known.folder, known.name)
        except VnetError as error:
            failure.add_note(f"and taking back the definition failed: {error}")

    async def _save(self, known: K) -> None:
        await self._store.save(known.folder, known.name, known.definition_document())

    @contextmanager
    def _going_down(self, known: K) -> Iterator[None]:
        """Around what takes it off the host: shows how that ended, and forgets a transient one."""
        last = known.view()
        try:
            yield
        finally:
            if known.active or known.definition:
                self._changed(known)
        if known.definition is None:
            self._forget(known, last)

    async def _clear_away(self, known: K) -> None:
        """Remove what a stopped object has left on the host, for it goes; never fails."""

    def _forget(self, known: K, last: NetworkView | SwitchView) -> None:
        self.objects.remove(known)
        self._notices.tell(Removed(known.kind, last))

    def _changed(self, known: K) -> None:
        self._notices.tell(Changed(known.kind, known.view()))

    def _tell(self, caller: Caller, what: str, known: K) -> None:
        log.info("%s %s %s by uid %d (pid %d)", known.kind, known.name, what, caller.uid, caller.pid)
        self._notices.tell(LifecycleEvent(what, known.kind, known.uuid, known.name))
