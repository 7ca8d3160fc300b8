"""From named filters to one flat, ordered list of rules (libvirt's nwfilter, "filter instantiation")."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from vnetd.model.errors import Invalid
from vnetd.model.filter import Direction, Filter, Parameters, Reference, Rule, chain_prefix

MAX_DEPTH = 64
MAX_RULES = 10_000
"""Rules and references one filter may come to when all its references are followed."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One rule in its place. ``scope`` holds the parameters of the references that led to it."""

    rule: Rule
    origin: str
    chain: str
    chain_priority: int
    priority: int
    scope: Parameters

    @property
    def layer(self) -> int:
        """2 or 3; a rule without protocol is one of the link layer."""
        return self.rule.match.spec.layer if self.rule.match else 2

    def applies(self, towards_guest: bool) -> bool:
        """Whether a link-layer rule belongs to that side."""
        return self.rule.direction in {Direction.INOUT, Direction.IN if towards_guest else Direction.OUT}


def references(filters: Mapping[str, Filter], name: str) -> set[str]:
    """Names of all filters ``name`` refers to, directly or not, whether or not they exist."""
    found: set[str] = set()
    open_names = [name]
    while open_names:
        current = filters.get(open_names.pop())
        fresh = current.references - found if current else frozenset()
        found |= fresh
        open_names += fresh
    return found


def check_definition(filters: Mapping[str, Filter], new: Filter) -> None:
    """Raise ``Invalid`` if ``new`` among ``filters`` would refer to itself, or grow beyond all bounds."""
    everything = {**filters, new.name: new}
    if new.name in references(everything, new.name):
        raise Invalid(f"filter {new.name} refers to itself{_loop(everything, new.name)}")
    for _ in _walk(everything, new.name, {}, _Budget(new.name), missing_is_fine=True):
        pass


def flatten(filters: Mapping[str, Filter], name: str) -> tuple[Placed, ...]:
    """All rules of ``name``: references followed depth first, root chain first, then by priority, stable.

    Raises ``Invalid`` naming a filter that is missing or refers to itself.
    """
    rules = list(_walk(filters, name, {}, _Budget(name)))
    rules.sort(key=lambda placed: (placed.chain != "root", placed.priority))
    return tuple(_raised(placed) for placed in rules)


def _raised(placed: Placed) -> Placed:
    """Below its chain's priority a rule of a chain of its own gets that one; the order stays."""
    if placed.chain == "root" or placed.priority >= placed.chain_priority:
        return placed
    return replace(placed, priority=placed.chain_priority)


class _Budget:
    def __init__(self, name: str) -> None:
        self.name = name
        self.left = MAX_RULES
        self.path: list[str] = []

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Invalid(f"filter {self.name} comes to more than {MAX_RULES} rules with all its references")


def _walk(
    filters: Mapping[str, Filter], name: str, scope: Parameters, budget: _Budget, missing_is_fine: bool = False
) -> Iterator[Placed]:
    current = filters.get(name)
    if current is None:
        if missing_is_fine:
            return
        raise Invalid(_missing(name, budget.path))
    if name in budget.path:
        raise Invalid(f"filter {name} refers to itself: {' → '.join([*budget.path, name])}")
    if len(budget.path) >= MAX_DEPTH:
        raise Invalid(f"filter {budget.name} refers to others more than {MAX_DEPTH} levels deep")
    budget.path.append(name)
    for entry in current.entries:
        budget.spend()
        if isinstance(entry, Reference):
            yield from _walk(filters, entry.filter, {**entry.parameters, **scope}, budget, missing_is_fine)
        else:
            yield Placed(entry, name, current.chain, current.priority, entry.priority, scope)
    budget.path.pop()


def _missing(name: str, path: list[str]) -> str:
    if not path:
        return f"filter {name} does not exist"
    return f"filter {name}, which filter {path[-1]} refers to, does not exist: define it first"


def _loop(filters: Mapping[str, Filter], name: str) -> str:
    """The way from ``name`` back to itself, in words."""
    paths = [[name]]
    seen: set[str] = set()
    for path in paths:
        for following in sorted(filters[path[-1]].references if path[-1] in filters else ()):
            if following == name:
                return f": {' → '.join([*path, name])}"
            if following not in seen:
                seen.add(following)
                paths.append([*path, following])
    return ""


@dataclass(frozen=True, slots=True)
class Jump:
    """The place in the root chain where a chain of its own is entered."""

    chain: str


@dataclass(frozen=True, slots=True)
class Side:
    """The link-layer rules of one direction: the root chain in order, and the chains entered from it."""

    root: tuple[Placed | Jump, ...]
    chains: Mapping[str, tuple[Placed, ...]]


def arrange(rules: tuple[Placed, ...], towards_guest: bool) -> Side:
    """Chains are entered before the first root rule whose priority is not below theirs (tie: chain first).

    Chains of equal priority come in the order their rules are in. A chain exists only where it has a rule.
    """
    chosen = [placed for placed in rules if placed.layer == 2 and placed.applies(towards_guest)]
    chains: dict[str, list[Placed]] = {}
    priorities: dict[str, int] = {}
    for placed in chosen:
        if placed.chain != "root":
            chains.setdefault(placed.chain, []).append(placed)
            priorities[placed.chain] = placed.chain_priority
    waiting = sorted(chains, key=priorities.__getitem__)
    root: list[Placed | Jump] = []
    for placed in (placed for placed in chosen if placed.chain == "root"):
        while waiting and priorities[waiting[0]] <= placed.priority:
            root.append(Jump(waiting.pop(0)))
        root.append(placed)
    root += [Jump(chain) for chain in waiting]
    return Side(tuple(root), {chain: tuple(members) for chain, members in chains.items()})


ETHERTYPES: Mapping[str, int] = {"ipv4": 0x800, "ipv6": 0x86DD, "arp": 0x806, "rarp": 0x8035, "vlan": 0x8100}


def chain_ethertype(chain: str) -> int | None:
    """The ethertype of the frames a chain sees, ``None`` if it sees all."""
    return ETHERTYPES.get(chain_prefix(chain))
