"""Use cases of switches: define, start, stop, change, confirm, describe."""

import logging
from collections.abc import Callable
from uuid import UUID, uuid4

from vnetd.model.errors import Busy, InUse, Invalid, NotConfirmed, VnetError
from vnetd.model.switch import Switch
from vnetd.reconcile.desired_switch import desired_switch
from vnetd.reconcile.loop import Loop
from vnetd.service.api import Options
from vnetd.service.definitions import DefinitionService
from vnetd.service.documents import boolean, parse, refuse_format, refuse_unknown, uuid_of
from vnetd.service.notices import Notices
from vnetd.service.switch_activation import SwitchActivation
from vnetd.service.switch_confirmation import Confirmations, confirm_option
from vnetd.service.switch_object import Pending, SwitchObject
from vnetd.service.views import Added, Caller, LifecycleEvent, SwitchView
from vnetd.xmlcodec.documents import parse_switch, switch_to_json

log = logging.getLogger(__name__)

BRIDGE_TEMPLATE = "switch%d"


class SwitchService(DefinitionService[SwitchObject]):
    """Switches. Implements ``service.api.Switches``. ``ports_on`` goes by bridge."""

    def __init__(self, loop: Loop, notices: Notices) -> None:
        super().__init__(SwitchObject, loop.host, notices)
        self.activation = SwitchActivation(loop)
        self.confirmations = Confirmations(loop.host.kernel, self._lapse)
        self.ports_on: Callable[[str], tuple[UUID, ...]] = lambda _: ()

    def list(self) -> tuple[SwitchView, ...]:
        """All switches, by name."""
        return tuple(switch.view() for switch in self.objects)

    def get(self, ref: str) -> SwitchView:
        """One switch by name or UUID. Raises ``NotFound``."""
        return self.objects.get(ref).view()

    async def define(self, caller: Caller, document: str, options: Options) -> SwitchView:
        """Keep a switch's document; a switch that runs is changed at once.

        With ``confirm`` the change of one that runs is taken back after so many seconds unless ``confirm`` is called,
        and kept only then. Raises ``Invalid`` for a bad document, ``Exists`` for a name or UUID another switch has,
        ``InUse`` for a bridge that is taken.
        """
        refuse_unknown(options, "lenient", "confirm")
        seconds = confirm_option(options)
        switch = await parse(parse_switch, document, options)
        async with self._naming:
            known = self.objects.same_identity(switch.name, switch.uuid)
            switch = self._complete(switch, known)
            if known is None:
                known = await self._define_new(switch, seconds)
            else:
                async with known.lock:
                    self.objects.refuse_gone(known)
                    await self._redefine(known, switch, seconds)
        self._tell(caller, "defined", known)
        return known.view()

    async def create(self, caller: Caller, document: str, options: Options) -> SwitchView:
        """Start a switch without keeping its document; options as for ``start``. Raises what that raises."""
        refuse_unknown(options, "lenient", "confirm")
        seconds = confirm_option(options)
        switch = await parse(parse_switch, document, options)
        async with self._naming:
            if self.objects.same_identity(switch.name, switch.uuid):
                raise Busy(f"switch {switch.name} is defined: start it, or undefine it first")
            switch = self._complete(switch, None)
            fresh = SwitchObject(uuid_of(switch), switch.name, live=switch)
            self.objects.add(fresh)
        try:
            async with fresh.lock:
                await self._start(fresh, switch, seconds)
        except BaseException:
            if fresh.active:  # something could not be undone: it stays, to be stopped
                self._notices.tell(Added("switch", fresh.view()))
            else:
                self.objects.remove(fresh)
            raise
        self._notices.tell(Added("switch", fresh.view()))
        self._tell(caller, "started", fresh)
        return fresh.view()

    async def start(self, caller: Caller, uuid: UUID, options: Options, *, boot: bool = False) -> None:
        """Bring a defined switch up. With ``confirm`` it is taken down again after so many seconds, and everything is
        as before, unless ``confirm`` is called; until then it does not start with the host.

        Raises ``Busy`` if it is up, ``NotFound`` for an uplink that is not there, except at ``boot``, when it may come
        later, ``InUse`` for one that belongs to another bridge, ``Unsupported`` for what the kernel cannot do.
        """
        refuse_unknown(options, "confirm")
        seconds = confirm_option(options)
        async with self._held(uuid) as switch:
            definition = switch.startable()
            try:
                await self._mark(switch, unconfirmed=seconds > 0)
                await self._start(switch, definition, seconds, boot)
            finally:
                self._changed(switch)
        self._tell(caller, "started", switch)

    async def stop(self, caller: Caller, uuid: UUID) -> None:
        """Take a switch down and put its uplinks back; a transient one is gone then. ``Busy`` if it is not active.

        Raises ``InUse`` while ports are on it.
        """
        async with self._held(uuid) as switch:
            if not switch.active:
                raise Busy(f"switch {switch.name} is not active")
            if switch.ports:
                raise InUse(f"switch {switch.name} has {len(switch.ports)} ports: stop the networks on it first")
            await self._take_down(switch, restore=False)
        self._tell(caller, "stopped", switch)

    async def confirm(self, caller: Caller, uuid: UUID) -> None:
        """Keep the change that waits for it. Raises ``NotConfirmed`` if it was too late, ``Busy`` if nothing waits."""
        async with self._held(uuid) as switch:
            pending = switch.pending
            if pending is None:
                if switch.lapsed:
                    raise NotConfirmed(
                        f"switch {switch.name} was not confirmed in time: everything is as it was before"
                    )
                raise Busy(f"nothing of switch {switch.name} waits to be confirmed")
            self.confirmations.forget(switch)
            try:
                switch.pending = None
                await self.activation.record(switch)
                await self._keep_confirmed(switch, pending)
            except VnetError:
                switch.pending = pending
                self.confirmations.watch(switch)
                raise
            self._changed(switch)
        self._tell(caller, "confirmed", switch)

    async def plan(self, caller: Caller, document: str, options: Options) -> str:
        """What defining and starting this document would do, as JSON; changes nothing. Raises what these would."""
        refuse_unknown(options, "lenient")
        switch = await parse(parse_switch, document, options)
        known = self.objects.same_identity(switch.name, switch.uuid)
        switch = self._complete(switch, known)
        _refuse_another_bridge(known, switch)
        return await self.activation.preview(known, switch)

    def describe(self, uuid: UUID, format: str, options: Options) -> str:
        """The document of a switch as ``json``: of what runs, or with ``inactive`` of what is kept."""
        refuse_unknown(options, "inactive")
        switch = self.objects.find(uuid)
        form = switch.form(inactive=boolean(options, "inactive"))
        refuse_format(format, "json")
        return switch_to_json(form)

    def recount(self) -> None:
        """Note which ports are on which switch, and what uplinks are to carry for them; changes nothing."""
        for known in self.objects:
            known.ports = self.ports_on(known.current.bridge or "") if known.active else ()
            self.activation.expect(known)

    async def follow_ports(self) -> None:
        """Have uplinks carry the VLANs of the ports that are there now."""
        for known in tuple(self.objects):
            ports = self.ports_on(known.current.bridge or "") if known.active else ()
            if known.ports != ports:
                known.ports = ports
                self._changed(known)
            await self.activation.follow(known)

    async def resume(self, known: SwitchObject) -> None:
        """Go on waiting for a confirmation that an earlier run of the daemon waited for; or it is too late."""
        if known.pending and await self.confirmations.overdue(known.pending):
            await self._lapse(known)
        else:
            self.confirmations.watch(known)

    async def finish_stop(self, known: SwitchObject) -> None:
        """End a stop that the end of the daemon interrupted."""
        async with known.lock:
            await self._take_down(known, restore=False)

    async def _start(self, known: SwitchObject, switch: Switch, seconds: int, boot: bool = False) -> None:
        known.lapsed = False
        # On record with the first step: whatever happens from now on, the time runs.
        known.pending = await self.confirmations.pending(seconds, None, None)
        await self.activation.start(known, switch, early=boot)
        self.confirmations.watch(known)

    async def _take_down(self, switch: SwitchObject, *, restore: bool) -> None:
        self.confirmations.forget(switch)
        with self._going_down(switch):
            await self.activation.stop(switch, restore=restore)

    async def _lapse(self, known: SwitchObject) -> None:
        """Take back what nobody confirmed."""
        async with known.lock:
            pending = known.pending
            if pending is None or self.objects.by_uuid(known.uuid) is not known:
                return
            log.warning("switch %s was not confirmed in time: everything goes back to what it was", known.name)
            if pending.before is None:
                await self._take_down(known, restore=True)
            else:
                await self.activation.change(known, pending.before)
                known.pending = None
                await self.activation.record(known)
            known.lapsed = True
            self._notices.tell(LifecycleEvent("reverted", "switch", known.uuid, known.name))
            if known.active or known.definition:
                self._changed(known)

    async def _keep_confirmed(self, switch: SwitchObject, pending: Pending) -> None:
        if pending.after:
            switch.definition = pending.after
        elif not switch.unconfirmed:
            return
        switch.unconfirmed = False
        if switch.definition:
            await self._save(switch)

    async def _define_new(self, switch: Switch, seconds: int) -> SwitchObject:
        if seconds:
            raise Invalid(f"switch {switch.name} does not run: there is nothing to confirm before it is started")
        known = SwitchObject(uuid_of(switch), switch.name, definition=switch)
        await self._add(known)
        return known

    async def _redefine(self, known: SwitchObject, switch: Switch, seconds: int) -> None:
        if known.pending:
            raise Busy(f"a change of switch {known.name} waits to be confirmed: confirm it, or wait until it is undone")
        if not known.active:
            if seconds:
                raise Invalid(f"switch {known.name} does not run: there is nothing to confirm before it is started")
            await self._keep(known, switch)
            self._changed(known)
            return
        _refuse_another_bridge(known, switch)
        await self.activation.mend(known)
        before, kept = known.live, known.definition
        if seconds:
            known.pending = await self.confirmations.pending(seconds, before, switch)
        else:
            await self._keep(known, switch)
        known.lapsed = False
        try:
            await self.activation.change(known, switch)
        except BaseException as failure:
            known.pending = None
            await self._take_back(known, kept, failure)
            await self.activation.record(known)
            raise
        self.confirmations.watch(known)
        self._changed(known)

    async def _mark(self, switch: SwitchObject, *, unconfirmed: bool) -> None:
        if switch.unconfirmed != unconfirmed:
            switch.unconfirmed = unconfirmed
            await self._save(switch)

    def _complete(self, switch: Switch, known: SwitchObject | None) -> Switch:
        """With uuid and bridge name; raises for what can never be realised and for a bridge that is taken."""
        updates: dict[str, object] = {} if switch.uuid else {"uuid": known.uuid if known else uuid4()}
        updates["bridge"] = self._bridge_name(switch.bridge, known, BRIDGE_TEMPLATE)
        complete = switch.model_copy(update=updates)
        desired_switch(complete)
        return complete


def _refuse_another_bridge(known: SwitchObject | None, switch: Switch) -> None:
    """Raise ``Busy`` if a switch that runs would have to be on another bridge."""
    if known and known.active and switch.bridge != known.current.bridge:
        raise Busy(f"switch {known.name} is active: stop it to change its bridge name")
