"""What all updates of a section share: the change that is wanted, and lists with one item more, less or other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from vnetd.model.errors import Exists, Invalid, NotFound
from vnetd.xmlcodec.reader import Element

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One update: ``command`` is modify, delete, add-last or add-first; ``element`` the root of the snippet."""

    command: str
    element: Element

    @property
    def adds(self) -> bool:
        """Whether something is added."""
        return self.command.startswith("add-")

    def insert(self, items: Sequence[T], item: T) -> tuple[T, ...]:
        """``items`` with one more, at the end the command names."""
        return (item, *items) if self.command == "add-first" else (*items, item)

    def exists(self, what: str) -> NoReturn:
        """Raise ``Exists``: something like the snippet is there already."""
        raise Exists(f"{self.element.place()}: {what} exists already")

    def missing(self, what: str) -> NoReturn:
        """Raise ``NotFound``: nothing like the snippet is there."""
        raise NotFound(f"{self.element.place()}: there is no such {what}")

    def one(self, found: Sequence[int], what: str) -> int:
        """The only index in ``found``. Raises ``NotFound`` or, for several, ``Invalid``."""
        if not found:
            self.missing(what)
        if len(found) > 1:
            raise Invalid(f"{self.element.place()}: {len(found)} entries match: say more about the {what}")
        return found[0]


def replaced(items: Sequence[T], index: int, item: T) -> tuple[T, ...]:
    """``items`` with another one at ``index``."""
    return (*items[:index], item, *items[index + 1 :])


def removed(items: Sequence[T], index: int) -> tuple[T, ...]:
    """``items`` without the one at ``index``."""
    return (*items[:index], *items[index + 1 :])
