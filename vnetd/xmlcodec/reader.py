"""Reading an XML tree so that nothing in it is overlooked.

An ``Element`` notes what was asked of it. ``Element.finish`` at the end refuses every element, attribute and text
nobody asked for, by name; with ``lenient`` it drops them with a warning instead, as libvirt does without one.

The values read become ``Fields``, plain data in the shape of native JSON that remembers the element it came from.
``build`` makes the model value of it; when the model refuses something, the error names that element.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vnetd.model.breach import Breach, first_breach, inside
from vnetd.model.errors import Invalid
from vnetd.xmlcodec.xml import SPACE, Node, parse_xml

M = TypeVar("M", bound=BaseModel)

_DECIMAL = re.compile(r"[ \t\r\n]*\+?([0-9]{1,20})")
_HEXADECIMAL = re.compile(r"0[xX]([0-9A-Fa-f]{1,16})")
_LONGEST_SHOWN = 80
_MOST_SHOWN = 3


class Reading:
    """What one document's elements share: leniency and the warnings so far."""

    def __init__(self, lenient: bool) -> None:
        self.lenient = lenient
        self.warnings: list[str] = []

    def drop(self, message: str) -> None:
        """Refuse something unknown, or with ``lenient`` note that it was dropped."""
        if not self.lenient:
            raise Invalid(message)
        self.warnings.append(f"{message}: dropped")


class Element:
    """One element while it is read. Attributes that are there but empty count as absent."""

    def __init__(self, node: Node, reading: Reading) -> None:
        self.node = node
        self.reading = reading
        self._attributes: set[str] = set()
        self._children: dict[int, Element] = {}
        self._text = False

    def attribute(self, name: str) -> str | None:
        """The attribute's text, ``None`` if it is absent or empty."""
        self._attributes.add(name)
        return self.node.attributes.get(name) or None

    def required(self, name: str) -> str:
        """The attribute's text. Raises ``Invalid`` if it is absent or empty."""
        value = self.attribute(name)
        if value is None:
            raise self.invalid(f"attribute {name} is needed")
        return value

    def word(self, name: str, *words: str) -> str | None:
        """An attribute that is one of ``words``."""
        value = self.attribute(name)
        if value is not None and value not in words:
            raise self.invalid(f"{' or '.join(words)} is needed", name)
        return value

    def boolean(self, name: str) -> bool | None:
        """An attribute that is exactly ``yes`` or ``no``."""
        value = self.word(name, "yes", "no")
        return None if value is None else value == "yes"

    def integer(self, name: str, low: int = 0, high: int = 2**64 - 1, *, hexadecimal: bool = False) -> int | None:
        """A decimal number from ``low`` to ``high``, with ``hexadecimal`` also one written ``0x…``."""
        value = self.attribute(name)
        if value is None:
            return None
        number = integer(value, hexadecimal)
        if number is None or not low <= number <= high:
            raise self.invalid(f"a number from {low} to {high} is needed", name)
        return number

    def child(self, name: str, namespace: str = "") -> "Element | None":
        """The child element of that name, ``None`` if there is none; a second one is refused like an unknown one."""
        found = self.each(name, namespace=namespace)
        for second in found[1:]:
            second.reading.drop(f"{second.place()} is given twice: one is possible here")
        return found[0] if found else None

    def each(self, *names: str, namespace: str = "") -> "list[Element]":
        """All child elements of these names, in document order."""
        return [
            self._children.setdefault(id(node), Element(node, self.reading))
            for node in self.node.children
            if node.local in names and node.namespace == namespace
        ]

    def text(self) -> str:
        """The element's text as it stands."""
        self._text = True
        return self.node.text

    def child_text(self, name: str) -> str | None:
        """Text of a child element, ``None`` if it is absent or empty."""
        child = self.child(name)
        return (child.text() or None) if child else None

    def ignore(self, *names: str) -> None:
        """Take attributes as read that say nothing in a definition, such as counters."""
        self._attributes.update(names)

    def ignore_content(self) -> None:
        """Take all content as read."""
        self._text = True
        for node in self.node.children:
            child = self._children.setdefault(id(node), Element(node, self.reading))
            child.ignore(*node.attributes)
            child.ignore_content()

    def place(self, attribute: str | None = None) -> str:
        """How an error names this element, or one of its attributes: ``line 7: <range start='…'>``."""
        return place(self.node, attribute)

    def invalid(self, rule: str, attribute: str | None = None) -> Invalid:
        """The error that says which rule this element, or one of its attributes, breaks."""
        return Invalid(f"{self.place(attribute)}: {rule}")

    def warn(self, text: str, attribute: str | None = None) -> None:
        """Note something about this element that is accepted but surely a mistake."""
        self.reading.warnings.append(f"{self.place(attribute)}: {text}")

    def finish(self) -> None:
        """Refuse, or with leniency drop, all that nobody asked for, here and below."""
        for name in self.node.attributes:
            if name not in self._attributes:
                self.reading.drop(f"{self.place(name)}: attribute {name} of <{self.node.tag}> is unknown")
        if not self._text and self.node.text.strip(SPACE):
            self.reading.drop(f"{self.place()}: text {_shown(self.node.text.strip(SPACE))} is not expected here")
        for node in self.node.children:
            if child := self._children.get(id(node)):
                child.finish()
            else:
                self.reading.drop(f"{place(node)}: element <{node.tag}> is unknown in <{self.node.tag}>")


def open_document(text: str, root: str, *, lenient: bool = False) -> Element:
    """The root element of a document. Raises ``Invalid`` if the text is no XML or its root is another element."""
    node = parse_xml(text)
    if node.local != root or node.namespace:
        raise Invalid(f"{place(node)}: the root element is <{node.tag}>: <{root}> is needed")
    return Element(node, Reading(lenient))


def integer(text: str, hexadecimal: bool = False) -> int | None:
    """The number libvirt reads in ``text``, ``None`` if it reads none."""
    if hexadecimal and (match := _HEXADECIMAL.fullmatch(text)):
        return int(match[1], 16)
    match = _DECIMAL.fullmatch(text)
    return int(match[1]) if match else None


def place(node: Node, attribute: str | None = None) -> str:
    """``line 7: <range start='192.0.2.300'>``; without an attribute, or one that is absent, with the first few."""
    names = [attribute] if attribute in node.attributes else list(node.attributes)[:_MOST_SHOWN]
    details = "".join(f" {name}={_shown(node.attributes[name])}" for name in names if name)
    return f"line {node.line}: <{node.tag}{details}>"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")


class Fields(dict[str, Any]):
    """Fields of one model value, without those that are ``None``, and the element they were read from.

    ``names`` tells which attribute or child a field came from where that has another name.
    """

    def __init__(self, element: Element, fields: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
        super().__init__({name: value for name, value in fields.items() if value is not None})
        self.element = element
        self.names = names or {}


def build(model: type[M], fields: Fields) -> M:
    """The model value of ``fields``. Raises ``Invalid`` naming element, value and rule."""
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        breach = first_breach(error)
        raise Invalid(f"{place_of(breach, fields)}: {breach.rule}") from None


def place_of(breach: Breach, fields: Fields) -> str:
    """How an error or warning names the innermost element on a path, with the attribute or child it goes on to."""
    here: Any = fields
    nearest, rest, index = fields, "", 0
    for part in breach.path:
        if isinstance(here, Fields):
            nearest, rest, index = here, str(part), 0
        elif isinstance(part, int):
            index = part
        here = inside(here, part)
        if isinstance(here, Fields):
            nearest, rest = here, ""
    node, name = nearest.element.node, nearest.names.get(rest, rest)
    if name in node.attributes:
        return place(node, name)
    children = [child for child in node.children if child.local == name]
    if index >= len(children):
        return place(node)
    text = children[index].text.strip(SPACE)
    return place(children[index]) + (f" {_shown(text)}" if text else "")
