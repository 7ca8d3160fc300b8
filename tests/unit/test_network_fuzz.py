"""Whatever a client sends as a document, nothing but ``Invalid`` and ``Unsupported`` comes of it."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.network_documents import NETWORKS, Fields

from vnetd.model.errors import Exists, Invalid, NotFound, Unsupported
from vnetd.xmlcodec.documents import network_to_json, network_to_xml, parse_document, parse_network
from vnetd.xmlcodec.update import apply_update

GOLDEN = Path(__file__).parent.parent / "golden/network"
DOCUMENTS = [path.read_text() for path in sorted(GOLDEN.glob("*.xml"))]
DOCUMENTS += [network_to_json(parse_network(text).value) for text in DOCUMENTS]
COMPLETE = parse_network((GOLDEN / "everything-virtual.xml").read_text()).value
SPICE = [
    "",
    "<",
    ">",
    "'",
    '"',
    "&",
    "\0",
    "\n",
    "\ud800",
    "<!--",
    "]]>",
    "{",
    "}",
    "[",
    "-1",
    "9" * 30,
    "٣",
    "%d",
    "::",
]
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A good document, cut, doubled or spiced in places."""
    text = draw(st.sampled_from(DOCUMENTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        middle = draw(st.one_of(st.sampled_from(SPICE), st.text(max_size=4), st.just(text[start:end] * 2)))
        text = text[:start] + middle + text[end:]
    return text


def survives(text: str, lenient: bool) -> None:
    with contextlib.suppress(Invalid, Unsupported):
        value = parse_document(text, lenient=lenient).value
        again = parse_document(text, lenient=lenient).value
        assert value == again


@FUZZ
@given(damaged(), st.booleans())
def test_a_damaged_document_is_refused_or_understood(text: str, lenient: bool) -> None:
    survives(text, lenient)


@FUZZ
@given(st.text(max_size=80), st.booleans())
@example("\ufeff", False)
@example("<" * 5000, False)
@example("{" * 5000, True)
def test_any_text_is_refused_or_understood(text: str, lenient: bool) -> None:
    survives(text, lenient)
    survives(f"<network>{text}</network>", lenient)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(SPICE)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


@FUZZ
@given(NETWORKS, st.data())
def test_a_field_of_any_other_value_is_refused_or_understood(fields: Fields, data: st.DataObject) -> None:
    here = fields
    while True:
        name = data.draw(st.sampled_from(sorted(here)))
        inner = here[name][0] if isinstance(here[name], list) and here[name] else here[name]
        if not isinstance(inner, dict) or not inner or data.draw(st.booleans()):
            break
        here = inner
    here[name] = data.draw(JSON)
    survives(json.dumps(fields), data.draw(st.booleans()))


@FUZZ
@given(NETWORKS, st.sampled_from(SPICE[7:]), st.data())
def test_what_is_understood_can_be_written_and_read_again(fields: Fields, spice: str, data: st.DataObject) -> None:
    texts = [name for name, value in fields.items() if isinstance(value, str)]
    fields[data.draw(st.sampled_from(texts))] += spice
    with contextlib.suppress(Invalid):
        network = parse_network(json.dumps(fields)).value
        assert parse_network(network_to_xml(network)).value == network


@FUZZ
@given(
    st.sampled_from(["modify", "delete", "add", "add-first"]),
    st.sampled_from(["ip-dhcp-host", "ip-dhcp-range", "portgroup", "dns-host", "dns-txt", "dns-srv", "ip"]),
    st.sampled_from(["host", "range", "portgroup", "txt", "srv"]),
    st.dictionaries(
        st.sampled_from(["ip", "mac", "id", "name", "start", "end", "value", "service", "protocol", "default"]),
        st.one_of(
            st.sampled_from(["192.168.5.2", "192.168.5.77", "52:54:0:1:2:3", "one", "example", "yes"]), st.text()
        ),
    ),
    st.integers(-2, 6),
)
def test_an_update_is_refused_or_leaves_a_network_that_can_be_defined(
    command: str, section: str, tag: str, attributes: dict[str, str], index: int
) -> None:
    inner = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    with contextlib.suppress(Invalid, Unsupported, NotFound, Exists):
        changed = apply_update(COMPLETE, command, section, f"<{tag} {inner}/>", parent_index=index)
        assert parse_network(network_to_xml(changed)).value == changed


HOSTILE = {
    "many routes over many subnets": "<network><name>n</name>"
    + "".join(f"<ip address='10.{i >> 8}.{i & 255}.1' prefix='24'/>" for i in range(5000))
    + "<route address='11.0.0.0' prefix='24' gateway='10.19.135.9'/>" * 8000
    + "</network>",
    "many hosts": "<network><name>n</name><ip address='10.0.0.1'><dhcp>"
    + "".join(f"<host name='h{i}' ip='10.1.{i >> 8}.{i & 255}'/>" for i in range(18000))
    + "</dhcp></ip></network>",
    "many unknown elements": "<network><name>n</name>" + "<a/>" * 200_000 + "</network>",
    "many unknown fields": '{"name": "n", ' + ", ".join(f'"x{i}": 1' for i in range(70_000)) + "}",
    "one field twice at the end of many": "{" + ", ".join(f'"x{i}": 1' for i in range(70_000)) + ', "x69999": 1}',
    "many attributes": "<network " + " ".join(f"a{i}='1'" for i in range(70_000)) + "><name>n</name></network>",
    "many namespaces": "<network " + " ".join(f"xmlns:a{i}='u'" for i in range(40_000)) + "><name>n</name></network>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_of_very_many_parts_is_refused_or_understood(name: str) -> None:
    survives(HOSTILE[name], lenient=True)


def test_very_many_mistakes_are_counted_not_listed() -> None:
    warnings = parse_network(HOSTILE["many unknown elements"], lenient=True).warnings
    assert len(warnings) == 101 and warnings[-1] == "and 199900 more warnings"
