"""A rule with the values of its variables: which go into shared sets, which make rules of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vnetd.model.errors import Invalid
from vnetd.model.filter import Attribute
from vnetd.plan.rules import Set
from vnetd.ruleset.filter_resolve import Placed
from vnetd.ruleset.filter_tests import operands, partner
from vnetd.ruleset.filter_uses import digest
from vnetd.ruleset.filter_variables import MAX_COMBINATIONS, Group, Values, combinations, count, evaluate, groups

MAX_FIELDS = 4
"""Fields beside the interface in a set: libnftables before 1.0.7 loses a sixth component when it lists."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Attributes whose values are looked up together, with the interface, in a set."""

    attributes: tuple[str, ...]
    negated: bool
    set: Set


@dataclass(frozen=True, slots=True)
class Form:
    """How the variables of a rule are realised. Equal forms of one rule make equal rules.

    ``private`` groups are spelled out in rules; ``always`` names attributes that match everything. ``own_chain``
    says that the rule is in a chain made anew for each port, with values that are none of this form's business.
    """

    lookups: tuple[Lookup, ...] = ()
    private: tuple[Values, ...] = ()
    always: tuple[Values, ...] = ()
    own_chain: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """A rule with its constants and the form of its variables."""

    placed: Placed
    fixed: Mapping[str, Attribute]
    form: Form

    @property
    def version(self) -> int:
        """The version of IP a rule of the network layer is about, 0 for others."""
        return self.placed.rule.match.spec.version if self.placed.rule.match and self.placed.layer == 3 else 0

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """What is looked up in sets."""
        return self.form.lookups

    def alternatives(self) -> Iterator[Mapping[str, Attribute]]:
        """Attributes with each combination of the values that are spelled out; once nothing if none are."""
        match = self.placed.rule.match
        for combination in combinations(self.form.private):
            assert match is not None
            yield {name: match.values[name].model_copy(update={"value": value}) for name, value in combination.items()}


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables of one rule, worked out once."""

    placed: Placed
    groups: tuple[Group, ...]
    lookups: tuple[Lookup | None, ...]
    """For each group the set its values go to; ``None``: they are spelled out."""

    def form(self, parameters: Mapping[str, Sequence[str]]) -> tuple[Form, Sequence[tuple[Lookup, Values]]]:
        """How these values are realised, and what goes into sets.

        Raises ``Invalid`` for values that do not fit and for more than 100,000 combinations.
        """
        values = [evaluate(self.placed, group, parameters) for group in self.groups]
        if count(values) > MAX_COMBINATIONS:
            raise Invalid(
                f"filter {self.placed.origin}: the variables of one rule make {count(values)} combinations; "
                f"{MAX_COMBINATIONS} are the most"
            )
        lookups: list[tuple[Lookup, Values]] = []
        private, always = [], []
        for one, lookup in zip(values, self.lookups, strict=True):
            if lookup is None:
                private.append(one)
            elif lookup.negated and len(one.rows) > 1:
                always.append(one)
            else:
                lookups.append((lookup, one))
        return Form(tuple(lookup for lookup, _ in lookups), tuple(private), tuple(always)), lookups

    def shared(self, form: Form) -> Form:
        """The form as chains that ports share see it: what is spelled out in a chain besides is left out.

        Only link-layer chains are entered in a way that allows each port its own.
        """
        if form.private and self.placed.layer == 2 and self.placed.chain != "root":
            return replace(form, private=(), own_chain=True)
        return form


def variables(placed: Placed) -> Variables:
    """Work out the variables of a rule."""
    found = groups(placed.rule.match)
    return Variables(placed, found, tuple(_lookup(placed, group) for group in found))


def constants(placed: Placed) -> dict[str, Attribute]:
    """The attributes of a rule that are no variables."""
    match = placed.rule.match
    return {name: one for name, one in match.values.items() if not one.value.startswith("$")} if match else {}


def _lookup(placed: Placed, group: Group) -> Lookup | None:
    """The set for a group, ``None`` where a set cannot say it."""
    match = placed.rule.match
    assert match is not None
    possible = operands(match.spec, match.values)
    types = [possible[name].type if name in possible else "" for name in group.attributes]
    negated = any(match.values[name].negated for name in group.attributes)
    if not all(types) or len(types) > MAX_FIELDS or (negated and len(types) > 1):
        return None
    if any(partner(name) in match.values for name in group.attributes):
        return None
    if match.spec.layer == 3 and "srcmacaddr" in group.attributes and len(types) > 1:
        return None  # it is left out in one direction
    sources = [(str(one), placed.scope.get(one.name)) for one in group.variables]
    name = f"values_{digest((types, sources))}"
    return Lookup(group.attributes, negated, Set("bridge", name, ("ifname", *types)))
