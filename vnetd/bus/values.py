"""What callers put into dictionaries, as plain values."""

from collections.abc import Mapping
from typing import Any

from dbus_next.signature import Variant

from vnetd.model.errors import Invalid
from vnetd.service.api import Option

BOOLEAN = frozenset("b")
STRING = frozenset("s")
INTEGER = frozenset("ynqiuxt")  # scripts should not need to know which one

WORDS = {BOOLEAN: "a boolean (b)", STRING: "a string (s)", INTEGER: "an integer (i)"}

LENIENT = {"lenient": BOOLEAN}
CONFIRM = {"confirm": INTEGER}
NONE: Mapping[str, frozenset[str]] = {}


def decode_options(given: Mapping[str, Variant], known: Mapping[str, frozenset[str]]) -> dict[str, Option]:
    """Options by name, each of a type that ``known`` lists. Raises ``Invalid`` naming those that are not known."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        names = ", ".join(repr(name) for name in unknown)
        allowed = f"known here: {', '.join(sorted(known))}" if known else "none is known here"
        raise Invalid(f"unknown option {names}; {allowed}")
    for name, variant in given.items():
        if variant.signature not in known[name]:
            raise Invalid(f"option '{name}' must be {WORDS[known[name]]}, not of type '{variant.signature}'")
    return decode_spec(given)


def decode_spec(given: Mapping[str, Variant]) -> dict[str, Option]:
    """Values by name; strings, booleans, integers and lists of strings, as ``decode_body`` lets nothing else in."""
    return {name: tuple(v.value) if isinstance(v.value, list) else v.value for name, v in given.items()}


def decode_parameters(given: Mapping[str, Variant]) -> dict[str, tuple[str, ...]]:
    """Filter parameters; a string stands for a list of one. Raises ``Invalid`` for other types."""
    return {name: _strings(name, variant) for name, variant in given.items()}


def _strings(name: str, variant: Variant) -> tuple[str, ...]:
    match variant.signature:
        case "s":
            return (variant.value,)
        case "as":
            return tuple(variant.value)
    raise Invalid(f"parameter '{name}' must be a string (s) or a list of strings (as), not '{variant.signature}'")


def encode_plain(values: Mapping[str, Any]) -> dict[str, Variant]:
    """Plain values by name as ``a{sv}``."""
    return {name: _variant(value) for name, value in values.items()}


def _variant(value: Any) -> Variant:
    match value:
        case bool():
            return Variant("b", value)
        case int():
            return Variant("x", value)
        case str():
            return Variant("s", value)
        case _:
            return Variant("as", [str(item) for item in value])
