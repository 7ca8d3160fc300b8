"""A rule with the values of its variables: which go into shared sets, which make rules of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vnetd.model.errors import Invalid
from vnetd.model.filter import Attribute
from vnetd.ruleset.filter_lookups import Lookup, Row, lookup
from vnetd.ruleset.filter_resolve import Placed
from vnetd.ruleset.filter_variables import MAX_COMBINATIONS, Group, Values, combinations, count, evaluate, groups


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

    def form(self, parameters: Mapping[str, Sequence[str]]) -> tuple[Form, Sequence[tuple[Lookup, Sequence[Row]]]]:
        """How these values are realised, and what goes into sets.

        Raises ``Invalid`` for values that do not fit and for more than 100,000 combinations.
        """
        values = [evaluate(self.placed, group, parameters) for group in self.groups]
        if count(values) > MAX_COMBINATIONS:
            raise Invalid(
                f"filter {self.placed.origin}: the variables of one rule make {count(values)} combinations; "
                f"{MAX_COMBINATIONS} are the most"
            )
        lookups: list[tuple[Lookup, Sequence[Row]]] = []
        private, always = [], []
        for one, where in zip(values, self.lookups, strict=True):
            if where is None or (rows := where.rows(self.placed.origin, one)) is None:
                private.append(one)
            elif where.negated and one.rows and not rows:
                always.append(one)
            else:
                lookups.append((where, rows))
        return Form(tuple(where for where, _ in lookups), tuple(private), tuple(always)), lookups

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
    return Variables(placed, found, tuple(lookup(placed, group) for group in found))


def constants(placed: Placed) -> dict[str, Attribute]:
    """The attributes of a rule that are no variables."""
    match = placed.rule.match
    return {name: one for name, one in match.values.items() if not one.value.startswith("$")} if match else {}
