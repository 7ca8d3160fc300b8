"""docs/FORMATS.md: its examples are what vnetd reads and writes, and what it says is refused is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vnetd.dnsmasq.render import render
from vnetd.model.errors import Unsupported
from vnetd.model.network import Network
from vnetd.model.switch import Switch, Uplink
from vnetd.reconcile.desired import refuse_unrealised
from vnetd.xmlcodec.documents import (
    binding_to_json,
    network_to_json,
    network_to_xml,
    parse_binding,
    parse_document,
    parse_network,
)

PAGE = (Path(__file__).parents[2] / "docs" / "FORMATS.md").read_text()
LAB: dict[str, Any] = {"name": "lab", "mode": "nat", "addresses": [{"address": "192.168.77.1/24"}]}


def examples(language: str) -> list[str]:
    """The documents of the page in that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_every_example_is_read_without_a_warning() -> None:
    found = [*examples("json"), *examples("xml")]
    assert len(found) == 4
    assert [parse_document(text).warnings for text in found] == [(), (), (), ()]


def test_the_example_of_a_network_is_written_as_it_stands_there() -> None:
    text = examples("json")[0]
    written = json.loads(network_to_json(parse_network(text).value))
    said = json.loads(text)
    assert written == said


def test_the_example_of_a_network_names_every_field_but_those_the_page_explains() -> None:
    missing = set(Network.model_fields) - set(json.loads(examples("json")[0]))
    assert not [name for name in missing if f"`{name}`" not in PAGE]


def test_the_example_of_a_network_can_be_realised() -> None:
    network = parse_network(examples("json")[0]).value
    refuse_unrealised(network)
    assert render(network, uuid="u", bridge="virbr0", directory="/d", run_directory="/r", upstream=()).files


def test_the_example_of_a_switch_names_every_field_but_those_the_page_explains() -> None:
    said = json.loads(next(text for text in examples("json") if '"uplinks"' in text))
    fields = set(Switch.model_fields) - set(said) | set(Uplink.model_fields)
    assert not [name for name in fields - {"uuid", "title", "description"} if f"`{name}`" not in PAGE]
    assert isinstance(parse_document(json.dumps(said)).value, Switch)


def test_what_only_json_can_say_survives_a_way_through_xml() -> None:
    closed = parse_network(json.dumps({**json.loads(examples("json")[0]), "host_access": False})).value
    assert "urn:org.vnetd1:network" in network_to_xml(closed)
    back = parse_network(network_to_xml(closed)).value
    assert json.loads(network_to_json(back))["host_access"] is False
    assert back.addresses[0].dhcp == closed.addresses[0].dhcp


def test_the_example_of_a_binding_is_written_as_it_stands_there() -> None:
    text = examples("json")[1]
    assert json.loads(binding_to_json(parse_binding(text).value)) == json.loads(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"bridge": {"zone": "trusted"}},
        {"bridge": {"mac_table": "vnetd"}},
        {"domain": {"name": "lab", "register": True}},
        {"forwards": [{"protocol": "tcp", "listen": 8022, "to": "web1", "port": 22}]},
        {"access": {"attach": ["@users"]}},
    ],
    ids=str,
)
def test_what_the_page_says_is_refused_at_start_is_read_and_refused_by_name(fields: dict[str, Any]) -> None:
    network = parse_network(json.dumps({**LAB, **fields})).value
    with pytest.raises(Unsupported, match=r"network lab: .* is not supported yet"):
        refuse_unrealised(network)
