"""What of the ruleset is not as it should be, and the transaction that repairs it. Pure comparisons."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address, ip_network, summarize_address_range
from itertools import chain, repeat
from operator import eq
from typing import Literal

from vnetd.plan.listing import same_rules
from vnetd.plan.rules import EMPTY, Chain, Element, Family, Fragment, Json, MissingRule, Set, TableContents

Owners = frozenset[str]
NOBODY: Owners = frozenset()


@dataclass(frozen=True, slots=True)
class Drifted:
    """One thing that is not as it should be, in words, the owners that want it (none: it is foreign), and its repair.

    Drift of many things is healed in one transaction, see ``Drift``.
    """

    what: str
    owners: Owners
    remove: Fragment = field(default=EMPTY, compare=False)
    add: Fragment = field(default=EMPTY, compare=False)
    rules: tuple[MissingRule, ...] = field(default=(), compare=False)

    @property
    def things(self) -> tuple[Chain | Set | Element, ...]:
        """What it is about: what its repair puts there, of a set not its elements as well."""
        chains = (*self.add.chains, *(rule.chain for rule in self.rules))
        return (*chains, *self.add.sets) or tuple(self.add.elements)


@dataclass(frozen=True, slots=True)
class Drift:
    """What is not as it should be and the transaction (see ``Nft.commit``) that repairs it; false for nothing."""

    what: tuple[Drifted, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.what)

    @property
    def remove(self) -> Fragment:
        """What goes."""
        return union(drifted.remove for drifted in self.what)

    @property
    def add(self) -> Fragment:
        """What comes."""
        return union(drifted.add for drifted in self.what)

    @property
    def rules(self) -> tuple[MissingRule, ...]:
        """Rules that are put back singly: those of chains that are not filled anew."""
        refilled = {(chain.family, chain.name) for drifted in self.what for chain in drifted.add.chains}
        single = (rule for drifted in self.what for rule in drifted.rules)
        return tuple(rule for rule in single if (rule.chain.family, rule.chain.name) not in refilled)

    def without(self, spare: Collection[str]) -> "Drift":
        """All but what ``spare`` names."""
        return Drift(tuple(drifted for drifted in self.what if drifted.what not in spare))


def merge(*drifts: Drift) -> Drift:
    """One drift, to be healed in one transaction: a rule needs the chains and sets it names."""
    return Drift(tuple(drifted for drift in drifts for drifted in drift.what))


def union(fragments: Iterable[Fragment]) -> Fragment:
    """All of them together; a chain or set that several have is there once."""
    parts = list(fragments)
    return Fragment(
        tuple({(one.family, one.name): one for part in parts for one in part.chains}.values()),
        tuple({(one.family, one.name): one for part in parts for one in part.sets}.values()),
        frozenset().union(*(part.elements for part in parts)),
    )


def single(what: str, owners: Owners, remove: Fragment = EMPTY, add: Fragment = EMPTY) -> Drift:
    """Drift of one thing."""
    return Drift((Drifted(what, owners, remove, add),))


def spelled(kind: Literal["chain", "set"], family: Family, name: str) -> str:
    """A chain or set as nft names it: another family may have one of the same name, and is another matter."""
    return f"{kind} {family} vnetd {name}"


def listed_chain(family: Family, name: str, listed: TableContents | None) -> Chain | None:
    """A chain as it was listed, ``None`` if it was not."""
    if listed is None or name not in listed.chains:
        return None
    return Chain(family, name, listed.chains[name], listed.hooks.get(name))


def compare_chain(
    want: Chain | None, normal: Chain | None, have: Chain | None, owners: Owners, handles: Sequence[int] = ()
) -> Drift:
    """``normal`` is ``want`` in the form it is listed in, ``handles`` are those of the rules of ``have`` if known.

    Where rules are missing and nothing else, only these are written: the others keep what they have counted.
    """
    if have is None:
        return single(f"{_chain(want)} is missing", owners, add=Fragment(chains=(want,))) if want else Drift()
    remove = Fragment(chains=(have,))
    if want is None:
        return single(f"{_chain(have)} is foreign", owners, remove=remove)
    if have == normal or (normal and have.hook == normal.hook and same_rules(have.rules, normal.rules)):
        return Drift()
    what = "rules" if have.hook == want.hook else "another hook or policy"
    verb = "has changed" if have.hook == want.hook else "has"
    words = f"{_chain(want)} {verb} {what}"
    if normal and have.hook == want.hook and (lost := _missing_rules(normal.rules, have.rules, handles)):
        missing = tuple(MissingRule(want, place, before) for place, before in lost)
        return Drift((Drifted(words, owners, rules=missing),))
    return single(words, owners, remove, Fragment(chains=(want,)))


def compare_handles(want: Chain, known: Sequence[int], have: Sequence[int], owners: Owners) -> Drift | None:
    """``known`` are the handles of the rules of ``want``; ``None`` if ``have`` does not tell what there is besides."""
    if known == have:
        return Drift()
    if not (lost := _missing_rules(known, have, have, eq)):
        return None
    missing = tuple(MissingRule(want, place, before) for place, before in lost)
    return Drift((Drifted(f"{_chain(want)} has changed rules", owners, rules=missing),))


def _missing_rules(
    want: Sequence[Json], have: Sequence[Json], handles: Sequence[int], same: Callable[[Json, Json], bool] = same_rules
) -> list[tuple[int, int]]:
    """Places of the wanted rules that are missing, each with the handle of the rule it comes before (0: none).

    None at all if the rules that are there are not some of the wanted ones in their order, or have no handles.
    """
    if len(handles) != len(have):
        return []
    missing: list[tuple[int, int]] = []
    found = 0
    for place, rule in enumerate(want):
        if found < len(have) and same(rule, have[found]):
            found += 1
        else:
            missing.append((place, handles[found] if found < len(have) else 0))
    return missing if found == len(have) else []


def compare_elements(
    one: Set, want: frozenset[Element], have: frozenset[Element], owners: Callable[[Element], Owners], *, spare: bool
) -> Drift:
    """Elements of the set ``one``; with ``spare`` foreign ones are no drift."""
    extra = set(have - want)
    missing = {element: canonical(element, one) for element in want - have}
    for element, shown in list(missing.items()):
        if shown in extra:
            extra.remove(shown)
            del missing[element]
    found = {element.key: element for element in extra}
    what = []
    for element, shown in missing.items():
        other = found.pop(shown.key, None)
        state = "has another verdict" if other else "is missing"
        what.append(Drifted(f"{_words(element)} {state}", owners(element), _only(other), _only(element)))
    if not spare:
        what += [Drifted(f"{_words(element)} is foreign", NOBODY, _only(element)) for element in found.values()]
    return Drift(tuple(sorted(what, key=lambda drifted: drifted.what)))


def _only(element: Element | None) -> Fragment:
    return Fragment(elements=frozenset({element})) if element else EMPTY


def foreign_set(family: Family, name: str, definition: Set | None) -> Drift:
    """A set nobody wants."""
    remove = Fragment(sets=(definition or Set(family, name, ()),))
    return single(f"{spelled('set', family, name)} is foreign", NOBODY, remove)


IMPLIED = {"timeout", "dynamic"}
"""Flags that follow from time-outs and rules, and that not every libnftables shows."""


def same_definition(want: Set, have: Set) -> bool:
    """Whether a listed set is the wanted one. The kernel fills in sizes, libnftables flags."""
    return (
        (want.key, want.data) == (have.key, have.data)
        and set(want.flags) - IMPLIED == set(have.flags) - IMPLIED
        and want.timeout == have.timeout
        and want.size in {None, have.size}
    )


def canonical(element: Element, one: Set) -> Element:
    """The element of set ``one`` as a listing shows it."""
    return replace(element, key=canonical_key(element.key, one.key))


def canonical_key(key: Iterable[str], types: Sequence[str]) -> tuple[str, ...]:
    """A key as a listing shows it: a range that is a prefix as such, a prefix of full length as address."""
    kinds = chain((kind == "ifname" for kind in types), repeat(False))
    return tuple(part if is_name else _canonical(part) for part, is_name in zip(key, kinds, strict=False))


@lru_cache(maxsize=4096)
def _canonical(part: str) -> str:
    try:
        if "/" in part:
            network = ip_network(part)
            return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
        if "-" not in part:
            return str(ip_address(part)) if ":" in part else part
        first, last = part.split("-")
        if first.isdigit() and last.isdigit():
            return first if int(first) == int(last) else part
        networks = list(summarize_address_range(ip_address(first), ip_address(last)))
    except (ValueError, TypeError):
        return part
    return _canonical(str(networks[0])) if len(networks) == 1 else part


def _chain(one: Chain) -> str:
    return spelled("chain", one.family, one.name)


def _words(element: Element) -> str:
    return f"element {', '.join(element.key)} of {spelled('set', element.family, element.set)}"
