"""Moves what hangs on one device to another one and, whatever happens, loses none of it.

What moves is on record before the first operation. All operations of a round are one piece of work for the kernel's
thread, so that nothing of ours comes in between; then both devices are looked at again, for others may have added
something meanwhile. Name servers follow: the resolver is another process, which may be slow or refuse, and that must
not cost the host its addresses.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from vnetd.host.protocols import Kernel
from vnetd.host.resolver import Resolver
from vnetd.model.errors import HostError, Unsupported, VnetError
from vnetd.plan.kernel import GiveAddress, WriteSysctl
from vnetd.plan.link_dns import LinkDns
from vnetd.plan.migration import guarded, plan_leave, plan_move, plan_rules, renamed, united
from vnetd.plan.possessions import Possessions

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Move:
    """What is on its way; routes and rules in ``held`` name ``source``. ``promote`` is a sysctl's value from before."""

    source: str
    target: str
    held: Possessions
    promote: str | None = None


class Migration:
    """``note`` puts the move under way on record, ``None`` when there is none any more.

    ``problem``: why name servers could not follow, or rules not leave, so that they are to be ``settle``d yet.
    """

    def __init__(self, kernel: Kernel, resolver: Resolver, note: Callable[[Move | None], Awaitable[None]]) -> None:
        self.problem: HostError | None = None
        self._owed: Move | None = None
        self._kernel = kernel
        self._resolver = resolver
        self._note = note

    async def seen(self, name: str) -> Possessions:
        """All that hangs on a device now, as far as it can be told."""
        return replace(await self._seen(name), dns=await self._name_servers(name))

    async def prepare(self, source: str, target: str, lost: Possessions | None = None) -> Move:
        """Put on record what will move: all of ``source``'s, and what was ``lost`` on the way.

        Raises ``Unsupported`` naming what cannot be made again, before anything is changed.
        """
        held = await self.seen(source)
        if held.unportable:
            raise Unsupported(
                f"{', '.join(held.unportable)} of {source} cannot be moved to {target}: take it away first"
            )
        path = ("net", "ipv4", "conf", source, "promote_secondaries")
        promote = (await self._kernel.sysctls([path]))[path]
        move = Move(source, target, united(held, lost) if lost else held, promote)
        if move.held:
            await self._note(move)
        return move

    async def precede(self, move: Move) -> None:
        """Have rules hold for the target too, before packets come in by it."""
        if not move.held.rules:
            return
        at_target = await self._seen(move.target)
        await self._kernel.apply(plan_rules(move.held, move.source, move.target, at_target))

    async def carry_out(self, move: Move) -> None:
        """Do all but what ``settle`` is for; if that fails, put everything back and raise."""
        if not move.held:
            return
        try:
            await self.precede(move)
            await self._carry_on(move, late=True)
        except BaseException as failure:
            await self._put_back(move, failure)
            raise
        self._owed = move

    async def settle(self) -> None:
        """Have rules leave and name servers follow after a move was carried out, or try it again; never fails.

        To be called when the device is no port of a bridge any more: until then packets come in by the bridge, and
        systemd-resolved takes the end of that for the end of the device, and forgets its addresses too.
        """
        if move := self._owed:
            self.problem = await self._unsettled(move)
            self._owed = move if self.problem else None
            await self._note(None)

    async def _put_back(self, move: Move, failure: BaseException) -> None:
        back = Move(move.target, move.source, renamed(move.held, move.source, move.target), "1")
        try:
            await self._carry_on(back, late=False)
            await self._leave(back)
            await self._restore_promotion(move)
            await self._note(None)
        except VnetError as error:  # it stays on record: the next look, or the next run, ends it
            failure.add_note(f"and putting it back failed: {error}")

    async def _carry_on(self, move: Move, *, late: bool) -> None:
        for _ in range(ROUNDS):
            at_source, at_target = await self._seen(move.source), await self._seen(move.target)
            if late:
                move = replace(move, held=united(move.held, at_source))
            operations = plan_move(move.held, move.source, move.target, at_source, at_target)
            if not operations:
                return
            await self._kernel.apply(guarded(operations, move.source, move.promote))
        raise HostError("move", f"addresses of {move.source} to {move.target}", "they change all the time")

    async def _name_servers(self, name: str) -> LinkDns | None:
        try:
            return await self._resolver.settings(name)
        except HostError:  # asked again, and reported, when it is their turn
            return None

    async def _unsettled(self, move: Move) -> HostError | None:
        """Settle each, whatever becomes of the other; why one could not be."""
        failures = []
        for settle in (self._leave, self._carry_name_servers):
            try:
                await settle(move)
            except HostError as error:
                failures.append(error)
        return failures[0] if failures else None

    async def _leave(self, move: Move) -> None:
        """Have no rule be about the source any more, with those that came to be meanwhile."""
        try:
            left, there = await self._seen(move.source), await self._seen(move.target)
            held = united(left, move.held)
            await self._kernel.apply([*plan_rules(held, move.source, move.target, there), *plan_leave(left)])
        except HostError as error:
            raise HostError("move", f"rules of {move.source} to {move.target}", str(error)) from error

    async def _carry_name_servers(self, move: Move) -> None:
        """Give, then take: what the resolver refuses is at worst known of both devices."""
        dns = move.held.dns
        try:
            dns = dns or await self._resolver.settings(move.source)
            if dns:
                addresses = (await self._seen(move.target)).addresses
                await self._kernel.apply([GiveAddress(move.target, address) for address in addresses])
                await self._resolver.give(move.target, dns)
                await self._resolver.take(move.source)
        except HostError as error:
            what = f"{dns or 'name servers'} of {move.source} to {move.target}"
            raise HostError("move", what, error.reason) from error

    async def _restore_promotion(self, move: Move) -> None:
        if move.promote not in {None, "1"}:
            path = ("net", "ipv4", "conf", move.source, "promote_secondaries")
            await self._kernel.apply([WriteSysctl(path, str(move.promote), optional=True)])

    async def _seen(self, name: str) -> Possessions:
        return await self._kernel.possessions(name) or Possessions()
