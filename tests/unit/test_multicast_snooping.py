"""``bridge.multicast_snooping``: which networks may ask for it, how it is written, what it means for the bridge."""

import json
from pathlib import Path
from typing import Any

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.plan.links import BridgeOptions
from vnetd.reconcile.desired import Surroundings, desired_network
from vnetd.xmlcodec.documents import network_to_json, network_to_xml, parse_network

SNOOPS = {"multicast_snooping": True}
NATIVE = "<metadata><n:native xmlns:n='urn:org.vnetd1:network'>{}</n:native></metadata>"
ADDRESSES = [{"address": "192.168.77.1/24"}]
WITH_BRIDGE: dict[str, dict[str, Any]] = {
    mode: {"mode": mode, "addresses": ADDRESSES} for mode in ("isolated", "nat", "route", "open")
}
WITHOUT: dict[str, dict[str, Any]] = {
    "bridge": {"mode": "bridge", "bridge": {"name": "br0"}},
    "macvtap": {"mode": "macvtap", "macvtap_mode": "bridge", "devices": {"interfaces": ["eth0"]}},
    "hostdev": {"mode": "hostdev", "devices": {"pf": "eth0"}},
    "user": {"mode": "user"},
}
XML_WITHOUT = {
    "bridge": ("<forward mode='bridge'/><bridge name='br0'/>", "<bridge name='br0'>"),
    "macvtap": ("<forward mode='bridge' dev='eth0'/>", "<n:native>"),
}


def network(fields: dict[str, Any], **bridge: Any) -> Network:
    document = {"name": "lab", **fields, "bridge": fields.get("bridge", {}) | bridge}
    return parse_network(json.dumps(document)).value


@pytest.mark.parametrize("mode", WITH_BRIDGE)
def test_a_network_with_a_bridge_of_its_own_snoops_only_if_asked(mode: str) -> None:
    around = Surroundings(Path("/state"), Path("/run"))
    known = {"uuid": "8a54c7f3-e910-4d12-8312-34a11467ac86", "mac": "52:54:00:00:00:01"}
    for asked in ({}, {"multicast_snooping": False}, SNOOPS):
        found = network(WITH_BRIDGE[mode] | known, name="virbr0", **asked)
        wanted = BridgeOptions(multicast_snooping=asked == SNOOPS)
        assert desired_network(found, around).bridge.options == wanted
        assert json.loads(network_to_json(found))["bridge"] == {"name": "virbr0"} | (asked if asked == SNOOPS else {})


@pytest.mark.parametrize("mode", WITHOUT)
def test_one_without_cannot_ask(mode: str) -> None:
    assert not network(WITHOUT[mode]).bridge.multicast_snooping
    rule = rf"bridge\.multicast_snooping true: a network of mode {mode} cannot have this \(bridge multicast_snooping\)"
    with pytest.raises(Invalid, match=rule):
        network(WITHOUT[mode], **SNOOPS)


def test_xml_has_no_word_for_it_and_carries_it_in_its_metadata() -> None:
    asked = network(WITH_BRIDGE["nat"], stp=True, **SNOOPS)
    xml = network_to_xml(asked)
    assert '<vnetd:native xmlns:vnetd="urn:org.vnetd1:network">{"multicast_snooping":true}</vnetd:native>' in xml
    assert parse_network(xml).value == asked
    assert "metadata" not in network_to_xml(network(WITH_BRIDGE["nat"]))
    assert not parse_network("<network><name>lab</name></network>").value.bridge.multicast_snooping


def test_xml_without_a_bridge_element_can_carry_it_too() -> None:
    metadata = NATIVE.format('{"multicast_snooping": true}')
    found = parse_network(f"<network><name>lab</name>{metadata}</network>").value
    assert (found.bridge.multicast_snooping, found.bridge.stp) == (True, True)


@pytest.mark.parametrize("mode", XML_WITHOUT)
def test_xml_of_a_network_without_a_bridge_of_its_own_is_refused_with_it(mode: str) -> None:
    body, place = XML_WITHOUT[mode]
    metadata = NATIVE.format('{"multicast_snooping": true}')
    with pytest.raises(Invalid, match=f"{place}: a network of mode {mode} cannot have this"):
        parse_network(f"<network><name>lab</name>{body}{metadata}</network>")
