"""XML from anybody is read safely or refused with one sentence."""

import pytest

from vnetd.model.errors import Invalid
from vnetd.xmlcodec.reader import Element, Reading, integer, open_document
from vnetd.xmlcodec.xml import MAX_BYTES, MAX_DEPTH, Node, Writer, foreign, parse_xml

LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no element found"),
        ("just text", "line 1"),
        ("<a>", "no element found"),
        ("<a></b>", "mismatched tag"),
        ("<a/><b/>", "junk after document element"),
        ("<a b='1' b='2'/>", "duplicate attribute"),
        ("<a>\x00</a>", "not well-formed"),
        ("<a>\x07</a>", "not well-formed"),
        ("<a>&unknown;</a>", "undefined entity"),
        ("<a>\ud800</a>", "no valid Unicode"),
        (LAUGHS, "document type"),
        (FILE, "document type"),
        ("<!DOCTYPE a SYSTEM 'http://127.0.0.1/x.dtd'><a/>", "document type"),
        ("<?php x ?><a/>", "processing instruction"),
        ("<a><?x y?></a>", "processing instruction"),
        ("<?xml version='1.0' encoding='UTF-16'?><a/>", "encoding 'UTF-16'"),
        ("<?xml version='1.0' encoding='ISO-8859-1'?><a/>", "encoding 'ISO-8859-1'"),
        ("<p:a/>", "'p:a' uses a namespace prefix that is not declared"),
        ("<a p:b='1'/>", "'p:b' uses a namespace prefix that is not declared"),
        ("<a xmlns:p=''/>", "namespace declaration"),
        ("<a xmlns:xml='urn:x'/>", "namespace declaration"),
        ("<a:b:c xmlns:a='urn:a'/>", "namespace prefix"),
        ("<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1), "nested too deeply"),
        ("<a>" * 100_000, "nested too deeply"),
        ("<a>" + "x" * MAX_BYTES + "</a>", "larger than 1048576 bytes"),
        ("<a>" + "é" * (MAX_BYTES // 2) + "</a>", "larger than 1048576 bytes"),
    ],
)
def test_what_is_no_plain_xml_is_refused(text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse_xml(text)


def test_white_space_a_byte_order_mark_a_declaration_and_comments_are_no_fault() -> None:
    root = parse_xml("\ufeff \n<?xml version='1.0' encoding='utf-8'?><!-- c --><a><!-- d -->t</a><!-- e -->")
    assert (root.tag, root.text, root.line) == ("a", "t", 1)


def test_depth_and_size_up_to_the_limit_are_accepted() -> None:
    assert parse_xml("<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH).tag == "a"
    assert len(parse_xml("<a>" + "x" * (MAX_BYTES - 7) + "</a>").text) == MAX_BYTES - 7


def test_namespaces_are_resolved_by_scope() -> None:
    root = parse_xml("<a xmlns='urn:d' xmlns:p='urn:p'><p:b/><c xmlns=''><d xmlns:p='urn:q'><p:e/></d></c></a>")
    b, c = root.children
    (d,) = c.children
    (e,) = d.children
    assert [one.namespace for one in (root, b, c, d, e)] == ["urn:d", "urn:p", "", "", "urn:q"]


def read(text: str, *, lenient: bool = False) -> Element:
    return Element(parse_xml(text), Reading(lenient))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a x='1'/>", "line 1: <a x='1'>: attribute x of <a> is unknown"),
        ("<a>\n<b/></a>", "line 2: <b>: element <b> is unknown in <a>"),
        ("<a> junk </a>", "line 1: <a>: text 'junk' is not expected here"),
        ("<a xmlns:k='urn:k'><k:known/></a>", "element <k:known> is unknown in <a>"),
        ("<a><known><deep/></known></a>", "element <deep> is unknown in <known>"),
        ("<a><known/><known/></a>", "<known> is given twice"),
    ],
)
def test_what_nobody_asked_for_is_refused_by_name_or_dropped_with_a_warning(text: str, message: str) -> None:
    strict, lenient = read(text), read(text, lenient=True)
    with pytest.raises(Invalid, match=message):
        strict.child("known")
        strict.finish()
    lenient.child("known")
    lenient.finish()
    assert any("dropped" in warning for warning in lenient.reading.warnings)


def test_an_empty_attribute_counts_as_absent() -> None:
    element = read("<a x=''/>")
    assert element.attribute("x") is None
    with pytest.raises(Invalid, match="attribute x is needed"):
        element.required("x")
    element.finish()


@pytest.mark.parametrize("text", ["Yes", "true", "1", "on", " yes"])
def test_truth_is_exactly_yes_or_no(text: str) -> None:
    with pytest.raises(Invalid, match=f"line 1: <a x='{text}'>: yes or no is needed"):
        read(f"<a x='{text}'/>").boolean("x")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        (" 12", 12),
        ("+7", 7),
        ("18446744073709551615", 2**64 - 1),
        ("0x10", None),
        ("1.5", None),
        ("-1", None),
        ("٣", None),
        ("9" * 5000, None),
    ],
)
def test_numbers_are_decimal(text: str, number: int | None) -> None:
    assert integer(text) == number
    assert integer("0x1F", hexadecimal=True) == 31


def test_another_root_element_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="the root element is <domain>: <network> is needed"):
        open_document("<domain/>", "network")
    with pytest.raises(Invalid, match="<network> is needed"):
        open_document("<network xmlns='urn:x'/>", "network")


def test_a_long_value_is_shortened_in_errors() -> None:
    with pytest.raises(Invalid) as caught:
        read(f"<a x='{'y' * 5000}'/>").boolean("x")
    assert len(str(caught.value)) < 200


def test_the_writer_escapes_and_indents_as_libvirt() -> None:
    writer = Writer()
    with writer.element("a", {"q": "it's <\"&>", "yes": True, "no": False, "none": None, "zero": 0}):
        writer.empty("b")
        writer.text("c", "x\ny < 'z' \r")
        with writer.element("d", {"e": "\t\n"}):
            pass
        with writer.element("f", pair=True):
            pass
    text = str(writer)
    assert text == (
        "<a q='it&apos;s &lt;&quot;&amp;&gt;' yes='yes' no='no' zero='0'>\n"
        "  <b/>\n"
        "  <c>x\ny &lt; &apos;z&apos; &#13;</c>\n"
        "  <d e='&#9;&#10;'/>\n"
        "  <f>\n"
        "  </f>\n"
        "</a>\n"
    )
    assert parse_xml(text).attributes["q"] == "it's <\"&>"
    assert next(node for node in parse_xml(text).children if node.tag == "c").text == "x\ny < 'z' \r"


@pytest.mark.parametrize("text", ["\x00", "\x1b", "\ud800", "\uffff"])
def test_what_xml_cannot_say_is_never_written(text: str) -> None:
    with pytest.raises(Invalid, match="cannot be written as XML"):
        Writer().text("a", text)


@pytest.mark.parametrize(
    "text",
    [
        '<m:a xmlns:m="urn:m" b="1"/>',
        '<a xmlns="urn:a">mixed <b/> text &lt; &amp; &gt;</a>',
        '<a xmlns="urn:a">  </a>',
        '<a xmlns="urn:a"><!-- c --><b c="&quot;&#10;"/></a>',
    ],
)
def test_a_foreign_element_is_kept_as_it_is(text: str) -> None:
    assert foreign(parse_xml(text)) == text


def test_a_foreign_tree_is_indented_and_its_text_is_not() -> None:
    writer = Writer()
    with writer.element("metadata"):
        writer.metadata(parse_xml('<a xmlns="urn:a"><b>1\n2</b>\n<c><d/></c></a>'))
    assert str(writer) == (
        '<metadata>\n  <a xmlns="urn:a">\n    <b>1\n2</b>\n    <c>\n      <d/>\n    </c>\n  </a>\n</metadata>\n'
    )


def test_line_numbers_are_those_of_the_document() -> None:
    node: Node = parse_xml("<a>\n\n<b\n c=''/></a>")
    assert next(node.children).line == 3
