"""The one writer of vnetd's nftables tables.

The ledger says what the kernel should hold and to whom it belongs; every change is a transaction of the difference
only, and is entered in the ledger once the kernel took it. Foreign changes are found by listing what an event named.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Literal, TypeVar

from vnetd.host.commit import Commit
from vnetd.host.protocols import Nft
from vnetd.model.errors import HostError
from vnetd.plan.ledger import Drift, Drifted, Ledger, Proposal, merge
from vnetd.plan.lingering import Lingering, is_lingering
from vnetd.plan.rules import EMPTY, FAMILIES, Chain, Element, Family, Fragment, Set, TableContents
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.repairs import Repairs

log = logging.getLogger(__name__)

LINGER = 60.0
"""Seconds chains stay when nobody uses them any more, so that stop and start do not make them anew; 0: none."""

MANY, GATHERING, PAUSE = 100, 0.5, 0.02
"""Seconds listing what was written waits, from so many owners on and before: it is not to slow down a start."""
FEW = 8
"""Chains up to which listing them one by one is faster than listing their table."""
T = TypeVar("T")
Spot = tuple[Family, Literal["table", "chain", "rules", "set"], str]
"""What an event named: family, kind and name."""
Change = Callable[[Mapping[str, Fragment | None]], Awaitable[None]]
EVERYTHING: frozenset[Spot] = frozenset((family, "table", "") for family in FAMILIES)


class RulesKeeper:
    """Target of key ``rules``: all owners' rules, written in transactions and compared after foreign changes."""

    key = "rules"

    def __init__(self, nft: Nft) -> None:
        self.lock = asyncio.Lock()
        self.repairs = Repairs()  # none are left half-way: they are one transaction
        self.repaired: dict[str, tuple[str, ...]] = {}
        """What the last look repaired, by owner."""
        self.mended: Callable[[tuple[str, ...]], None] = lambda what: None
        """Told of what was repaired because somebody's change needed it."""
        self.abandoned: Callable[[str], None] = lambda what: None
        """Told of what was repaired once when nobody wants it any more."""
        self._nft = nft
        self._ledger = Ledger()
        self._lingering = Lingering(self._ledger)
        self._farewell: asyncio.TimerHandle | None = None
        self._parting: asyncio.Task[None] | None = None
        self._suspects: set[Spot] = set()
        self._things: dict[str, tuple[Chain | Set | Element, ...]] = {}
        self._learning: asyncio.Task[None] | None = None
        self._upheavals = 0

    def fragment(self, owner: str) -> Fragment | None:
        """What the kernel holds for ``owner`` as far as vnetd wrote it and saw no change."""
        return self._ledger.fragment(owner)

    def contents(self) -> Fragment:
        """All rules as vnetd wrote them."""
        return self._ledger.contents()

    def sharers(self, family: Family, chain: str) -> int:
        """How many owners have that chain in use."""
        return sum(not is_lingering(owner) for owner in self._ledger.owners_of(Chain(family, chain, ())))

    def wanted_by(self, what: str) -> frozenset[str]:
        """The owners that want this now, which was repaired while one of them did."""
        return self._ledger.wanted(self._things.get(what, ()))

    def wants(self, owner: str, what: str) -> bool:
        """Whether this is one of them."""
        return any(owner in self._ledger.owners_of(thing) for thing in self._things.get(what, ()))

    async def put(self, changes: Mapping[str, Fragment | None]) -> None:
        """Make each owner's part the given fragment, all in one transaction; ``None`` removes it."""
        async with self.lock:
            try:
                await self._change(changes)
            except HostError as refusal:
                await self._mend(refusal)
                await self._change(changes)

    async def put_by(self, changes: Mapping[str, Fragment | None], work: Callable[[Commit], Awaitable[T]]) -> T:
        """``put`` by ``work``, which makes what these rules are for and commits them on its way; what that returns.

        It is done once more if they are refused because of what somebody has changed.
        """
        async with self.lock:
            proposal = self._proposal(changes)
            commit = self._nft.committing(proposal.remove, proposal.add)
            try:
                return await self._worked(proposal, commit, work)
            except HostError as refusal:
                if not commit.refused:
                    raise
                await self._mend(refusal)
            proposal = self._proposal(changes)
            return await self._worked(proposal, self._nft.committing(proposal.remove, proposal.add), work)

    async def adopt(self, fragments: Mapping[str, Fragment], *, all_known: bool = True) -> None:
        """Take over what an earlier run left in the kernel: only what differs from ``fragments`` is changed.

        Without ``all_known`` there may be owners nobody can name now: what belongs to none of these stays.
        """
        async with self.lock:
            self._ledger.spares_foreign = not all_known
            self._ledger.accept(self._ledger.propose(fragments))
            if self._nft.claimable and all_known:
                await self._nft.rewrite(self._ledger.contents())
            else:
                await self._repair(await self._audit(EVERYTHING))
        await self._learn()

    def suspect(self, spot: Spot) -> None:
        """Note that somebody changed this; the next look compares it."""
        self._suspects.add(spot)
        family, kind, _ = spot
        if kind == "table":
            self._ledger.forget_table(family)
            self._upheavals += 1

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """Compare what was changed by others and repair it but for what is spared, which is suspected again. If nothing
        was named, that is everything, and what nobody needs goes at once.

        Called with ``lock`` held. What was repaired, by owner, is in ``repaired`` afterwards.
        """
        suspects, self._suspects = self._suspects, set()
        repaired = await self._heal(suspects or EVERYTHING, spare)
        if not suspects and (unneeded := self._lingering.due(math.inf)):
            await self._remove(unneeded, self._change)
        self._await_learning()
        return repaired

    async def _heal(self, suspects: Collection[Spot], spare: frozenset[str]) -> tuple[str, ...]:
        try:
            return await self._repair(await self._audit(suspects, spare))
        except HostError:
            # Somebody changed the tables between look and repair, or it needs what was to be spared.
            try:
                return await self._repair(await self._audit(EVERYTHING))
            except HostError:
                self._suspects |= EVERYTHING
                raise

    async def close(self) -> None:
        """Wait for listing under way."""
        if self._farewell:
            self._farewell.cancel()
        for task in (self._learning, self._parting):
            if task:
                await task

    async def _mend(self, refusal: HostError) -> None:
        """Repair what a change may need, or remove, that somebody has changed: it is left alone now, or was not looked
        at yet. Raises ``refusal`` if there is no such thing.
        """
        if not (drift := await self._everything(refusal)):
            raise refusal
        self.mended(await self._repair(drift))

    async def _change(self, changes: Mapping[str, Fragment | None]) -> None:
        proposal = self._proposal(changes)
        await self._transact(proposal)
        await self._changed(proposal)

    async def _worked(self, proposal: Proposal, commit: Commit, work: Callable[[Commit], Awaitable[T]]) -> T:
        """Whatever becomes of the work, what the kernel took comes into the ledger."""
        try:
            return await work(commit)
        finally:
            if commit.done:
                self._ledger.accept(proposal)
                await self._changed(proposal)

    def _proposal(self, changes: Mapping[str, Fragment | None]) -> Proposal:
        return self._ledger.propose({**changes, **self._linger(changes)})

    async def _changed(self, proposal: Proposal) -> None:
        if proposal.remove != EMPTY and not self._ledger.owners() and not self._ledger.spares_foreign:
            await self._nft.clear()
        self._abandon()
        self._await_farewell()
        if proposal.add.chains:
            self._await_learning()

    def _await_learning(self) -> None:
        if self._learning is None and self._ledger.unlearned():
            self._learning = asyncio.get_running_loop().create_task(self._learn_soon())

    def _linger(self, changes: Mapping[str, Fragment | None]) -> Mapping[str, Fragment | None]:
        """What goes with these changes, so that chains they let go of stay for a while."""
        return self._lingering.after(changes, asyncio.get_running_loop().time() + LINGER) if LINGER else {}

    def _await_farewell(self) -> None:
        if self._farewell is None and (due := self._lingering.next) is not None:
            self._farewell = asyncio.get_running_loop().call_at(due, self._part)

    def _part(self) -> None:
        self._farewell = None
        self._parting = asyncio.get_running_loop().create_task(self._remove_lingering())

    async def _remove_lingering(self) -> None:
        """Take away what nobody has come back for."""
        await self._remove(self._lingering.due(asyncio.get_running_loop().time()), self.put)

    async def _remove(self, unneeded: Collection[str], change: Change) -> None:
        """Take these owners' parts away by ``change``, or later if that cannot be."""
        try:
            await change(dict.fromkeys(unneeded))
        except HostError as error:
            log.warning("cannot remove chains nobody needs: %s", error)
            self._lingering.postpone(unneeded, asyncio.get_running_loop().time() + LINGER)
            self._await_farewell()

    async def _transact(self, proposal: Proposal) -> None:
        """Once begun, it comes to its end and into the ledger even if its caller is cancelled."""
        commit = asyncio.ensure_future(self._nft.commit(proposal.remove, proposal.add))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.wait({commit})
            if not commit.cancelled() and commit.exception() is None:
                self._ledger.accept(proposal)
            raise
        self._ledger.accept(proposal)

    def _abandon(self) -> None:
        for what, things in list(self._things.items()):
            if not any(_used(self._ledger.owners_of(thing)) for thing in things):
                del self._things[what]
                self.abandoned(what)

    async def _everything(self, refusal: HostError) -> Drift:
        """All drift there is. Raises ``refusal`` if that cannot be known."""
        try:
            return await self._audit(EVERYTHING)
        except HostError:
            raise refusal from None

    async def _repair(self, drift: Drift) -> tuple[str, ...]:
        self.repaired = {}
        if not drift:
            return ()
        self._ledger.forget_handles((*drift.add.chains, *(rule.chain for rule in drift.rules)))
        await self._nft.commit(drift.remove, drift.add, drift.rules)
        for drifted in drift.what:
            self._note(drifted)
        return tuple(dict.fromkeys(drifted.what for drifted in drift.what))

    def _note(self, repaired: Drifted) -> None:
        for owner in repaired.owners:
            self.repaired[owner] = (*self.repaired.get(owner, ()), repaired.what)
        if _used(repaired.owners):
            self._things[repaired.what] = repaired.things

    async def _audit(self, suspects: Collection[Spot], spare: frozenset[str] = NOTHING) -> Drift:
        """What has drifted among ``suspects``; what of it is spared is suspected again."""
        found = []
        for spot in _distinct(suspects):
            drift = await self._audit_one(*spot)
            found.append(drift.without(spare))
            if len(found[-1].what) < len(drift.what):
                self._suspects.add(spot)
        return merge(*found)

    async def _audit_one(self, family: Family, kind: str, name: str) -> Drift:
        if kind == "table":
            return self._ledger.drift_table(family, await self._nft.table(family))
        if kind == "rules":
            drift = self._ledger.drift_rules(family, name, await self._nft.handles(family, name))
            if drift is not None:
                return drift
        if kind in {"chain", "rules"}:
            return self._ledger.drift_chain(family, name, await self._nft.chain(family, name))
        return self._ledger.drift_set(family, name, await self._nft.set(family, name))

    async def _learn_soon(self) -> None:
        """With many chains it pays to wait for more: each listing takes as long as there are chains."""
        await asyncio.sleep(GATHERING if len(self._ledger.owners()) > MANY else PAUSE)
        await self._learn()

    async def _learn(self) -> None:
        try:
            async with self.lock:
                for family in FAMILIES:
                    names = [name for of, name in self._ledger.unlearned() if of == family]
                    if len(names) > FEW:  # each listing of a chain looks at every chain of the table
                        await self._learn_from(self._nft.table(family))
                    else:
                        for name in names:
                            await self._learn_from(self._nft.chain(family, name))
        except HostError as error:  # what is not learned yet is learned after the next change
            log.warning("cannot list what was written: %s", error)
        finally:
            self._learning = None

    async def _learn_from(self, listing: Awaitable[TableContents | None]) -> None:
        """What was listed of a table that somebody has made anew meanwhile tells nothing, nor does a changed chain."""
        upheavals = self._upheavals
        listed = await listing
        if listed and self._upheavals == upheavals:
            trusted = {name: rules for name, rules in listed.chains.items() if not self._suspected(listed.family, name)}
            self._ledger.learn(replace(listed, chains=trusted))

    def _suspected(self, family: Family, chain: str) -> bool:
        return any(
            of == family and (kind == "table" or (kind in {"chain", "rules"} and name == chain))
            for of, kind, name in self._suspects
        )


def _used(owners: Collection[str]) -> bool:
    """Whether one of them does more than keep what others had."""
    return any(not is_lingering(owner) for owner in owners)


def _distinct(suspects: Collection[Spot]) -> list[Spot]:
    """Without what is looked at with something else: a table's chains and sets, a chain's rules."""
    tables: set[Family] = {family for family, kind, _ in suspects if kind == "table"}
    chains = {(family, name) for family, kind, name in suspects if kind == "chain"}
    parts = (spot for spot in suspects if spot[0] not in tables)
    others = sorted(spot for spot in parts if spot[1] != "rules" or (spot[0], spot[2]) not in chains)
    return [(family, "table", "") for family in FAMILIES if family in tables] + others
