"""What a change of a switch would do, and to whom, without doing it."""

from collections.abc import Iterable
from typing import NamedTuple

from vnetd.plan.kernel import (
    CreateBridge,
    DeleteLink,
    DeletePortVlan,
    GiveAddress,
    GiveNeighbour,
    GiveProxy,
    GiveRoute,
    GiveRule,
    Operation,
    SetBridge,
    SetLink,
    TakeAddress,
    TakeNeighbour,
    TakeProxy,
    TakeRoute,
    TakeRule,
    WriteSysctl,
)
from vnetd.plan.migration import guarded, plan_leave, plan_move, plan_rules
from vnetd.plan.steps import KernelStep, Phase
from vnetd.plan.switch import DesiredSwitch, DesiredUplink, plugs_in
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.migration import Migration
from vnetd.reconcile.switch import SwitchTarget
from vnetd.reconcile.switch_memory import Former, Memory
from vnetd.service.clock import boottime
from vnetd.service.preview import describe, document

INTERRUPTING = (CreateBridge, SetBridge, SetLink, DeleteLink, DeletePortVlan)
"""What guests on the switch may notice."""


class MoveSteps(NamedTuple):
    """Steps of a move as JSON has them: before the uplink is plugged in or out, between, and when that is over."""

    first: list[dict[str, object]]
    whole: list[dict[str, object]]
    last: list[dict[str, object]]


class SwitchPreview:
    """``running`` is the target of the switch if it is active, ``desired`` what it shall be."""

    def __init__(self, loop: Loop, running: SwitchTarget | None, desired: DesiredSwitch) -> None:
        self._kernel = loop.host.kernel
        self._running = running
        self._desired = desired
        # Asked what it would do, and never told to.
        self._target = SwitchTarget(loop, desired, Memory(_nothing, boottime))
        self._migration = Migration(self._kernel, loop.host.resolver, _nothing)

    async def document(self) -> str:
        """JSON: ``steps`` in order, each with ``phase``, ``what`` and the operation; ``disturbs_guests``; and
        ``disturbs_host``: what the host has on a device of the switch's moves, or is cut off.

        Raises what a start would: ``NotFound`` and ``InUse`` for devices, ``Unsupported`` for what cannot move.
        """
        await self._target.remember()
        back, away = await self._moves()
        unplugging, planned = await self._unplugging(), await self._target.planned()
        others = [step for step in planned if step.phase != Phase.PORTS]
        ports = [step for step in planned if step.phase == Phase.PORTS]
        told = [*back.first, *back.whole, *map(describe, unplugging), *back.last]
        told += [*map(describe, others), *away.first, *map(describe, ports), *away.whole, *away.last]
        steps = [*unplugging, *planned]
        moves = any((*back, *away))
        interrupted = any(isinstance(step.operation, INTERRUPTING) for step in steps)
        return document(
            "switch",
            self._desired.uuid,
            active=self._running is not None,
            steps=told,
            disturbs_guests=self._running is not None and (interrupted or moves),
            disturbs_host=moves or await self._cuts_off(steps),
        )

    async def _unplugging(self) -> list[KernelStep]:
        """Uplinks that are not to be any more."""
        kept = {uplink.port for uplink in self._desired.uplinks}
        return [
            KernelStep(Phase.REMOVE, f"uplink {uplink.port}", operation)
            for uplink in (self._running.desired.uplinks if self._running else ())
            if uplink.port not in kept
            for operation in await self._unplug(uplink)
        ]

    async def _unplug(self, uplink: DesiredUplink) -> list[Operation]:
        link = await self._kernel.link(uplink.port)
        if link is None:
            return []
        if uplink.made:
            return [DeleteLink(uplink.port, uplink.made.alias)]
        formers = self._running.memory.formers if self._running else {}
        return formers.get(uplink.port, Former(link.mtu, link.up)).restoring(link)

    async def _moves(self) -> tuple[MoveSteps, MoveSteps]:
        """What moves to another device: from the bridge back to an uplink, from an uplink to the bridge."""
        none = MoveSteps([], [], [])
        was, now = self._running.desired.migrating if self._running else None, self._desired.migrating
        bridge = self._desired.bridge.name
        if (was and was.port) == (now and now.port):
            return none, none
        back = await self._move(bridge, was.port) if was else none
        return back, await self._move(now.port, bridge) if now else none

    async def _move(self, source: str, target: str) -> MoveSteps:
        move = await self._migration.prepare(source, target)
        held, there = move.held, await self._migration.seen(target)
        rules = plan_rules(held, source, target, there)
        whole = guarded(plan_move(held, source, target, held, there), source, move.promote)
        last = _told(plan_leave(held))
        if held.dns:
            what = f"{held.dns} of {source} to {target}"
            last.append({"phase": "move", "what": what, "operation": "MoveNameServers"})
        return MoveSteps(_told(rules), _told(whole), last)

    async def _cuts_off(self, steps: Iterable[KernelStep]) -> bool:
        """Whether the host has something on a device that is plugged in and does not migrate: it is of no use there."""
        plugged = [one for one in self._desired.uplinks if not one.migrate and plugs_in(list(steps), one.port)]
        return any([bool(await self._kernel.possessions(uplink.port)) for uplink in plugged])


def _told(operations: Iterable[Operation]) -> list[dict[str, object]]:
    return [describe(KernelStep(Phase.MOVE, words(operation), operation)) for operation in operations]


def words(operation: Operation) -> str:
    """What of the host's an operation is about, and where."""
    match operation:
        case GiveAddress(link, address) | TakeAddress(link, address):
            return f"address {address.address} on {link}"
        case GiveRoute(route) | TakeRoute(route):
            return f"route {route.destination} on {', '.join(hop.device for hop in route.hops)}"
        case GiveRule(rule) | TakeRule(rule):
            return f"rule {rule}"
        case GiveNeighbour(link, neighbour) | TakeNeighbour(link, neighbour):
            return f"neighbour {neighbour.address} on {link}"
        case GiveProxy(link, proxied) | TakeProxy(link, proxied):
            return f"neighbour proxy {proxied} on {link}"
        case WriteSysctl(path):
            return f"sysctl {'/'.join(path)}"
    raise TypeError(f"{operation!r} moves nothing")


async def _nothing(*_: object) -> None:
    """Nothing is put on record of what is only asked."""
