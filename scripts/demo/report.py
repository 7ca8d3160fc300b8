"""What happened and how long it took."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step: ``milliseconds`` it took, whether it held, and what was seen."""

    what: str
    held: bool
    milliseconds: float
    seen: str


class Report:
    """Runs steps one after another, says how each went, and goes on when one fails."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._outcomes: list[Outcome] = []

    @property
    def held(self) -> bool:
        """Whether every step did, and there was one."""
        return bool(self._outcomes) and all(outcome.held for outcome in self._outcomes)

    async def step(self, what: str, action: Callable[[], Awaitable[tuple[float, str]]]) -> bool:
        """``action`` returns the seconds of what is worth timing and what was seen, or raises; whether it held."""
        began = time.perf_counter()
        try:
            seconds, seen = await action()
        except Exception as error:  # the show goes on, the exit status tells
            seconds, seen = time.perf_counter() - began, f"{type(error).__name__}: {error}"
            self._add(Outcome(what, False, seconds * 1000, seen))
            return False
        self._add(Outcome(what, True, seconds * 1000, seen))
        return True

    def _add(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        mark = "[green]held[/]  " if outcome.held else "[red]FAILED[/]"
        self._console.print(f"{mark} {escape(outcome.what)}: {escape(outcome.seen)}", highlight=False)

    def draw(self) -> None:
        """The table at the end."""
        table = Table(title="vnetd in throwaway namespaces")
        for column, justify in (("what", "left"), ("held", "left"), ("ms", "right"), ("seen", "left")):
            table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
        for outcome in self._outcomes:
            held = "[green]yes[/]" if outcome.held else "[red]NO[/]"
            first = outcome.seen.partition("\n")[0]
            table.add_row(escape(outcome.what), held, f"{outcome.milliseconds:.1f}", escape(first))
        self._console.print(table)
