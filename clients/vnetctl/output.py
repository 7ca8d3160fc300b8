"""The one place that writes results: for people or, with ``--json``, for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import TextIO

from vnetctl.table import draw, labelled, plain
from vnetctl.text import printable, shown, xml_printable

Row = Mapping[str, object]
Column = tuple[str, str]
"""A column's title and the key of its values."""


class Output:
    """Results go to ``stream``. A method's arguments are raw values: each is made safe here."""

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        self.stream = stream
        self.as_json = as_json

    def table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """A header and a row each; as JSON the whole rows, whatever the columns."""
        if self.as_json:
            self.json(rows)
            return
        header = [title for title, _ in columns]
        cells = [[shown(row.get(key)) for _, key in columns] for row in rows]
        if self.stream.isatty():
            draw(header, cells, self.stream)
        else:
            self._write(plain(header, cells))

    def listing(self, columns: Sequence[Column], rows: Sequence[Row], *, only: str | None) -> None:
        """A table, or the one value ``only`` of each row on a line, for scripts."""
        if only is None:
            self.table(columns, rows)
        elif self.as_json:
            self.json([row[only] for row in rows])
        else:
            self._write("".join(printable(row[only]) + "\n" for row in rows))

    def labelled(self, columns: Sequence[Column], row: Row) -> None:
        """One object, a line for each column; a list gets a line for each item. As JSON the whole row."""
        if self.as_json:
            self.json(row)
            return
        self._write(labelled([(title, _lines(row.get(key))) for title, key in columns]))

    def done(self, sentence: str, facts: Row | Sequence[Row]) -> None:
        """What has been done; ``facts`` instead for programs."""
        if self.as_json:
            self.json(facts)
        else:
            self.line(sentence)

    def line(self, text: str) -> None:
        """One line of text, out at once."""
        self._write(printable(text) + "\n")
        self.stream.flush()

    def json_line(self, value: object) -> None:
        """One value on one line, out at once."""
        self._write(json.dumps(value, default=str) + "\n")
        self.stream.flush()

    def json(self, value: object) -> None:
        """JSON in ASCII, which no terminal takes for a command."""
        self._write(json.dumps(value, indent=2, default=str) + "\n")

    def document(self, document: str) -> None:
        """A document as it is when a program reads it; on a terminal the same with nothing in it that steers it."""
        text = document if document.endswith("\n") else document + "\n"
        if not self.stream.isatty():
            self._write(text)
        elif text.lstrip().startswith("<"):
            self._write(xml_printable(text))
        else:
            self._write("".join(printable(line) + "\n" for line in text.splitlines()))

    def _write(self, text: str) -> None:
        self.stream.write(text)


def _lines(value: object) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    if isinstance(value, dict):
        return [f"{printable(name)}: {shown(item)}" for name, item in value.items()]
    return [shown(value)]
