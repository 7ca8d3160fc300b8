"""What reading a document yields."""

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T", covariant=True)

MAX_WARNINGS: Final = 100
"""A document of 1 MiB has room for 200,000 mistakes, and each warning becomes a line of the journal."""


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A value and what its author should know: what was dropped, and what is surely a mistake.

    Of very many warnings the first are kept, and how many more there were.
    """

    value: T
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (more := len(self.warnings) - MAX_WARNINGS) > 0:
            object.__setattr__(self, "warnings", (*self.warnings[:MAX_WARNINGS], f"and {more} more warnings"))
