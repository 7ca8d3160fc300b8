"""A switch's document: what it can say, what is refused and how, and that its schema says the same."""

import json
from typing import Any

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.switch import Switch
from vnetd.plan.links import BridgeOptions, PortVlan
from vnetd.reconcile.desired_switch import desired_switch
from vnetd.xmlcodec.documents import json_schema, parse_document, parse_switch, switch_to_json

WHOLE: dict[str, Any] = {
    "name": "office",
    "uuid": "8a54c7f3-e910-4d12-8312-34a11467ac86",
    "title": "Second floor",
    "bridge": "br0",
    "mac": "52:54:00:00:00:01",
    "mtu": 9000,
    "stp": True,
    "priority": 4096,
    "forward_delay": 4,
    "hello_time": 1,
    "max_age": 6,
    "ageing_time": 20,
    "vlan_filtering": True,
    "default_pvid": 7,
    "multicast_snooping": False,
    "uplinks": [
        "eth1",
        {"device": "eth0", "migrate": True, "vlans": {"tags": [{"id": 30}, {"id": 7, "native": "untagged"}]}},
        {"device": "eth2", "vlan": 30, "name": "backbone"},
    ],
    "host_access": {"tags": [{"id": 30}]},
}


def switch(**fields: Any) -> Switch:
    return parse_switch(json.dumps({"name": "office", **fields})).value


def test_everything_is_read_and_written_again() -> None:
    parsed = parse_switch(json.dumps(WHOLE)).value
    again = json.loads(switch_to_json(parsed))
    assert (parse_switch(json.dumps(again)).value, again.keys()) == (parsed, WHOLE.keys())
    assert again["uplinks"][0] == "eth1", "a mere name stays one"


def test_every_option_reaches_the_bridge_in_the_kernels_units() -> None:
    desired = desired_switch(parse_switch(json.dumps(WHOLE)).value)
    assert (desired.bridge.mtu, desired.bridge.stp, desired.bridge.forward_delay) == (9000, True, 400)
    assert desired.bridge.options == BridgeOptions(
        priority=4096,
        hello_time=100,
        max_age=600,
        ageing_time=2000,
        multicast_snooping=False,
        default_pvid=7,
        vlan_filtering=True,
    )
    assert desired.own_vlans == {PortVlan(30, pvid=True, untagged=True)}
    plain, trunk, part = desired.uplinks
    assert plain.vlans == {PortVlan(7, pvid=True, untagged=True), PortVlan(30)}
    assert trunk.vlans == {PortVlan(30), PortVlan(7, pvid=True, untagged=True)}
    assert part.made and (part.port, part.parent, part.made.vlan, part.mtu) == ("backbone", "eth2", 30, None)


def test_without_stp_a_port_forwards_at_once() -> None:
    assert desired_switch(switch(forward_delay=20, bridge="br0", mac="52:54:00:00:00:01")).bridge.forward_delay == 0


def test_a_part_without_a_name_is_called_after_device_and_tag() -> None:
    assert switch(uplinks=[{"device": "eth0", "vlan": 30}]).uplinks[0].port == "eth0.30"


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no bridge name": ({"bridge": "a name with blanks"}, ("bridge",)),
    "a multicast MAC": ({"mac": "01:00:5e:00:00:01"}, ("mac", "multicast")),
    "forward delay too short": ({"forward_delay": 1}, ("forward_delay",)),
    "hello time too long": ({"hello_time": 11}, ("hello_time",)),
    "max age too short": ({"max_age": 5}, ("max_age",)),
    "priority too large": ({"priority": 65536}, ("priority",)),
    "an MTU too small": ({"mtu": 67}, ("mtu",)),
    "an unknown field": ({"colour": "red"}, ("colour",)),
    "an unknown field of an uplink": ({"uplinks": [{"device": "eth0", "colour": "red"}]}, ("uplinks[0]",)),
    "VLAN 4095": ({"uplinks": [{"device": "eth0", "vlan": 4095}]}, ("uplinks[0]", "vlan")),
    "an uplink twice": ({"uplinks": ["eth0", {"device": "eth0"}]}, ("uplinks[1]", "eth0", "only once")),
    "the bridge as its own uplink": ({"bridge": "br0", "uplinks": ["br0"]}, ("uplinks[0]", "br0")),
    "two that migrate": (
        {"uplinks": [{"device": "eth0", "migrate": True}, {"device": "eth1", "migrate": True}]},
        ("uplinks", "one uplink only"),
    ),
    "a name for a device that exists": ({"uplinks": [{"device": "eth0", "name": "x"}]}, ("uplinks[0].name",)),
    "a part's name too long": ({"uplinks": [{"device": "enp130s0f1np1", "vlan": 30}]}, ("uplinks[0]", "too long")),
    "VLANs without filtering": ({"host_access": {"tags": [{"id": 3}]}}, ("host_access", "vlan_filtering")),
    "a default VLAN without filtering": ({"default_pvid": 3}, ("default_pvid", "vlan_filtering")),
    "VLANs of an uplink without filtering": (
        {"uplinks": [{"device": "eth0", "vlans": {"tags": [{"id": 3}]}}]},
        ("uplinks[0].vlans", "vlan_filtering"),
    ),
    "a number as text": ({"mtu": "1500"}, ("mtu",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_naming_the_place(case: str) -> None:
    fields, words = REFUSED[case]
    with pytest.raises(Invalid) as refused:
        switch(**fields)
    for word in words:
        assert word in str(refused.value)


def test_xml_is_refused_with_what_to_write_instead() -> None:
    with pytest.raises(Invalid, match="described as JSON"):
        parse_switch("<switch/>")


def test_a_switch_is_told_from_a_network_by_its_fields() -> None:
    assert isinstance(parse_document(json.dumps(WHOLE)).value, Switch)
    assert isinstance(parse_document('{"name": "x", "bridge": "br0"}').value, Switch)
    assert not isinstance(parse_document('{"name": "x", "bridge": {"name": "br0"}}').value, Switch)


def test_the_schema_takes_what_the_model_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema("switch")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(WHOLE, schema)
    for fields in ({"colour": 1}, {"hello_time": 11}, {"uplinks": [7]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"name": "office", **fields}, schema)
