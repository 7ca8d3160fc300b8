"""Tables: aligned columns for pipes and files, drawn by rich on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from vnetctl.text import width

if TYPE_CHECKING:
    from rich.text import Text

GAP = "  "
_STYLES = {"active": "green", "degraded": "yellow", "failed": "bold red", "starting": "cyan", "stopping": "cyan"}


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart; every line ends without white space."""
    lines = [header, *rows]
    widths = [max(width(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (size - width(cell)) for cell, size in zip(cells, widths, strict=True))
    return GAP.join(padded).rstrip() + "\n"


def draw(header: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """For a terminal: what does not fit is folded, never cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(_styled(cell) for cell in row))
    Console(file=stream, highlight=False).print(table)


def _styled(cell: str) -> "Text":
    """Text objects, because in a plain string rich would take brackets for markup."""
    from rich.text import Text

    return Text(cell, style=_STYLES.get(cell, ""))


def labelled(pairs: Sequence[tuple[str, Sequence[str]]]) -> str:
    """``Label:   value`` lines, a value's further lines below the first."""
    indent = max((width(label) for label, _ in pairs), default=0) + 1 + len(GAP)
    lines = []
    for label, values in pairs:
        first, *others = values or ["-"]
        lines.append(f"{label}:".ljust(indent) + first)
        lines.extend(" " * indent + other for other in others)
    return "".join(line.rstrip() + "\n" for line in lines)
