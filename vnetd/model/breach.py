"""A broken rule: where in a document, and which rule. What pydantic finds is brought into this form."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Breach:
    """``path`` leads from the root to the value, by the names of native JSON; ``rule`` says what is broken."""

    path: Path
    rule: str


def breach(rule: str, *path: str | int) -> PydanticCustomError:
    """To be raised by a validator: the value at ``path``, counted from the validated value, breaks ``rule``."""
    # The text goes through the context, for the template would take braces in it for fields.
    return PydanticCustomError("rule", "{rule}", {"rule": rule, "path": path})


def first_breach(error: ValidationError) -> Breach:
    """The first rule ``error`` is about."""
    first = error.errors(include_url=False)[0]
    context: dict[str, Any] = first.get("ctx", {})
    path: Path = tuple(first["loc"])
    match first["type"]:
        case "rule":
            return Breach(path + tuple(context["path"]), context["rule"])
        case "value_error":
            return Breach(path, str(context["error"]))
        case "missing":
            return Breach(path[:-1], f"{path[-1]} is needed")
        case "extra_forbidden":
            return Breach(path, "this field is unknown")
    return Breach(path, first["msg"][:1].lower() + first["msg"][1:])


def inside(value: Any, part: str | int) -> Any:
    """What is there under a key or index; a part that is no place of its own (the branch of a union) leads nowhere."""
    if isinstance(value, dict) and part in value:
        return value[part]
    if isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
        return value[part]
    return value
