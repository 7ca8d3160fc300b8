"""XML from anybody: text to a tree of nodes, and nodes to text.

Nothing but elements, attributes, text and comments is accepted: no document type and so no entity of the
document's own, no processing instruction. Size and depth are bounded. Every failure is ``Invalid``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from vnetd.model.errors import Invalid

MAX_BYTES: Final = 1024 * 1024
"""Bytes of a document as UTF-8; the contracts in dbus/ say the same."""
MAX_DEPTH: Final = 32
XML_NAMESPACE: Final = "http://www.w3.org/XML/1998/namespace"
SPACE: Final = " \t\r\n"
DNSMASQ: Final = "http://libvirt.org/schemas/network/dnsmasq/1.0"
"""Namespace of raw dnsmasq options in a <network>."""

_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Comment(str):
    """A comment among the content of an element."""

    __slots__ = ()


@dataclass(slots=True)
class Node:
    """An element: its tag as written, attributes as written without ``xmlns``, and all its content in order."""

    tag: str
    attributes: dict[str, str]
    line: int
    declarations: dict[str, str] = field(default_factory=dict)
    parent: "Node | None" = None
    content: "list[Node | str]" = field(default_factory=list)

    @property
    def children(self) -> "Iterator[Node]":
        """Child elements in order."""
        return (one for one in self.content if isinstance(one, Node))

    @property
    def text(self) -> str:
        """Its own text without comments."""
        return "".join(one for one in self.content if isinstance(one, str) and not isinstance(one, Comment))

    @property
    def local(self) -> str:
        """The tag without its prefix."""
        return self.tag.rpartition(":")[2]

    @property
    def namespace(self) -> str:
        """The namespace of its tag, empty if it has none."""
        return self.resolve(self.tag.rpartition(":")[0]) or ""

    def resolve(self, prefix: str) -> str | None:
        """What ``prefix`` stands for here, ``None`` if nobody declared it."""
        node: Node | None = self
        while node is not None:
            if prefix in node.declarations:
                return node.declarations[prefix]
            node = node.parent
        return {"": "", "xml": XML_NAMESPACE}.get(prefix)


def check_size(text: str) -> None:
    """Raise ``Invalid`` if a document is larger than 1 MiB or is no Unicode text."""
    try:
        size = len(text) if len(text) > MAX_BYTES else len(text.encode())
    except UnicodeEncodeError:
        raise Invalid("the document is no valid Unicode text") from None
    if size > MAX_BYTES:
        raise Invalid(f"the document is larger than {MAX_BYTES} bytes: that is the limit")


def parse_xml(text: str) -> Node:
    """The root element of an XML document. Raises ``Invalid`` naming the line."""
    text = text.removeprefix("\ufeff").lstrip(SPACE)
    check_size(text)
    return _Builder().build(text)


class _Builder:
    """Collects the events of one expat parser into a tree."""

    def __init__(self) -> None:
        self._parser = parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.XmlDeclHandler = self._declared
        parser.StartDoctypeDeclHandler = self._doctype
        parser.ProcessingInstructionHandler = self._instruction
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.CommentHandler = self._comment
        self._root: Node | None = None
        self._open: list[Node] = []

    def build(self, text: str) -> Node:
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            reason = expat.errors.messages.get(error.code, "not well-formed")
            raise Invalid(f"line {error.lineno}: the document is no well-formed XML: {reason}") from None
        assert self._root is not None  # expat refuses a document without an element
        return self._root

    def _fail(self, reason: str) -> Invalid:
        return Invalid(f"line {self._parser.CurrentLineNumber}: {reason}")

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        # The text has been decoded already: a declaration of something else would be about other bytes.
        if encoding is not None and encoding.upper() not in {"UTF-8", "UTF8", "US-ASCII", "ASCII"}:
            raise self._fail(f"encoding {encoding!r} is declared: documents are UTF-8")

    def _doctype(self, *_: object) -> None:
        raise self._fail("a document type (<!DOCTYPE …>) is not accepted")

    def _instruction(self, target: str, data: str) -> None:
        raise self._fail(f"a processing instruction (<?{target} …>) is not accepted")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise self._fail(f"<{tag}> is nested too deeply: {MAX_DEPTH} levels are the limit")
        node = Node(tag, attributes, self._parser.CurrentLineNumber, parent=self._open[-1] if self._open else None)
        if any(name.startswith("xmlns") for name in attributes):
            self._declare(node)
        self._check_prefixes(node)
        if self._open:
            self._open[-1].content.append(node)
        else:
            self._root = node
        self._open.append(node)

    def _declare(self, node: Node) -> None:
        """Move namespace declarations out of the attributes (Namespaces in XML 1.0)."""
        for name in [name for name in node.attributes if name == "xmlns" or name.startswith("xmlns:")]:
            prefix, uri = name.partition(":")[2], node.attributes.pop(name)
            if prefix in {"xml", "xmlns"} or (prefix and not uri):
                raise self._fail(f"namespace declaration {name}={uri!r} is not possible")
            node.declarations[prefix] = uri

    def _check_prefixes(self, node: Node) -> None:
        for name in (node.tag, *node.attributes):
            if ":" in name:
                prefix, _, local = name.partition(":")
                if not prefix or not local or ":" in local or node.resolve(prefix) is None:
                    raise self._fail(f"{name!r} uses a namespace prefix that is not declared")

    def _end(self, tag: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].content.append(text)

    def _comment(self, text: str) -> None:
        if self._open:
            self._open[-1].content.append(Comment(text))


_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;", "\r": "&#13;"}
_IN_TEXT = str.maketrans(_ESCAPES)
_IN_ATTRIBUTE = str.maketrans({**_ESCAPES, "\n": "&#10;", "\t": "&#9;"})

Attributes = Mapping[str, object]
"""Attributes to write, in order: ``None`` is left out, booleans become ``yes`` and ``no``."""


def _written(text: str) -> str:
    if found := _UNWRITABLE.search(text):
        raise Invalid(f"{text[:40]!r} cannot be written as XML: it has a no character of XML, {found.group()!r}")
    return text


def _attribute_value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _written(str(value)).translate(_IN_ATTRIBUTE)


class Writer:
    """Writes XML as libvirt does: two spaces a level, single quotes, an element a line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._level = 0

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)

    def empty(self, tag: str, attributes: Attributes | None = None) -> None:
        """``<tag …/>``."""
        self._line(f"{self._opening(tag, attributes)}/>")

    def text(self, tag: str, text: str | None, attributes: Attributes | None = None) -> None:
        """``<tag …>text</tag>``; nothing for ``None``."""
        if text is not None:
            self._line(f"{self._opening(tag, attributes)}>{_written(text).translate(_IN_TEXT)}</{tag}>")

    def element(self, tag: str, attributes: Attributes | None = None, *, pair: bool = False) -> "_Open":
        """A context that writes the children; without any it is one ``<tag …/>``, with ``pair`` always a pair."""
        return _Open(self, tag, self._opening(tag, attributes), pair)

    def metadata(self, node: Node) -> None:
        """A foreign element in libxml2's own style: double quotes; mixed content is left as it is."""
        self._line(foreign(node, self._level))

    def _opening(self, tag: str, attributes: Attributes | None) -> str:
        parts = [f"<{tag}"]
        for name, value in (attributes or {}).items():
            if value is not None:
                parts.append(f" {name}='{_attribute_value(value)}'")
        return "".join(parts)

    def _line(self, text: str) -> None:
        self._lines.append("  " * self._level + text)


class _Open:
    """One element while its children are written."""

    def __init__(self, writer: Writer, tag: str, opening: str, pair: bool) -> None:
        self._writer, self._tag, self._opening, self._pair = writer, tag, opening, pair

    def __enter__(self) -> None:
        self._writer._line(self._opening + ">")
        self._start = len(self._writer._lines)
        self._writer._level += 1

    def __exit__(self, *_: object) -> None:
        writer = self._writer
        writer._level -= 1
        if self._pair or len(writer._lines) > self._start:
            writer._line(f"</{self._tag}>")
        else:
            writer._lines.pop()
            writer._line(self._opening + "/>")


_FOREIGN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_FOREIGN_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}
)


def foreign(node: Node, level: int | None = None) -> str:
    """``node`` as text: in one line, or with a ``level`` indented so wherever it holds no text of its own."""
    opening = "".join(_foreign_opening(node))
    inside = [one for one in node.content if not _blank(one)] if _is_tree(node) else node.content
    if not inside:
        return f"{opening}/>"
    indented = level is not None and _is_tree(node)
    below = level + 1 if indented and level is not None else None
    parts = [_foreign_content(one, below) for one in inside]
    if not indented or level is None:
        return f"{opening}>{''.join(parts)}</{node.tag}>"
    margin = "  " * level
    return "\n".join([f"{opening}>", *(f"{margin}  {part}" for part in parts), f"{margin}</{node.tag}>"])


def _foreign_opening(node: Node) -> Iterator[str]:
    yield f"<{node.tag}"
    for prefix, uri in node.declarations.items():
        yield f' xmlns{":" if prefix else ""}{prefix}="{uri.translate(_FOREIGN_ATTRIBUTE)}"'
    for name, value in node.attributes.items():
        yield f' {name}="{value.translate(_FOREIGN_ATTRIBUTE)}"'


def _foreign_content(one: Node | str, level: int | None) -> str:
    if isinstance(one, Node):
        return foreign(one, level)
    return f"<!--{one}-->" if isinstance(one, Comment) else one.translate(_FOREIGN_TEXT)


def _blank(one: Node | str) -> bool:
    return isinstance(one, str) and not isinstance(one, Comment) and not one.strip(SPACE)


def _is_tree(node: Node) -> bool:
    """Whether white space in it is layout: it has child elements or comments, and no text beside them."""
    texts = [one for one in node.content if isinstance(one, str) and not isinstance(one, Comment)]
    return len(texts) < len(node.content) and all(map(_blank, texts))
