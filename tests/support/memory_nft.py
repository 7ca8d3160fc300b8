"""``host.Nft`` in memory: keeps objects and refuses what the kernel refuses; it evaluates no rule.

Its tables can be tampered with as another process would, which is reported to the listener like the kernel does.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial

from vnetd.host.commit import Commit
from vnetd.host.events import RulesEvent
from vnetd.model.errors import HostError
from vnetd.plan.drift import canonical
from vnetd.plan.features import PLAIN
from vnetd.plan.rules import (
    Chain,
    Count,
    Element,
    Family,
    Fragment,
    Json,
    MissingRule,
    Set,
    Stranger,
    TableContents,
)

MISSING = "No such file or directory"
IN_USE = "Device or resource busy"
EXISTS = "File exists"
Key = tuple[str, ...]


@dataclass(slots=True)
class Table:
    """What one table holds; a set's elements by key, handles of a chain's rules by its name."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    elements: dict[str, dict[Key, Element]] = field(default_factory=dict)
    handles: dict[str, tuple[int, ...]] = field(default_factory=dict)
    last: int = 0

    def copy(self) -> "Table":
        """A copy that can be changed; the values in it are shared."""
        elements = {name: dict(held) for name, held in self.elements.items()}
        return Table(dict(self.chains), dict(self.sets), elements, dict(self.handles), self.last)

    def splice(self, name: str, start: int, end: int, rules: tuple[tuple[Json, ...], ...]) -> None:
        """Put rules in the place of those from ``start`` to ``end`` of a chain; they get handles of their own."""
        chain, handles = self.chains[name], self.handles.get(name, ())
        for target in _targets(rules):
            _need(target in self.chains or target.removeprefix("@") in self.sets, f"{target} in chain {name}")
        self.chains[name] = replace(chain, rules=(*chain.rules[:start], *deepcopy(rules), *chain.rules[end:]))
        new = range(self.last + 1, self.last + 1 + len(rules))
        self.handles[name] = (*handles[:start], *new, *handles[end:])
        self.last += len(rules)


class MemoryCommit(Commit):
    """One that in memory is awaited: there are no threads."""

    def __init__(self, commit: Callable[[], Awaitable[None]]) -> None:
        super().__init__(_not_awaited)
        self._act = commit

    async def act(self) -> None:
        """Do it."""
        try:
            await self._act()
        except HostError:
            self.refused = True
            raise
        self.done = True


def _not_awaited() -> None:
    raise AssertionError("it is to be awaited")


class MemoryNft:
    """All tables. ``commits`` are the transactions that were taken; ``refuse`` makes the next one fail."""

    def __init__(self) -> None:
        self.claimable = False
        self.features = PLAIN
        self.tables: dict[Family, Table] = {}
        self.commits: list[tuple[Fragment, Fragment]] = []
        self.refuse: str | None = None
        self.others: tuple[Stranger, ...] = ()
        self._listener: Callable[[RulesEvent], None] = lambda _: None

    def subscribe(self, listener: Callable[[RulesEvent], None]) -> None:
        """Report foreign changes to ``listener``."""
        self._listener = listener

    async def commit(self, remove: Fragment, add: Fragment, rules: Sequence[MissingRule] = ()) -> None:
        """Take the transaction whole or not at all."""
        tables = {family: table.copy() for family, table in self.tables.items()}
        self._obey()
        _remove(tables, remove, {(chain.family, chain.name): chain.hook for chain in add.chains})
        _add(tables, add)
        for rule in rules:
            _put_back(tables, rule)
        self.tables = tables
        self.commits.append((remove, add))

    def committing(self, remove: Fragment, add: Fragment) -> MemoryCommit:
        """A transaction for whoever makes what it is for."""
        return MemoryCommit(partial(self.commit, remove, add))

    async def rewrite(self, contents: Fragment) -> None:
        """Replace everything."""
        tables: dict[Family, Table] = {}
        self._obey()
        _add(tables, contents)
        self.tables = tables
        self.commits.append((Fragment(), contents))

    async def clear(self) -> None:
        """Delete all tables."""
        self._obey()
        self.tables.clear()

    async def table(self, family: Family) -> TableContents | None:
        """All of one table."""
        table = self.tables.get(family)
        if table is None:
            return None
        return TableContents(
            family,
            {name: deepcopy(chain.rules) for name, chain in table.chains.items()},
            {name: chain.hook for name, chain in table.chains.items() if chain.hook},
            {name: _shown(table, name) for name in table.sets},
            {name: replace(one, flags=tuple(sorted(one.flags))) for name, one in table.sets.items()},
            {name: table.handles.get(name, ()) for name in table.chains},
        )

    async def chain(self, family: Family, name: str) -> TableContents | None:
        """One chain."""
        listed = await self.table(family)
        if listed is None or name not in listed.chains:
            return None
        hooks = {name: listed.hooks[name]} if name in listed.hooks else {}
        handles = {name: listed.handles[name]}
        return TableContents(family, {name: listed.chains[name]}, hooks, handles=handles)

    async def handles(self, family: Family, chain: str) -> tuple[int, ...]:
        """Handles of a chain's rules."""
        return self.tables[family].handles.get(chain, ()) if family in self.tables else ()

    async def set(self, family: Family, name: str) -> frozenset[Element] | None:
        """The elements of one set."""
        table = self.tables.get(family)
        return _shown(table, name) if table and name in table.sets else None

    async def counts(self, family: Family, chains: Collection[str]) -> Mapping[str, tuple[Count, ...]]:
        """No packet has come by."""
        table = self.tables.get(family, Table())
        return {name: (Count(),) * len(table.chains[name].rules) for name in chains if name in table.chains}

    async def strangers(self) -> tuple[Stranger, ...]:
        """What a test says others have."""
        return self.others

    def flush_ruleset(self, cause: str = "nft") -> None:
        """What ``nft flush ruleset`` does."""
        events = [event for family, table in self.tables.items() for event in _everything(family, table, cause)]
        self.tables = {}
        self._report(*events)

    def delete_rule(self, family: Family, chain: str, place: int, cause: str = "nft") -> None:
        """Delete one rule."""
        self.tables[family].splice(chain, place, place + 1, ())
        self._report(RulesEvent(family, "rules", chain, cause))

    def delete_element(self, element: Element, cause: str = "nft") -> None:
        """Delete one element."""
        table = self.tables[element.family]
        del table.elements[element.set][_key(table, element)]
        self._report(RulesEvent(element.family, "set", element.set, cause))

    def add_element(self, element: Element, cause: str = "nft") -> None:
        """Add one element."""
        _add_element(self.tables, element)
        self._report(RulesEvent(element.family, "set", element.set, cause))

    def _report(self, *events: RulesEvent) -> None:
        for event in events:
            self._listener(event)

    def _obey(self) -> None:
        reason, self.refuse = self.refuse, None
        if reason is not None:
            raise HostError("commit rules", "what was asked", reason)


def _everything(family: Family, table: Table, cause: str) -> Iterator[RulesEvent]:
    yield from (RulesEvent(family, "chain", name, cause) for name in table.chains)
    yield from (RulesEvent(family, "set", name, cause) for name in table.sets)
    yield RulesEvent(family, "table", "vnetd", cause)


def _shown(table: Table, name: str) -> frozenset[Element]:
    return frozenset() if table.sets[name].dynamic else frozenset(table.elements[name].values())


def _remove(tables: dict[Family, Table], remove: Fragment, kept: dict[tuple[Family, str], object]) -> None:
    for one in remove.sets:
        _table(tables, one.family, one.name).elements[one.name] = {}
        _need(one.name in tables[one.family].sets, f"set {one.name}")
    for element in remove.elements - _elements_of(remove):
        table = _table(tables, element.family, element.set)
        _need(element.set in table.sets, f"set {element.set}")
        _need(table.elements[element.set].pop(_key(table, element), None) is not None, f"element {element.key}")
    for chain in remove.chains:
        if chain.hook and chain.hook.device and (chain.family, chain.name) not in kept:  # may be gone with its device
            _table(tables, chain.family, chain.name).chains.setdefault(chain.name, chain)
        _need(chain.name in _table(tables, chain.family, chain.name).chains, f"chain {chain.name}")
        held = tables[chain.family].chains[chain.name]
        tables[chain.family].splice(chain.name, 0, len(held.rules), ())
    for chain in remove.chains:
        if kept.get((chain.family, chain.name), chain) != chain.hook:
            _unused(tables[chain.family], chain.name, f"chain {chain.name}")
            del tables[chain.family].chains[chain.name]
            tables[chain.family].handles.pop(chain.name, None)
    for one in remove.sets:
        _unused(tables[one.family], f"@{one.name}", f"set {one.name}")
        del tables[one.family].sets[one.name], tables[one.family].elements[one.name]


def _elements_of(remove: Fragment) -> frozenset[Element]:
    """Elements that go with their set."""
    gone = {(one.family, one.name) for one in remove.sets}
    return frozenset(element for element in remove.elements if (element.family, element.set) in gone)


def _add(tables: dict[Family, Table], add: Fragment) -> None:
    for family in {chain.family for chain in add.chains} | {one.family for one in add.sets}:
        tables.setdefault(family, Table())
    for one in add.sets:
        table = tables[one.family]
        _allow(table.sets.get(one.name, one) == one, f"set {one.name}")
        table.sets[one.name] = one
        table.elements.setdefault(one.name, {})
    for chain in add.chains:
        empty = replace(chain, rules=())
        tables[chain.family].chains.setdefault(chain.name, empty)
    for chain in add.chains:
        table = tables[chain.family]
        end = len(table.chains[chain.name].rules)
        table.splice(chain.name, end, end, chain.rules)
    for element in add.elements:
        _add_element(tables, element)


def _put_back(tables: dict[Family, Table], missing: MissingRule) -> None:
    chain = missing.chain
    table = _table(tables, chain.family, chain.name)
    _need(chain.name in table.chains, f"chain {chain.name}")
    handles = table.handles.get(chain.name, ())
    _need(missing.before in (0, *handles), f"rule in chain {chain.name}")
    place = handles.index(missing.before) if missing.before else len(handles)
    table.splice(chain.name, place, place, (chain.rules[missing.place],))


def _add_element(tables: dict[Family, Table], element: Element) -> None:
    table = _table(tables, element.family, element.set)
    _need(element.set in table.sets, f"set {element.set}")
    verdict, _, target = element.data.partition(" ")
    _need(verdict not in {"goto", "jump"} or target in table.chains, f"chain {target}")
    shown = canonical(element, table.sets[element.set])
    _allow(table.elements[element.set].setdefault(shown.key, shown) == shown, f"element {element.key}")


def _key(table: Table, element: Element) -> Key:
    return canonical(element, table.sets[element.set]).key


def _table(tables: dict[Family, Table], family: Family, what: str) -> Table:
    _need(family in tables, what)
    return tables[family]


def _targets(json: Json) -> Iterator[str]:
    """Chains and sets (``@name``) that rules name."""
    if isinstance(json, dict):
        for name, value in json.items():
            if name in {"jump", "goto"}:
                yield value["target"]
            else:
                yield from _targets(value)
    elif isinstance(json, list | tuple):
        for value in json:
            yield from _targets(value)
    elif isinstance(json, str) and json.startswith("@"):
        yield json


def _unused(table: Table, target: str, what: str) -> None:
    used = any(target in _targets(chain.rules) for chain in table.chains.values())
    held = (element.data for members in table.elements.values() for element in members.values())
    if used or any(data.partition(" ")[2] == target for data in held):
        raise HostError("commit rules", what, IN_USE)


def _need(there: bool, what: str) -> None:
    if not there:
        raise HostError("commit rules", what, MISSING)


def _allow(free: bool, what: str) -> None:
    if not free:
        raise HostError("commit rules", what, EXISTS)
