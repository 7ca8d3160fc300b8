"""Values that came from documents, made fit for a terminal and for one line."""

import re
import unicodedata

_PLAIN = re.compile(r"[ -~]*")


def printable(value: object) -> str:
    """``value`` as one line of text in which whatever steers a terminal or hides text stands as an escape."""
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def xml_printable(document: str) -> str:
    """An XML document for a terminal: the same document, unprintable characters but line ends as references."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"&#x{ord(char):x};" for char in document)


def width(text: str) -> int:
    """Terminal columns that printable ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def shown(value: object) -> str:
    """A value of a table's cell: yes or no, lists joined, nothing as ``-``."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{printable(name)}={shown(item)}" for name, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(item) for item in value) or "-"
    return "-" if value is None or value == "" else printable(value)
