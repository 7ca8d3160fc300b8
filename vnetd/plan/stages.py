"""The transactions by which rules change, so that no packet meets one half of a change. Pure.

A packet keeps to the rules there were when it came to the hook, but finds elements as they are when it looks (nf_tables
has rules in two generations; a lookup takes the current one). So an element that comes together with the chain it leads
to leads such a packet into an empty chain, and an element that goes is missed by the rules that needed it: both let
through what old and new rules forbid. Therefore what is new comes first, then what leads to it is changed, and what
nothing leads to any more goes last.
"""

from collections.abc import Mapping

from vnetd.plan.rules import EMPTY, Chain, Family, Fragment, Set

Stage = tuple[Fragment, Fragment]
"""What goes and what comes in one transaction."""
Key = tuple[Family, str]


def stages(remove: Fragment, add: Fragment, kinds: Mapping[Key, Set]) -> tuple[Stage, ...]:
    """The transactions that make of ``remove`` what ``add`` is; one where nothing leads to it before or after.

    ``kinds`` describes the sets there are.
    """
    if not _replaces(remove, add):
        return ((remove, add),)
    first = _new(remove, add)
    last = _needless(remove, add, kinds)
    between = (_without(remove, last), _without(add, first))
    return tuple(stage for stage in ((EMPTY, first), between, (last, EMPTY)) if stage != (EMPTY, EMPTY))


def _replaces(remove: Fragment, add: Fragment) -> bool:
    """Whether something takes another's place. A set that becomes another type can only do so with all that uses it."""
    if _keys(remove.sets) & _keys(add.sets):
        return False
    places = {element.identity for element in remove.elements}
    return bool(_keys(remove.chains) & _keys(add.chains)) or any(one.identity in places for one in add.elements)


def _new(remove: Fragment, add: Fragment) -> Fragment:
    """What acts on no packet before something leads to it."""
    there = _keys(remove.chains)
    chains = tuple(one for one in add.chains if one.hook is None and (one.family, one.name) not in there)
    # A dynamic set comes with a rule that fills it, see ``Set``.
    sets = tuple(one for one in add.sets if not one.dynamic or any(chain.names({f"@{one.name}"}) for chain in chains))
    names = _keys(sets)
    return Fragment(chains, sets, frozenset(one for one in add.elements if (one.family, one.set) in names))


def _needless(remove: Fragment, add: Fragment, kinds: Mapping[Key, Set]) -> Fragment:
    """What can go after all else."""
    stay, filled = _keys(add.chains), {(one.family, one.set) for one in add.elements}
    places = {one.identity for one in add.elements}
    # Ranges must not overlap, so those that go make room for those that come.
    narrow = {key for key in filled if key in kinds and "interval" in kinds[key].flags}
    return Fragment(
        tuple(one for one in remove.chains if one.hook is None and (one.family, one.name) not in stay),
        remove.sets,
        frozenset(one for one in remove.elements if one.identity not in places and (one.family, one.set) not in narrow),
    )


def _without(whole: Fragment, part: Fragment) -> Fragment:
    chains, sets = _keys(part.chains), _keys(part.sets)
    return Fragment(
        tuple(one for one in whole.chains if (one.family, one.name) not in chains),
        tuple(one for one in whole.sets if (one.family, one.name) not in sets),
        whole.elements - part.elements,
    )


def _keys(things: tuple[Chain, ...] | tuple[Set, ...]) -> set[Key]:
    return {(thing.family, thing.name) for thing in things}
