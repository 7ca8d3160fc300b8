"""What reading a document yields."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A value and what its author should know: what was dropped, and what is surely a mistake."""

    value: T
    warnings: tuple[str, ...] = ()
