"""A filter bound to a device, as nftables objects in ``bridge vnetd``. Pure.

Ports share chains; what differs between them are elements of maps and sets keyed by interface name, so that binding
a filter that is bound elsewhere adds elements only.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vnetd.model.errors import Unsupported
from vnetd.model.filter import Action, Filter
from vnetd.plan.features import PLAIN, BridgeFeatures
from vnetd.plan.rules import Element, Fragment
from vnetd.ruleset.filter_bound import Bound, Form, Variables, constants, variables
from vnetd.ruleset.filter_chains import Shape, build, own_chain
from vnetd.ruleset.filter_resolve import Placed, Side, arrange, check_definition, flatten, references
from vnetd.ruleset.filter_uses import Uses, digest
from vnetd.ruleset.filter_variables import missing

__all__ = [
    "Compiled",
    "admits_only_by",
    "check_definition",
    "compile_binding",
    "references",
    "unresolved",
]

LAYOUTS, SHAPES = 128, 256
"""Filters, and forms of one filter, that are kept compiled."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a bound filter contributes to the ruleset, and what its author should know."""

    fragment: Fragment
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """A filter resolved. ``filters`` keeps the definitions alive whose identity is the key in the cache."""

    filters: tuple[Filter, ...]
    identity: str
    rules: tuple[Placed, ...]
    sides: tuple[Side, Side]
    variables: tuple[Variables, ...]
    needed: Mapping[str, str]
    shapes: dict[tuple[object, ...], Shape] = field(default_factory=dict)


_layouts: dict[tuple[str, tuple[int, ...]], _Layout] = {}


def compile_binding(
    filters: Mapping[str, Filter],
    filter_name: str,
    device: str,
    mac: str,
    parameters: Mapping[str, Sequence[str]],
    features: BridgeFeatures = PLAIN,
) -> Compiled:
    """The rules of ``filter_name`` for one device. ``MAC`` is ``mac`` ("": unknown) unless a parameter says otherwise.
    One without any value matches nothing.

    ``features`` are those of the kernel the rules are for.

    Raises ``Invalid`` naming a missing filter, a variable without value, an index outside its list or a value that
    does not fit; ``Unsupported`` naming what cannot be realised there.
    """
    layout = _layout(filters, filter_name)
    given: dict[str, tuple[str, ...]] = {"MAC": (mac,)} if mac else {}
    given |= {name: tuple(values) for name, values in parameters.items()}
    missing(layout.needed, given)
    bound = [(one, *one.form(given)) for one in layout.variables]
    shape = _shape(layout, tuple(one.shared(form) for one, form, _ in bound), features)
    uses = Uses()
    forms = {id(one.placed): form for one, form, _ in bound}
    own = {one.map.name: own_chain(one, _bounds(one.members, forms), uses) for one in shape.own}
    for one, form, _ in bound:
        _warn_of_always(one.placed, form, uses)
    sets = {one.name: one for one in (*shape.sets, *uses.sets.values())}
    elements = {
        *(Element("bridge", map_, (device,), f"goto {chain}") for map_, chain in shape.entries.items()),
        *(Element("bridge", map_, (device,), f"jump {chain.name}") for map_, chain in own.items()),
        *(
            Element("bridge", lookup.set.name, (device, *row))
            for _, _, lookups in bound
            for lookup, rows in lookups
            for row in rows
            if lookup.set.name in sets  # not those of rules that have no effect
        ),
    }
    chains = {one.name: one for one in (*shape.chains, *uses.chains.values(), *own.values())}
    fragment = Fragment(tuple(chains.values()), tuple(sets.values()), frozenset(elements))
    return Compiled(fragment, tuple(dict.fromkeys((*shape.warnings, *uses.warnings))))


def unresolved(filters: Mapping[str, Filter], filter_name: str, given: Collection[str]) -> frozenset[str]:
    """Variables of a filter that have no value, neither in ``given`` nor in a reference that leads to them.

    Raises ``Invalid`` naming a missing filter.
    """
    return frozenset(_layout(filters, filter_name).needed.keys() - set(given))


def admits_only_by(filters: Mapping[str, Filter], filter_name: str, names: Collection[str]) -> None:
    """Raise ``Unsupported`` if a rule does anything else for the values of these variables than let packets pass.

    Only then is a filter stricter while there are none yet.
    """
    for one in _layout(filters, filter_name).variables:
        rule = one.placed.rule
        used = {variable.name for group in one.groups for variable in group.variables} & set(names)
        passes = rule.action in {Action.ACCEPT, Action.RETURN}
        if used and (not passes or (rule.match and any(one.negated for one in rule.match.attributes))):
            raise Unsupported(
                f"filter {one.placed.origin} does not only let pass what {', '.join(sorted(used))} names: "
                "it cannot be in force before that is known, so give it"
            )


def _bounds(rules: Iterable[Placed], forms: Mapping[int, Form]) -> dict[int, Bound]:
    return {id(one): Bound(one, constants(one), forms.get(id(one), Form())) for one in rules}


def _warn_of_always(placed: Placed, form: Form, uses: Uses) -> None:
    match_ = placed.rule.match
    for values in (*form.always, *form.private):
        named = zip(values.group.attributes, values.group.variables, strict=True)
        if match_ and len(values.rows) > 1 and all(match_.values[name].negated for name in values.group.attributes):
            what = ", ".join(f"{name} ({variable})" for name, variable in named)
            uses.warn(
                f"filter {placed.origin}: negated {what} has {len(values.rows)} values; each makes a rule of its own, "
                "so together they match every packet, which is surely a mistake"
            )


def _layout(filters: Mapping[str, Filter], name: str) -> _Layout:
    closure = _closure(filters, name)
    key = (name, tuple(map(id, closure)))
    found = _layouts.get(key)
    if found is None:
        found = _resolve(filters, name, closure)
        while len(_layouts) >= LAYOUTS:
            del _layouts[next(iter(_layouts))]
        _layouts[key] = found
    return found


def _closure(filters: Mapping[str, Filter], name: str) -> tuple[Filter, ...]:
    """The filter and all it refers to, as far as they exist."""
    found = {name: filters[name]} if name in filters else {}
    for one in (waiting := list(found.values())):
        fresh = {other: filters[other] for other in one.references if other in filters and other not in found}
        found |= fresh
        waiting += fresh.values()
    return tuple(found.values())


def _resolve(filters: Mapping[str, Filter], name: str, closure: tuple[Filter, ...]) -> _Layout:
    rules = flatten(filters, name)
    found = [one for one in map(variables, rules) if one.groups]
    needed = {
        variable.name: one.placed.origin
        for one in found
        for group in one.groups
        for variable in group.variables
        if variable.name not in one.placed.scope
    }
    identity = digest((name, sorted((one.name, one.model_dump_json(exclude={"uuid"})) for one in closure)))
    return _Layout(closure, identity, rules, (arrange(rules, False), arrange(rules, True)), tuple(found), needed)


def _shape(layout: _Layout, forms: tuple[Form, ...], features: BridgeFeatures) -> Shape:
    key = (*forms, features)
    found = layout.shapes.get(key)
    if found is None:
        by_rule = {id(one.placed): form for one, form in zip(layout.variables, forms, strict=True)}
        found = build(layout.identity, layout.rules, layout.sides, _bounds(layout.rules, by_rule), features)
        while len(layout.shapes) >= SHAPES:
            del layout.shapes[next(iter(layout.shapes))]
        layout.shapes[key] = found
    return found
