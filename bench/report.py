"""The tables, and the same as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.figures import Figure
from bench.job import Measured


def compared(vnetd: Measured, libvirt: Measured) -> list[tuple[str, float, float, float, str]]:
    """Rows of what, vnetd's, libvirt's, how many times better vnetd is (below 1: worse), unit."""
    rows = []
    for what in ("start", "stop", "bind", "unbind"):
        ours, theirs = median(getattr(vnetd, what)) * 1000, median(getattr(libvirt, what)) * 1000
        rows.append((what, ours, theirs, theirs / ours, "ms"))
    rows.append(("read calls", vnetd.reads, libvirt.reads, vnetd.reads / libvirt.reads, "1/s"))
    ours, theirs = vnetd.resident / 1e6, libvirt.resident / 1e6
    rows.append(("resident", ours, theirs, theirs / ours, "MB"))
    return rows


def draw(console: Console, vnetd: Measured, libvirt: Measured, figures: list[Figure]) -> None:
    """Both tables."""
    table = Table(title="vnetd and libvirt, the same documents, medians")
    for column in ("", "vnetd", "libvirt", "ratio", "unit"):
        table.add_column(column, justify="left" if column in ("", "unit") else "right")
    for what, ours, theirs, ratio, unit in compared(vnetd, libvirt):
        table.add_row(what, f"{ours:,.1f}", f"{theirs:,.1f}", f"{ratio:.2f}", unit)
    console.print(table)
    console.print("ratio: how many times better vnetd is; below 1 libvirt is better", highlight=False)
    table = Table(title="vnetd's own figures")
    for column in ("", "measured", "at most", "unit", "", "note"):
        table.add_column(column, justify="right" if column in ("measured", "at most") else "left")
    for figure in figures:
        aim = "" if figure.aim is None else f"{figure.aim:,.1f}"
        mark = "" if figure.aim is None else "[green]ok[/]" if figure.holds else "[red]MISSED[/]"
        table.add_row(figure.what, f"{figure.value:,.2f}", aim, figure.unit, mark, figure.note)
    console.print(table)


def save(path: Path, vnetd: Measured, libvirt: Measured, figures: list[Figure]) -> None:
    """Everything measured, for comparing one run with another."""
    content = {
        "vnetd": asdict(vnetd),
        "libvirt": asdict(libvirt),
        "figures": [asdict(figure) | {"holds": figure.holds} for figure in figures],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
