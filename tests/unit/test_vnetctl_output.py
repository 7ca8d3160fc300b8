"""What people and programs see: tables, JSON and documents, and nothing that steers a terminal."""

import io
import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vnetctl.output import Output
from vnetctl.table import plain
from vnetctl.text import printable, shown, width, xml_printable

COLUMNS = (("Name", "name"), ("State", "state"), ("Addresses", "addresses"), ("Autostart", "autostart"))
HOSTILE = "\x1b]0;owned\x07\x9b2J\u202egnp\nx"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def row(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "state": "active", "addresses": ["192.0.2.1/24"], "autostart": True, **more}


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    stream = io.StringIO()
    Output(stream).table(COLUMNS, [row("default"), row("a", addresses=[], autostart=False)])
    assert stream.getvalue() == (
        "Name     State   Addresses     Autostart\n"
        "default  active  192.0.2.1/24  yes\n"
        "a        active  -             no\n"
    )  # fmt: skip


def test_an_empty_table_has_its_header() -> None:
    stream = io.StringIO()
    Output(stream).table(COLUMNS, [])
    assert stream.getvalue() == "Name  State  Addresses  Autostart\n"


def test_wide_and_combining_characters_do_not_shift_columns() -> None:
    first, second, third = plain(("Name", "X"), (("網路", "1"), ("e\u0301tage", "2"))).splitlines()
    assert width(first[: first.index("X")]) == width(second[: second.index("1")]) == width(third[: third.index("2")])


def test_one_object_is_shown_as_labelled_lines() -> None:
    stream = io.StringIO()
    Output(stream).labelled((("Name", "name"), ("Problems", "problems")), {"name": "a", "problems": ["one", "two"]})
    assert stream.getvalue() == "Name:      a\nProblems:  one\n           two\n"


def test_nothing_to_show_is_a_dash() -> None:
    stream = io.StringIO()
    Output(stream).labelled((("Name", "name"), ("Problems", "problems")), {"name": "", "problems": []})
    assert stream.getvalue() == "Name:      -\nProblems:  -\n"


def test_json_has_whole_rows_whatever_the_columns() -> None:
    stream = io.StringIO()
    rows = [row("ä", healed_count=3)]
    Output(stream, as_json=True).table(COLUMNS, rows)
    assert stream.getvalue().isascii()
    assert json.loads(stream.getvalue()) == rows


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_hostile_name_steers_no_terminal_and_adds_no_line(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    out = stream()
    Output(out).table(COLUMNS, [row(HOSTILE), row("[red]b[/red]")])
    Output(out).labelled(COLUMNS, row(HOSTILE))
    Output(out).line(HOSTILE)
    text = out.getvalue()
    assert all(char.isprintable() or char == "\n" for char in text.replace("\u2500", "-"))
    assert text.count(r"\x1b]0;owned\x07\x9b2J\u202egnp\nx") == 3
    assert "[red]b[/red]" in text


def test_a_table_on_a_terminal_folds_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "25")  # unless both are said, rich takes a dumb terminal to be 80 wide
    out = Terminal()
    Output(out).table(COLUMNS, [row("a-rather-long-name-for-a-network")])
    _, _, rows = out.getvalue().partition("\u2500\n")
    lines = rows.splitlines()
    assert len(lines) > 1
    assert "".join(line[:9].strip() for line in lines) == "a-rather-long-name-for-a-network"
    assert "192.0.2.1/24".startswith(lines[0].split()[2])


def test_a_document_is_unchanged_for_a_program() -> None:
    document = "<network>\u009b\u202e\n</network>\n"
    out = io.StringIO()
    Output(out).document(document)
    assert out.getvalue() == document


def test_a_document_on_a_terminal_is_the_same_document_without_what_steers_it() -> None:
    document = "<network>\n  <description>\u009b2J \u202e ä \x7f</description>\n</network>\n"
    out = Terminal()
    Output(out).document(document)
    assert all(char.isprintable() or char == "\n" for char in out.getvalue())
    assert ET.canonicalize(out.getvalue()) == ET.canonicalize(document)


def test_a_json_document_on_a_terminal_shows_escapes() -> None:
    out = Terminal()
    Output(out).document('{"a": "\x9b"}')
    assert out.getvalue() == '{"a": "\\x9b"}\n'


@given(st.text())
def test_printable_text_is_one_line_that_is_shown_as_it_is(text: str) -> None:
    made = printable(text)
    assert made.isprintable()
    assert printable(made) == made
    assert made == text or not text.isprintable()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="<&>\ufffe\uffff")))
def test_xml_for_a_terminal_says_the_same(text: str) -> None:
    document = f"<a b='x'>{text}</a>"
    made = xml_printable(document)
    assert made.isprintable()
    assert ET.fromstring(made).text == ET.fromstring(document).text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (0, "0"),
        ({"IP": ["1", "2"]}, "IP=1, 2"),
    ],
)
def test_values_in_cells(value: object, text: str) -> None:
    assert shown(value) == text
