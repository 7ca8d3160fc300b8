"""What the kernel's ruleset should hold, and who wants it. Pure: nothing here acts.

Chains, sets and elements are counted by owner: a network, a port, the base. Equal objects of several owners exist
once in the kernel and go with their last owner. How it is used:

    proposal = ledger.propose({owner: fragment})        # None: the owner wants nothing any more
    await nft.commit(proposal.remove, proposal.add)     # HostError: nothing happened, forget the proposal
    ledger.accept(proposal)
    for family, name in ledger.unlearned():             # libnftables lists some rules in another form than written
        ledger.learn(await nft.chain(family, name))

Between ``propose`` and ``accept`` no other proposal may be accepted (``accept`` refuses a stale one); several
owners' changes go into one proposal and one transaction.

Drift is found by handing in what was listed, whole tables or single chains and sets, and healed in one
transaction for all that one look brought up, as a rule needs the chains and sets it names:

    drift = merge(ledger.drift_chain(family, name, await nft.chain(family, name)), ledger.drift_set(…), …)
    await nft.commit(drift.remove, drift.add, drift.rules)  # the ledger itself does not change
    for drifted in drift.what: …                        # drifted.what in words, drifted.owners whose it is

``drift_rules`` is quicker where only rules of a chain were named: it compares handles, which are learned with the
listed form and must be forgotten when a chain is written (``forget_handles``) or somebody may have made its table anew
(``forget_table``).

If the kernel refuses a transaction because somebody changed the tables in between, list whole tables
(``drift_table``); the last resort is ``nft.rewrite(ledger.contents())``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TypeVar

from vnetd.plan.drift import (
    Drift,
    Drifted,
    compare_chain,
    compare_elements,
    compare_handles,
    foreign_set,
    listed_chain,
    merge,
    same_definition,
    single,
    spelled,
    union,
)
from vnetd.plan.holdings import Change, Holdings, Move, movements, same
from vnetd.plan.listing import same_rules
from vnetd.plan.rules import EMPTY, Chain, Element, Family, Fragment, Json, Set, TableContents

__all__ = ["Drift", "Drifted", "Ledger", "Proposal", "merge"]

Key = tuple[Family, str]
"""Where a chain or set is: family and name."""
ElementKey = tuple[Family, str, tuple[str, ...]]
Rules = tuple[tuple[Json, ...], ...]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Moves:
    chains: Mapping[Key, Move[Chain]]
    sets: Mapping[Key, Move[Set]]
    elements: Mapping[ElementKey, Move[Element]]


@dataclass(frozen=True, slots=True)
class _Changes:
    chains: dict[Key, Change[Chain]]
    sets: dict[Key, Change[Set]]
    elements: dict[ElementKey, Change[Element]]

    def remove(self) -> Fragment:
        return Fragment(
            tuple(change.before for change in self.chains.values() if change.before),
            tuple(change.before for change in self.sets.values() if change.before),
            frozenset(change.before for change in self.elements.values() if change.before),
        )

    def add(self) -> Fragment:
        return Fragment(
            tuple(change.after for change in self.chains.values() if change.after),
            tuple(change.after for change in self.sets.values() if change.after),
            frozenset(change.after for change in self.elements.values() if change.after),
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of one or more owners: what the kernel must be told, both parts empty if it has it all."""

    changes: Mapping[str, Fragment | None]
    remove: Fragment
    add: Fragment
    revision: int = field(repr=False)
    moves: _Moves = field(repr=False)


class Ledger:
    """Who wants what of the ruleset. See the module for how it is used.

    ``spares_foreign``: what nobody wants is no drift, for it is not known who wants what.
    """

    def __init__(self) -> None:
        self.spares_foreign = False
        self._fragments: dict[str, Fragment] = {}
        self._chains: Holdings[Key, Chain] = Holdings()
        self._sets: Holdings[Key, Set] = Holdings()
        self._elements: Holdings[ElementKey, Element] = Holdings()
        self._by_set: defaultdict[Key, dict[tuple[str, ...], Element]] = defaultdict(dict)
        self._normal: dict[Key, Rules] = {}
        self._handles: dict[Key, tuple[int, ...]] = {}
        self._revision = 0

    def fragment(self, owner: str) -> Fragment | None:
        """What the owner has, ``None`` for nothing."""
        return self._fragments.get(owner)

    def owners(self) -> AbstractSet[str]:
        """Everybody that has something, now and later."""
        return self._fragments.keys()

    def owners_of(self, thing: Chain | Set | Element) -> frozenset[str]:
        """Who wants this object (found by its name or key), nobody for a foreign one."""
        match thing:
            case Element():
                return self._elements.owners(thing.identity)
            case Chain():
                return self._chains.owners((thing.family, thing.name))
            case Set():
                return self._sets.owners((thing.family, thing.name))

    def wanted(self, things: Iterable[Chain | Set | Element]) -> frozenset[str]:
        """Who wants one of these."""
        return frozenset[str]().union(*map(self.owners_of, things))

    def contents(self) -> Fragment:
        """Everything, as the kernel should have it."""
        return Fragment(tuple(self._chains.values()), tuple(self._sets.values()), frozenset(self._elements.values()))

    def propose(self, changes: Mapping[str, Fragment | None]) -> Proposal:
        """The transaction that makes each owner's part the given fragment.

        Its cost grows with the fragments, not with what else is held. A chain that changes is in both parts (see
        ``Nft.commit``), and so is a set whose type changes, together with its elements and the chains that use it.
        Raises ``ValueError`` if two owners want the same object to be different, or an element without its set.
        """
        moves = self._moves(changes)
        found = _Changes(
            self._chains.changes(moves.chains),
            self._sets.changes(moves.sets),
            self._elements.changes(moves.elements),
        )
        self._check_sets(found)
        self._redefine(found)
        return Proposal(changes, found.remove(), found.add(), self._revision, moves)

    def accept(self, proposal: Proposal) -> None:
        """Record that the kernel took the proposal. Raises ``ValueError`` if another was accepted in between."""
        if proposal.revision != self._revision:
            raise ValueError("another proposal was accepted since this one was made: what it was made of is no more")
        self._revision += 1
        self._chains.apply(proposal.moves.chains)
        self._sets.apply(proposal.moves.sets)
        self._elements.apply(proposal.moves.elements)
        for chain in proposal.remove.chains:
            self._normal.pop((chain.family, chain.name), None)
        self.forget_handles(proposal.remove.chains)
        for element in proposal.remove.elements:
            self._by_set[element.family, element.set].pop(element.key, None)
        for element in proposal.add.elements:
            self._by_set[element.family, element.set][element.key] = element
        for owner, fragment in proposal.changes.items():
            self._fragments.pop(owner, None)
            if fragment is not None and fragment != EMPTY:
                self._fragments[owner] = fragment

    def unlearned(self) -> tuple[Key, ...]:
        """Chains whose listed form or handles are not known."""
        return tuple(key for key in self._chains if key not in self._handles)

    def learn(self, listed: TableContents | None) -> None:
        """Take the listed form of chains that were just written as theirs, and the handles of their rules.

        Chains that are learned already, are not ours, or have another number of rules than written (somebody was
        faster) are left out: as long as a chain is not learned, it is compared with what was written. Of a chain whose
        form is known the handles are taken if it is listed in that form.
        """
        if listed is None:
            return
        for name, rules in listed.chains.items():
            key = listed.family, name
            want, handles = self._chains.get(key), listed.handles.get(name, ())
            if want and len(rules) == len(want.rules):
                normal = self._normal.setdefault(key, rules)
                if len(handles) == len(rules) and same_rules(normal, rules):
                    self._handles[key] = handles

    def forget_handles(self, chains: Iterable[Chain]) -> None:
        """Note that these chains are written anew, or some of their rules."""
        for chain in chains:
            self._handles.pop((chain.family, chain.name), None)

    def forget_table(self, family: Family) -> None:
        """Note that somebody may have made this table anew: handles are counted from its beginning."""
        self._handles = {key: handles for key, handles in self._handles.items() if key[0] != family}

    def drift_table(self, family: Family, listed: TableContents | None) -> Drift:
        """Compare a whole table; ``None`` means it is missing."""
        if listed is None:
            return self._missing_table(family)
        chains = {name for of, name in self._chains if of == family} | set(listed.chains)
        sets = {name for of, name in self._sets if of == family} | set(listed.sets)
        return merge(
            *(self.drift_chain(family, name, listed) for name in sorted(chains)),
            *(self._redefined(family, name, listed) for name in sorted(sets)),
        )

    def drift_chain(self, family: Family, name: str, listed: TableContents | None) -> Drift:
        """Compare one chain with a listing of it or of its table; ``None`` means it is missing."""
        want = self._chains.get((family, name))
        normal = want and replace(want, rules=self._normal.get((family, name), want.rules))
        owners = self._chains.owners((family, name))
        if want is None and self.spares_foreign:
            return Drift()
        handles = listed.handles.get(name, ()) if listed else ()
        return compare_chain(want, normal, listed_chain(family, name, listed), owners, handles)

    def drift_rules(self, family: Family, name: str, handles: tuple[int, ...]) -> Drift | None:
        """Compare a chain by what the kernel calls its rules; ``None`` if that does not tell, so it is to be listed."""
        key = family, name
        want, known = self._chains.get(key), self._handles.get(key)
        return compare_handles(want, known, handles, self._chains.owners(key)) if want and known is not None else None

    def drift_set(self, family: Family, name: str, listed: frozenset[Element] | None) -> Drift:
        """Compare one set's elements with a listing of it; ``None`` means it is missing."""
        want = self._sets.get((family, name))
        if want is None:
            return Drift() if listed is None or self.spares_foreign else foreign_set(family, name, None)
        if listed is None:
            return single(f"{spelled('set', family, name)} is missing", self.owners_of(want), add=self._whole(want))
        if want.dynamic:
            return Drift()
        whole = self._whole(want).elements
        return compare_elements(want, whole, listed, self.owners_of, spare=self.spares_foreign)

    def _redefined(self, family: Family, name: str, listed: TableContents) -> Drift:
        """One set of a listed table, with its type."""
        want, have = self._sets.get((family, name)), listed.definitions.get(name)
        if want is None and have is not None:
            return Drift() if self.spares_foreign else foreign_set(family, name, have)
        if want is None or have is None or same_definition(want, have):
            return self.drift_set(family, name, listed.sets.get(name))
        users = Fragment(chains=tuple(chain for chain in self._chains.values() if _uses(chain, family, name)))
        there = (listed_chain(family, chain.name, listed) for chain in users.chains)
        remove = Fragment(chains=tuple(chain for chain in there if chain), sets=(have,))
        add = union((users, self._whole(want)))
        return single(f"{spelled('set', family, name)} has another type", self.owners_of(want), remove, add)

    def _whole(self, one: Set) -> Fragment:
        return Fragment(sets=(one,), elements=frozenset(self._by_set[one.family, one.name].values()))

    def _missing_table(self, family: Family) -> Drift:
        whole = self.contents()
        chains = tuple(chain for chain in whole.chains if chain.family == family)
        sets = tuple(one for one in whole.sets if one.family == family)
        if not chains and not sets:
            return Drift()
        owners = self.wanted((*chains, *sets))
        add = Fragment(chains, sets, frozenset(element for element in whole.elements if element.family == family))
        return single(f"table {family} vnetd is missing", owners, add=add)

    def _moves(self, changes: Mapping[str, Fragment | None]) -> _Moves:
        chains: defaultdict[Key, Move[Chain]] = defaultdict(Move)
        sets: defaultdict[Key, Move[Set]] = defaultdict(Move)
        elements: defaultdict[ElementKey, Move[Element]] = defaultdict(Move)
        for owner, fragment in changes.items():
            old, new = self._fragments.get(owner, EMPTY), fragment or EMPTY
            movements(owner, _named(old.chains), _named(new.chains), chains)
            movements(owner, _named(old.sets), _named(new.sets), sets)
            gone, come = old.elements - new.elements, new.elements - old.elements
            movements(owner, _identified(gone), _identified(come), elements)
        return _Moves(dict(chains), dict(sets), dict(elements))

    def _check_sets(self, found: _Changes) -> None:
        going: defaultdict[Key, int] = defaultdict(int)
        for (family, name, key), change in found.elements.items():
            where = (family, name)
            going[where] += change.after is None
            there = found.sets[where].after is not None if where in found.sets else where in self._sets
            if change.after and not there:
                raise ValueError(f"element {key} is for set {name} of family {family}, which nobody has")
        for where, redefined in found.sets.items():
            if redefined.after is None and len(self._by_set.get(where, ())) > going[where]:
                raise ValueError(f"set {where} goes while somebody has elements in it")

    def _redefine(self, found: _Changes) -> None:
        """A set of another type is another set: those that use it must let go of it, its elements come again."""
        for where, change in found.sets.items():
            if change.before is None or change.after is None:
                continue
            for chain in self._chains.values():
                if _uses(chain, *where):
                    found.chains.setdefault((chain.family, chain.name), Change(chain, chain))
            for element in self._by_set.get(where, {}).values():
                found.elements.setdefault(element.identity, Change(element, element))


def _named(things: Iterable[T]) -> dict[Key, T]:
    return _unique(((thing.family, thing.name), thing) for thing in things)  # type: ignore[attr-defined]


def _identified(elements: Iterable[Element]) -> dict[ElementKey, Element]:
    return _unique((element.identity, element) for element in elements)


K = TypeVar("K")


def _unique(pairs: Iterable[tuple[K, T]]) -> dict[K, T]:
    found: dict[K, T] = {}
    for key, value in pairs:
        if not same(found.setdefault(key, value), value):
            raise ValueError(f"{key} occurs twice in one fragment, with different contents")
    return found


def _uses(chain: Chain, family: Family, name: str) -> bool:
    return chain.family == family and chain.names({f"@{name}"})
