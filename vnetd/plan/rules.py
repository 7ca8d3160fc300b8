"""nftables objects as values: what a ruleset consists of, independent of any transport.

Expressions are libnftables JSON (docs: libnftables-json(5)), already built; nothing here is text of the nft
language. A ``Fragment`` is what one owner (a network, a port, the base) contributes; the ruleset of the host is
the union of all fragments. Chains and sets that several fragments name are shared and must be equal.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal, get_args

Family = Literal["inet", "bridge", "netdev"]
FAMILIES: tuple[Family, ...] = get_args(Family)
"""Each has one table of vnetd's."""
Json = Any
"""A libnftables JSON expression."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain is attached; ``priority`` is a number. vnetd's own have policy accept, others are drift.

    In family netdev it is at one ``device``, which must be there before Linux 6.16 and then takes the hook with it
    when it goes. JSON of libnftables before 1.1 does not tell it.
    """

    type: str
    hook: str
    priority: int
    policy: str = "accept"
    device: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain and all its rules; each rule is a tuple of statements (libnftables JSON).

    The kernel counts what matches each rule of one that is ``counted``; counters are none of its statements.
    """

    family: Family
    name: str
    rules: tuple[tuple[Json, ...], ...]
    hook: Hook | None = None
    counted: bool = field(default=False, compare=False)

    def names(self, texts: Collection[str]) -> bool:
        """Whether its rules name any of these: chains by their names, sets as ``@name``."""
        return any(text in texts for text in _texts(self.rules))


@dataclass(frozen=True, slots=True)
class MissingRule:
    """Rule number ``place`` of a chain that has lost it and stays: it comes before the rule with the handle
    ``before``, 0 for the end.
    """

    chain: Chain
    place: int
    before: int


@dataclass(frozen=True, slots=True)
class Stranger:
    """A base chain of another program's, with all chains and set elements of its table.

    ``chains`` maps names to rules, ``sets`` names to elements, both as libnftables lists them.
    """

    family: str
    table: str
    name: str
    hook: Hook
    chains: Mapping[str, tuple[tuple[Json, ...], ...]]
    sets: Mapping[str, tuple[Json, ...]]


@dataclass(frozen=True, slots=True)
class Count:
    """What has matched a rule since it was made."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Set:
    """A named set, or a map if ``data`` is given (``verdict`` or a data type).

    ``key`` are nftables type names, at most five (older libnftables loses the sixth when it lists).
    ``size`` and ``timeout`` (seconds) are for sets the packet path fills (``flags`` has ``dynamic``); their
    elements belong to the kernel and are no drift. One without a time-out must come in the same transaction as a
    rule that fills it: that makes libnftables tell the kernel.
    """

    family: Family
    name: str
    key: tuple[str, ...]
    data: str | None = None
    flags: tuple[str, ...] = ()
    size: int | None = None
    timeout: int | None = None

    @property
    def dynamic(self) -> bool:
        """Whether packets add elements."""
        return "dynamic" in self.flags


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a set or map.

    ``key`` has one text a component: an interface name, an address, ``address/length``, ``first-last``, a number.
    ``data`` is "" for sets, else ``goto CHAIN``, ``jump CHAIN``, ``accept``, ``drop`` or ``return``.
    """

    family: Family
    set: str
    key: tuple[str, ...]
    data: str = ""

    @property
    def identity(self) -> tuple[Family, str, tuple[str, ...]]:
        """What no other element of the ruleset has: family, set and key."""
        return self.family, self.set, self.key


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one owner contributes to the ruleset."""

    chains: tuple[Chain, ...] = ()
    sets: tuple[Set, ...] = ()
    elements: frozenset[Element] = frozenset()


EMPTY = Fragment()


def _texts(json: Json) -> Iterator[str]:
    if isinstance(json, str):
        yield json
    elif isinstance(json, dict):
        yield from chain.from_iterable(map(_texts, json.values()))
    elif isinstance(json, list | tuple):
        yield from chain.from_iterable(map(_texts, json))


@dataclass(frozen=True, slots=True)
class TableContents:
    """What the kernel holds in one of our tables, as listed. ``rules`` are normalised: no counters.

    ``chains`` maps a chain's name to its rules, ``hooks`` a base chain's name to where it is attached, ``sets`` a
    set's name to its elements (none for dynamic sets), ``definitions`` to what it is and ``handles`` a chain's name
    to what the kernel calls each of its rules.
    """

    family: Family
    chains: Mapping[str, tuple[tuple[Json, ...], ...]] = field(default_factory=lambda: MappingProxyType({}))
    hooks: Mapping[str, Hook] = field(default_factory=lambda: MappingProxyType({}))
    sets: Mapping[str, frozenset[Element]] = field(default_factory=lambda: MappingProxyType({}))
    definitions: Mapping[str, Set] = field(default_factory=lambda: MappingProxyType({}))
    handles: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}), compare=False)


def port_owner(uuid: str) -> str:
    """Owner of a port's part of the ruleset, and the port's key."""
    return f"port:{uuid}"
