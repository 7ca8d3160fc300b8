"""Native JSON: text from anybody to model values, and back.

The model is strict here: a number is no text, a truth value no word. A name that is given twice in an object is
refused, for which of the two was meant nobody can say.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vnetd.model.breach import Breach, Path, first_breach, inside
from vnetd.model.errors import Invalid
from vnetd.xmlcodec.xml import SPACE, check_size

M = TypeVar("M", bound=BaseModel)

_LONGEST_SHOWN = 80


def load_object(text: str) -> dict[str, Any]:
    """The JSON object of a document. Raises ``Invalid`` if it is anything else, or larger than 1 MiB."""
    text = text.removeprefix("\ufeff")
    check_size(text)
    if not text.strip(SPACE):
        raise Invalid("the document is empty")
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise Invalid("the document is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Invalid(f"line {error.lineno}: the document is neither XML nor JSON: {error.msg.lower()}") from None
    except ValueError:  # Python bounds the digits of a number it reads
        raise Invalid("a number in the document has too many digits") from None
    if not isinstance(found, dict):
        raise Invalid("the document is JSON, but no object: {…} is needed")
    return found


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Invalid(f"field {_shown(name)} is given twice in one object")
        found[name] = value
    return found


def _refuse_constant(word: str) -> None:
    raise Invalid(f"{word} is no value of a document: a number is needed")


def from_json(model: type[M], text: str, *, lenient: bool, strict: bool = True) -> tuple[M, list[str]]:
    """The model value of a document, and what was dropped with ``lenient``.

    Raises ``Invalid`` with one sentence that names path, value and rule.
    """
    raw = load_object(text)
    warnings: list[str] = []
    if lenient:
        warnings = _drop_unknown(model, raw, strict)
    try:
        return model.model_validate_json(_encoded(raw), strict=strict), warnings
    except ValidationError as error:
        raise Invalid(describe(first_breach(error), raw)) from None


def _encoded(raw: dict[str, Any]) -> bytes:
    try:
        return json.dumps(raw, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        raise Invalid("a text in the document is no valid Unicode text") from None


def to_json(value: BaseModel) -> str:
    """The document without what is at its default, in the model's order of fields."""
    fields = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def describe(breach: Breach, raw: object) -> str:
    """``addresses[0].dhcp.ranges[1].end '192.0.2.9': rule``; the value is left out where it is an object or list."""
    here, path = raw, ""
    for part in breach.path:
        if isinstance(part, int) and (here is None or isinstance(here, list)):
            path += f"[{part}]"
            here = here[part] if here and part < len(here) else None
        elif isinstance(part, str) and (here is None or isinstance(here, dict)):
            path += f".{part}" if path else part
            here = here.get(part) if here else None
        # else it is the branch of a union, which is no place of its own
    value = "" if here is None or isinstance(here, dict | list) else f" {_shown(here)}"
    return f"{path or 'document'}{value}: {breach.rule}"


def _drop_unknown(model: type[M], raw: dict[str, Any], strict: bool) -> list[str]:
    """Take unknown fields out of ``raw``; what else is wrong is found afterwards."""
    try:
        model.model_validate_json(_encoded(raw), strict=strict)
    except ValidationError as error:
        unknown = [tuple(one["loc"]) for one in error.errors() if one["type"] == "extra_forbidden"]
        return [warning for path in unknown if (warning := _drop(raw, path))]
    return []


def _drop(raw: dict[str, Any], path: Path) -> str | None:
    here: Any = raw
    for part in path[:-1]:
        here = inside(here, part)
    if not isinstance(here, dict) or path[-1] not in here:
        return None
    warning = describe(Breach(path, "this field is unknown: dropped"), raw)
    del here[path[-1]]
    return warning


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
