"""One switch on the host: brought up as a transaction, kept as it should be, taken away with everything put back."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from vnetd.model.errors import HostError, InUse, NotFound, VnetError
from vnetd.plan.kernel import DeleteLink, Operation
from vnetd.plan.links import Link
from vnetd.plan.migration import renamed, united
from vnetd.plan.possessions import Possessions
from vnetd.plan.steps import ForeignLink, KernelStep, Phase, Sysctl
from vnetd.plan.switch import DesiredSwitch, DesiredUplink, ObservedSwitch, missing, plan_switch, plugs_in
from vnetd.reconcile.absent import Absent
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.migration import Migration, Move
from vnetd.reconcile.observed_switch import observe_switch
from vnetd.reconcile.own_bridge import OwnBridge
from vnetd.reconcile.repairs import Repairs
from vnetd.reconcile.switch_memory import Former, Memory

log = logging.getLogger(__name__)

SELF_CONFIGURATION = ("disable_ipv6", "accept_ra", "autoconf", "use_tempaddr")
"""IPv6 sysctls of an uplink that its bridge takes over with its addresses."""


def switch_owner(uuid: str) -> str:
    """Key of a switch."""
    return f"switch:{uuid}"


class SwitchTarget:
    """Realises one switch; its holder takes ``lock`` around every call."""

    def __init__(self, loop: Loop, desired: DesiredSwitch, memory: Memory) -> None:
        self.key = switch_owner(desired.uuid)
        self.lock = asyncio.Lock()
        self.desired = desired
        self.memory = memory
        self._loop = loop
        self._kernel = loop.host.kernel
        self._devices = loop.devices
        self.repairs = Repairs()
        self._bridge = OwnBridge(self._kernel, self.repairs)
        self._migration = Migration(self._kernel, loop.host.resolver, self._note)

    @property
    def problem(self) -> HostError | None:
        """What did not follow when everything else was made; ``converge`` tries it again."""
        return self._migration.problem

    async def bring_up(self, *, early: bool = False) -> None:
        """Make everything; if a step fails, put everything back and raise the step's error.

        ``early``: the host is starting, and uplinks may come later; then ``Absent`` is raised, and the rest stays.
        """
        try:
            await self._converge()
        except BaseException as failure:
            if early and isinstance(failure, Absent):
                raise
            if not isinstance(failure, InUse) or self._bridge.known:
                await self._undo(failure)
            raise

    async def change(self, desired: DesiredSwitch) -> None:
        """Turn the running switch into ``desired``; if that fails, back into what it was, and raise."""
        before = self.desired
        try:
            await self._change(desired)
        except BaseException as failure:
            try:
                await self._change(before)
            except VnetError as error:
                failure.add_note(f"and going back failed: {error}")
            raise

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """Observe, plan, execute, observe again; returns what was repaired, without repetition.

        What is on it moves from one device to the other as one thing: nothing is done while some of it is spared.
        Raises what keeps it from being as it should be, ``problem`` last.
        """
        if spare:
            return ()
        repaired = await self._converge()
        if self.problem:
            raise self.problem
        return repaired

    async def _converge(self) -> tuple[str, ...]:
        self.repairs.look()
        await self._bridge.recover(self.desired.bridge)
        await self._migration.settle()
        before = await self.observe()
        steps = self._plan(before)
        if steps or self.memory.move:
            after = await self._round(steps, before)
            # Somebody may have changed something meanwhile.
            again = self._plan(after)
            if again and (left := self._plan(await self._round(again, after))):
                raise HostError("verify", self.desired.bridge.name, f"{left[0].what} does not stay as it was made")
        await self._keep_current()
        if away := missing(self.desired, before):
            raise Absent(f"uplink {', '.join(away)} is away: there is no such network device")
        return self.repairs.done()

    async def take_down(self, *, restore: bool = False) -> None:
        """Put everything back and remove what is ours; finishes what it can, then raises what went wrong.

        What hangs on the bridge now goes to the uplink it came from; with ``restore`` also what hung there before
        the start. A bridge whose possessions could not be put back stays, for they would be lost with it.
        """
        await self._bridge.recover(self.desired.bridge)
        await self._move_back(restore)
        failures = [error for one in self.desired.uplinks if (error := await self._unplug(one))]
        await self._migration.settle()
        if self.problem:
            log.warning("%s", self.problem)
        failures += await self._attempt(DeleteLink(self.desired.bridge.name, self.desired.bridge.alias))
        if failures:
            raise failures[0] if len(failures) == 1 else HostError("remove", "switch", "; ".join(map(str, failures)))

    async def planned(self) -> list[KernelStep]:
        """The steps ``converge`` would begin with; changes nothing. Raises ``InUse`` for a bridge that is not ours."""
        return self._plan(await self._observed())

    async def observe(self) -> ObservedSwitch:
        """What is there now; of the bridge that is there, events are heard from now on."""
        observed = await self._observed()
        self._devices.watch_index(observed.bridge.index if observed.bridge else 0, self.key)
        return observed

    async def _observed(self) -> ObservedSwitch:
        return await observe_switch(self._kernel, self._wanted, self._bridge)

    async def remember(self, *, early: bool = False) -> None:
        """Put on record what the uplinks are now, before anything is changed.

        Raises ``NotFound`` for an uplink that is not there, unless it may come later (``early``), and ``InUse`` for one
        that belongs to another bridge.
        """
        for uplink in self.desired.uplinks:
            link = await self._kernel.link(uplink.parent)
            if link is not None:
                await self._remember_one(uplink, link)
            elif not early:
                raise NotFound(f"there is no network device {uplink.parent!r} to be an uplink")
        await self.memory.save()

    async def _remember_one(self, uplink: DesiredUplink, link: Link) -> None:
        if link.kind == "bridge" or (link.master and not uplink.made and not await self._plugged(link)):
            raise InUse(f"device {uplink.parent} belongs to another bridge, or is one: take it out first")
        if not uplink.made:
            self.memory.formers.setdefault(uplink.port, Former(link.mtu, link.up))
        if uplink.migrate:
            self.memory.begin(await self._all_of(uplink, link))
            paths = {key: ("net", "ipv6", "conf", uplink.port, key) for key in SELF_CONFIGURATION}
            found = await self._kernel.sysctls(list(paths.values()))
            self.memory.sysctls = {key: value for key, path in paths.items() if (value := found[path]) is not None}

    async def _all_of(self, uplink: DesiredUplink, link: Link) -> Possessions:
        """What hangs on an uplink, and on the bridge it is plugged into already."""
        held = await self._migration.seen(uplink.port)
        bridge = self.desired.bridge.name
        if not await self._plugged(link):
            return held
        return united(held, renamed(await self._migration.seen(bridge), bridge, uplink.port))

    async def _change(self, desired: DesiredSwitch) -> None:
        before, kept = self.desired, {uplink.port for uplink in desired.uplinks}
        gone = [uplink for uplink in before.uplinks if uplink.port not in kept]
        was, now = before.migrating, desired.migrating
        if was and (now is None or now.port != was.port):
            await self._move_back(restore=False)
        self.desired = desired
        await self.remember()
        failures = [error for uplink in gone if (error := await self._unplug(uplink))]
        await self._migration.settle()
        if failures:
            raise failures[0]
        if now and (was is None or was.port != now.port):
            self.memory.move = await self._migration.prepare(now.port, desired.bridge.name)
        await self._converge()

    async def _plugged(self, link: Link) -> bool:
        bridge = await self._kernel.link(self.desired.bridge.name)
        return bridge is not None and link.master == bridge.index

    async def _round(self, steps: Sequence[KernelStep], before: ObservedSwitch) -> ObservedSwitch:
        """Execute what was planned, move what is to move, and observe."""
        self.repairs.begin(*(step.what for step in steps))
        uplink = self.desired.migrating
        await self._remember_new(steps, before)
        await self._apply([step for step in steps if step.phase != Phase.PORTS])
        move = await self._prepare(uplink, steps, before) if uplink else None
        await self._apply([step for step in steps if step.phase == Phase.PORTS])
        if move:
            await self._carry_out(move)
            await self._migration.settle()
        return await self.observe()

    async def _remember_new(self, steps: Sequence[KernelStep], before: ObservedSwitch) -> None:
        """Put on record what an uplink was that comes only now."""
        new = [one for one in self.desired.uplinks if one.port not in self.memory.formers and not one.made]
        coming = {one.port: before.links[one.port] for one in new if one.port in before.links}
        coming = {port: link for port, link in coming.items() if plugs_in(list(steps), port)}
        if coming:
            self.memory.formers |= {port: Former(link.mtu, link.up) for port, link in coming.items()}
            await self.memory.save()

    async def _keep_current(self) -> None:
        """Have on record what hangs on the bridge, unless it is just going: that begins with its being down."""
        uplink, want = self.desired.migrating, self.desired.bridge
        if uplink is None or self.memory.move:
            return
        held = await self._migration.seen(want.name)
        link = await self._kernel.link(want.name)
        if link and link.up and self._bridge.is_ours(want, link):
            await self.memory.keep(renamed(held, want.name, uplink.port))

    async def _prepare(self, uplink: DesiredUplink, steps: Sequence[KernelStep], before: ObservedSwitch) -> Move | None:
        """The move to the bridge if there is one to make: the uplink is plugged in, an earlier move did not end, or
        the bridge went, or was down, and with it what hung on it.
        """
        pending, lost = self.memory.move, None
        if pending:
            lost = renamed(pending.held, pending.source, uplink.port)
        elif before.bridge is None or not before.bridge.up:
            lost = self.memory.now()
        if lost is None and not (uplink.parent in before.links and plugs_in(list(steps), uplink.port)):
            return None
        move = await self._migration.prepare(uplink.port, self.desired.bridge.name, lost)
        await self._migration.precede(move)
        return move

    async def _move_back(self, restore: bool) -> None:
        uplink, name = self.desired.migrating, self.desired.bridge.name
        if uplink is None or await self._kernel.link(uplink.port) is None:
            return  # if it is unplugged, there is nothing to put anything back to
        lost = renamed(await self._lost(uplink, restore), uplink.port, name)
        move = await self._migration.prepare(name, uplink.port, lost)
        await self._carry_out(move)

    async def _lost(self, uplink: DesiredUplink, restore: bool) -> Possessions:
        """What is to go back and does not hang on the bridge: its routes name the uplink."""
        if pending := self.memory.move:
            return renamed(pending.held, pending.source, uplink.port)
        if restore:
            return self.memory.now(self.memory.before)
        bridge = await self._kernel.link(self.desired.bridge.name)
        return Possessions() if bridge and bridge.up else self.memory.now()

    async def _carry_out(self, move: Move) -> None:
        """Do it, and have forwarding follow: of what vnetd does itself there are no events."""
        try:
            await self._migration.carry_out(move)
        finally:
            self._loop.routes.changed()
            self._loop.healer.touch(self._loop.forwarding.key)

    async def _unplug(self, uplink: DesiredUplink) -> HostError | None:
        """Make an uplink what it was before; one that vnetd made is deleted."""
        if uplink.made:
            failed = await self._attempt(DeleteLink(uplink.port, uplink.made.alias))
            return failed[0] if failed else None
        link = await self._kernel.link(uplink.port)
        if link is None or not await self._plugged(link):
            return None
        former = self.memory.formers.pop(uplink.port, Former(link.mtu, link.up))
        failed = await self._attempt(*former.restoring(link))
        return failed[0] if failed else None

    async def _attempt(self, *operations: Operation) -> list[HostError]:
        try:
            await self._kernel.apply(operations)
        except HostError as error:
            return [error]
        return []

    async def _apply(self, steps: Sequence[KernelStep]) -> None:
        if steps:
            await self._kernel.apply([step.operation for step in steps])

    def _plan(self, observed: ObservedSwitch) -> list[KernelStep]:
        try:
            return plan_switch(self._wanted, observed)
        except ForeignLink as error:
            raise InUse(
                f"bridge {error}: a network device of this name exists that vnetd did not make; "
                "remove it or give the switch another bridge name"
            ) from None

    @property
    def _wanted(self) -> DesiredSwitch:
        """With the bridge configuring itself by IPv6 as the uplink did whose addresses it has."""
        prefix = ("net", "ipv6", "conf", self.desired.bridge.name)
        sysctls = self.memory.sysctls if self.desired.migrating else {}
        more = tuple(Sysctl((*prefix, key), value, optional=True) for key, value in sorted(sysctls.items()))
        return replace(self.desired, sysctls=(*self.desired.sysctls, *more))

    async def _undo(self, failure: BaseException) -> None:
        try:
            await self.take_down(restore=True)
        except VnetError as error:
            failure.add_note(f"and undoing it failed: {error}")

    async def _note(self, move: Move | None) -> None:
        if move != self.memory.move:
            self.memory.move = move
            await self.memory.save()
