"""How a switch becomes active and inactive: the transaction around its target."""

import logging
from collections.abc import Callable

from vnetd.host.requirements import require
from vnetd.model.errors import VnetError
from vnetd.model.switch import Switch
from vnetd.plan.switch import DesiredSwitch
from vnetd.reconcile.absent import Absent
from vnetd.reconcile.desired_switch import desired_switch
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.switch import SwitchTarget
from vnetd.reconcile.switch_memory import Memory
from vnetd.service.clock import boottime
from vnetd.service.naming import random_mac
from vnetd.service.switch_object import RUNNING, SwitchObject, SwitchRecord
from vnetd.service.switch_preview import SwitchPreview

log = logging.getLogger(__name__)


class SwitchActivation:
    """Starts, changes and stops switches on the host; called with the switch's ``lock`` held.

    ``carried`` tells the VLANs of the ports on a bridge.
    """

    def __init__(self, loop: Loop) -> None:
        self.carried: Callable[[str], frozenset[int]] = lambda _: frozenset()
        self._loop = loop

    async def start(self, known: SwitchObject, switch: Switch, *, early: bool = False) -> None:
        """Realise ``switch`` as the live form of ``known``; on failure all is as before and the error is raised.

        ``early``: the host is starting, and uplinks that are not there yet are waited for.
        """
        known.live = switch = await self._resolved(switch)
        known.state, known.problem = "starting", ""
        target = self._target(known, switch)
        try:
            await self._refuse_unable(switch)
            async with target.lock:
                await target.remember(early=early)
                self._watch(target)
                await target.bring_up(early=early)
        except Absent as problem:
            known.problem = str(problem)
        except BaseException as failure:
            await self._give_up(known, failure)
            raise
        known.state = "active"
        self._loop.healer.add(target)
        self._show_problem(known, target)

    def resume(self, known: SwitchObject, record: SwitchRecord) -> None:
        """Take over a switch an earlier run of the daemon left active; changes nothing."""
        known.live, known.pending = record.switch, record.pending
        target = self._target(known, record.switch)
        memory = target.memory
        memory.sysctls, memory.formers = dict(record.sysctls), dict(record.formers)
        memory.before, memory.latest, memory.move = record.before, record.latest, record.move
        known.state = "active"
        self._watch(target)
        self._loop.healer.add(target)

    async def mend(self, known: SwitchObject) -> None:
        """Have repaired what has drifted of it, before somebody changes it: as drift, and no part of the change."""
        if target := known.target:
            async with target.lock:
                await self._loop.healer.mend(target.key)

    async def change(self, known: SwitchObject, switch: Switch) -> None:
        """Turn the running switch into this form; raises and stays as it was if that fails."""
        target, before = known.target, known.live
        assert target is not None and before is not None
        await self._refuse_unable(switch)
        known.live = await self._resolved(switch, before)
        try:
            async with target.lock:
                await self.record(known)
                await target.change(self._desired(known.live))
            self._show_problem(known, target)
        except BaseException:
            known.live = before
            await self.record(known)
            raise
        finally:
            self._loop.devices.release(target.key)
            self._watch(target)

    async def preview(self, known: SwitchObject | None, switch: Switch) -> str:
        """What giving ``known`` this form, or starting it, would do, as JSON (``SwitchPreview``); changes nothing."""
        await self._refuse_unable(switch)
        live = known.live if known else None
        desired = self._desired(await self._resolved(switch, live))
        return await SwitchPreview(self._loop, known.target if known and live else None, desired).document()

    def expect(self, known: SwitchObject) -> None:
        """Have it wanted that its uplinks carry what its ports need now, without acting on it."""
        if known.target and known.live:
            known.target.desired = self._desired(known.live)

    async def follow(self, known: SwitchObject) -> None:
        """Have its uplinks carry the VLANs its ports take part in now, which is no drift."""
        target = known.target
        if target is None or known.live is None:
            return
        async with target.lock:
            desired = self._desired(known.live)
            if known.target is not target or known.state != "active" or desired == target.desired:
                return
            await self._loop.healer.mend(target.key)
            target.desired = desired
            try:
                await target.converge()
            except VnetError as error:
                log.warning("uplinks of switch %s cannot follow its ports: %s", known.name, error)
                self._loop.healer.touch(target.key)

    async def stop(self, known: SwitchObject, *, restore: bool = False) -> None:
        """Take it off the host and put everything back; with ``restore`` also what is gone since the start.

        If something stays, it stays recorded as ``failed`` and the error is raised.
        """
        target = known.target
        assert target is not None
        known.state = "stopping"
        self._loop.healer.discard(target.key)
        try:
            async with target.lock:
                await self.record(known)
                await target.take_down(restore=restore)
            await self._forget(known)
        except VnetError as error:
            known.state, known.problem = "failed", str(error)
            raise
        known.state, known.problem = "inactive", ""

    async def record(self, known: SwitchObject) -> None:
        """Write down what is, or is to be, active."""
        await self._loop.host.store.save(RUNNING, str(known.uuid), known.running_document())

    async def _refuse_unable(self, switch: Switch) -> None:
        """Raise ``Unsupported`` naming what this host's kernel lacks, before anything is touched."""
        able, subject = self._loop.host.capabilities, f"switch {switch.name}"
        if switch.vlan_filtering:
            await require(able, subject, "bridge-vlan-filtering", instead="leave vlan_filtering out")
        for uplink in switch.uplinks:
            if uplink.vlan is not None:
                await require(able, f"{subject}: uplink {uplink.port}", "vlan")

    async def _resolved(self, switch: Switch, before: Switch | None = None) -> Switch:
        """With MAC address and MTU: those of the uplink whose addresses move, so that its neighbours notice nothing."""
        uplink = switch.migrating
        link = await self._loop.host.kernel.link(uplink.port) if uplink else None
        return switch.model_copy(
            update={
                "mac": switch.mac or (before and before.mac) or (link.mac if link else random_mac()),
                "mtu": switch.mtu or (link.mtu if link else None),
            }
        )

    def _desired(self, switch: Switch) -> DesiredSwitch:
        return desired_switch(switch, self.carried(str(switch.bridge)))

    def _target(self, known: SwitchObject, switch: Switch) -> SwitchTarget:
        async def save() -> None:
            await self.record(known)

        known.target = SwitchTarget(self._loop, self._desired(switch), Memory(save, boottime))
        return known.target

    def _show_problem(self, known: SwitchObject, target: SwitchTarget) -> None:
        """Show what did not follow, and have it tried again."""
        if target.problem:
            known.problem = str(target.problem)
            self._loop.healer.touch(target.key)

    def _watch(self, target: SwitchTarget) -> None:
        for name in target.desired.devices:
            self._loop.devices.watch(name, target.key)

    async def _give_up(self, known: SwitchObject, failure: BaseException) -> None:
        assert known.target is not None
        remains = known.target.memory.move is not None or await self._bridge_stays(known)
        known.problem, known.pending = str(failure), None
        if remains:  # on record: the next run of the daemon, or a stop, ends it
            known.state = "failed"
            return
        try:
            await self._forget(known)
        except VnetError as error:
            failure.add_note(f"and cleaning up failed: {error}")
        known.state = "failed"

    async def _bridge_stays(self, known: SwitchObject) -> bool:
        assert known.target is not None
        bridge = known.target.desired.bridge
        try:
            link = await self._loop.host.kernel.link(bridge.name)
        except VnetError:
            return True
        return link is not None and link.alias == bridge.alias

    async def _forget(self, known: SwitchObject) -> None:
        assert known.target is not None
        await self._loop.host.store.delete(RUNNING, str(known.uuid))
        self._loop.devices.release(known.target.key)
        known.live, known.target, known.pending = None, None, None
