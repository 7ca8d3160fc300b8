"""The one writer of vnetd's nftables tables.

The ledger says what the kernel should hold and to whom it belongs; every change is a transaction of the difference
only, and is entered in the ledger once the kernel took it. Foreign changes are found by listing what an event named.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Literal

from vnetd.host.protocols import Nft
from vnetd.model.errors import HostError
from vnetd.plan.ledger import Drift, Ledger, Proposal, merge
from vnetd.plan.rules import EMPTY, FAMILIES, Chain, Family, Fragment

log = logging.getLogger(__name__)

SHARED = "shared"
"""Owner of what all networks, filters or ports share."""
LINGER = 60.0
"""Seconds the shared part stays when nobody uses it any more, so that stop and start do not make it anew; 0: none."""

MANY, GATHERING, PAUSE = 100, 0.5, 0.02
"""Seconds listing what was written waits, from so many owners on and before: it is not to slow down a start."""
FEW = 8
"""Chains up to which listing them one by one is faster than listing their table."""
Spot = tuple[Family, Literal["table", "chain", "set"], str]
"""What an event named: family, kind and name."""


class RulesKeeper:
    """Target of key ``rules``: all owners' rules, written in transactions and compared after foreign changes."""

    key = "rules"

    def __init__(self, nft: Nft, bases: Sequence[Fragment] = ()) -> None:
        """``bases`` are what all networks, filters or ports share: kept for a while after the last of them is gone."""
        self._bases = bases
        self._farewell: asyncio.TimerHandle | None = None
        self._releasing: asyncio.Task[None] | None = None
        self.lock = asyncio.Lock()
        self.repaired: dict[str, tuple[str, ...]] = {}
        """What the last look repaired, by owner."""
        self._nft = nft
        self._ledger = Ledger()
        self._suspects: set[Spot] = set()
        self._learning: asyncio.Task[None] | None = None

    def fragment(self, owner: str) -> Fragment | None:
        """What the kernel holds for ``owner`` as far as vnetd wrote it and saw no change."""
        return self._ledger.fragment(owner)

    def contents(self) -> Fragment:
        """All rules as vnetd wrote them."""
        return self._ledger.contents()

    def sharers(self, family: Family, chain: str) -> int:
        """How many owners have that chain."""
        return len(self._ledger.owners_of(Chain(family, chain, ())))

    async def put(self, changes: Mapping[str, Fragment | None]) -> None:
        """Make each owner's part the given fragment, all in one transaction; ``None`` removes it."""
        async with self.lock:
            proposal = self._ledger.propose({**changes, **self._shared_by(changes)})
            await self._transact(proposal)
            if proposal.remove != EMPTY and not self._ledger.owners() and not self._ledger.spares_foreign:
                await self._nft.clear()
            self._part()
            if proposal.add.chains and self._learning is None:
                self._learning = asyncio.get_running_loop().create_task(self._learn_soon())

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
                await self._repair(await self._audit_tables())
        await self._learn()

    def suspect(self, spot: Spot) -> None:
        """Note that somebody changed this; the next look compares it."""
        self._suspects.add(spot)

    async def converge(self) -> tuple[str, ...]:
        """Compare what was changed by others (everything, if nothing was named) and repair it.

        Called with ``lock`` held. What was repaired, by owner, is in ``repaired`` afterwards.
        """
        suspects, self._suspects = self._suspects, set()
        drift = await self._audit(suspects)
        try:
            await self._repair(drift)
        except HostError:
            # Somebody changed the tables between look and repair: look at all of it and try once more.
            drift = await self._audit_tables()
            await self._repair(drift)
        return tuple(drifted.what for drifted in drift.what)

    async def close(self) -> None:
        """Wait for listing under way."""
        if self._farewell:
            self._farewell.cancel()
        for task in (self._learning, self._releasing):
            if task:
                await task

    def _shared_by(self, changes: Mapping[str, Fragment | None]) -> dict[str, Fragment]:
        """The shared part as an owner of its own, if something new needs it: making it takes longer than the rest."""
        needed = [
            base
            for base in self._bases
            if LINGER and any(fragment and base.sets[0] in fragment.sets for fragment in changes.values())
        ]
        kept = self._ledger.fragment(SHARED) or EMPTY
        missing = [base for base in needed if base.sets[0] not in kept.sets]
        if not missing:
            return {}
        chains = tuple(chain for base in missing for chain in base.chains)
        sets = tuple(one for base in missing for one in base.sets)
        return {SHARED: Fragment((*kept.chains, *chains), (*kept.sets, *sets))}

    def _part(self) -> None:
        """Let go of the shared part once nobody else has needed it for a while."""
        if self._farewell:
            self._farewell.cancel()
            self._farewell = None
        if self._ledger.owners() == {SHARED}:
            self._farewell = asyncio.get_running_loop().call_later(LINGER, self._release)

    def _release(self) -> None:
        self._releasing = asyncio.get_running_loop().create_task(self._remove_shared())

    async def _remove_shared(self) -> None:
        if self._ledger.owners() == {SHARED}:
            try:
                await self.put({SHARED: None})
            except HostError as error:  # the next one that goes tries again
                log.warning("cannot remove tables nobody needs: %s", error)
        self._releasing = None

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

    async def _repair(self, drift: Drift) -> None:
        self.repaired = {}
        if not drift:
            return
        await self._nft.commit(drift.remove, drift.add)
        for drifted in drift.what:
            for owner in drifted.owners:
                self.repaired[owner] = (*self.repaired.get(owner, ()), drifted.what)

    async def _audit(self, suspects: set[Spot]) -> Drift:
        if not suspects or any(kind == "table" for _, kind, _ in suspects):
            return await self._audit_tables()
        return merge(*[await self._audit_one(*spot) for spot in sorted(suspects)])

    async def _audit_one(self, family: Family, kind: str, name: str) -> Drift:
        if kind == "chain":
            return self._ledger.drift_chain(family, name, await self._nft.chain(family, name))
        return self._ledger.drift_set(family, name, await self._nft.set(family, name))

    async def _audit_tables(self) -> Drift:
        return merge(*[self._ledger.drift_table(family, await self._nft.table(family)) for family in FAMILIES])

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
                        self._ledger.learn(await self._nft.table(family))
                    else:
                        for name in names:
                            self._ledger.learn(await self._nft.chain(family, name))
        except HostError as error:  # what is not learned yet is learned after the next change
            log.warning("cannot list what was written: %s", error)
        finally:
            self._learning = None
