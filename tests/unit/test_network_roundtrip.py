"""Documents of networks keep their meaning, and their form, through XML, the model and native JSON."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from support.network_documents import NETWORKS, Fields

from vnetd.model.network import Network
from vnetd.xmlcodec.documents import network_to_json, network_to_xml, parse_document, parse_network

GOLDEN = Path(__file__).parent.parent / "golden/network"
USERS = sorted(path.name for path in (GOLDEN / "canonical").glob("*.xml"))
COMPLETE = sorted(path.name for path in GOLDEN.glob("everything-*.xml"))
THOROUGH = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_there_are_golden_documents() -> None:
    assert len(USERS) == 13 and len(COMPLETE) == 3


@pytest.mark.parametrize("name", USERS)
def test_a_document_users_have_becomes_what_libvirt_would_print(name: str) -> None:
    network = parse_network((GOLDEN / name).read_text()).value
    assert network_to_xml(network) == (GOLDEN / "canonical" / name).read_text()


@pytest.mark.parametrize("name", [*COMPLETE, *(f"canonical/{name}" for name in USERS)])
def test_a_canonical_document_comes_back_byte_for_byte(name: str) -> None:
    text = (GOLDEN / name).read_text()
    network = parse_network(text).value
    assert network_to_xml(network) == text
    assert network_to_xml(parse_network(network_to_json(network)).value) == text


@pytest.mark.parametrize("name", [*USERS, *COMPLETE])
def test_a_network_survives_the_store(name: str) -> None:
    """The store keeps the model's own JSON."""
    network = parse_network((GOLDEN / name).read_text()).value
    stored = json.dumps(network.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    assert Network.model_validate_json(stored) == network


@THOROUGH
@given(NETWORKS)
def test_every_network_survives_xml_and_json(fields: Fields) -> None:
    network = parse_network(json.dumps(fields)).value
    xml = network_to_xml(network)
    again = parse_network(xml).value
    assert again == network
    assert network_to_xml(again) == xml
    text = network_to_json(network)
    assert parse_document(text).value == network
    assert network_to_json(parse_network(text).value) == text


@THOROUGH
@given(NETWORKS)
def test_what_is_written_needs_no_leniency(fields: Fields) -> None:
    network = parse_network(json.dumps(fields)).value
    strict, lenient = parse_network(network_to_xml(network)), parse_network(network_to_xml(network), lenient=True)
    assert strict == lenient
