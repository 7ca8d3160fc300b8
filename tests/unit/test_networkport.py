"""<networkport> documents: read, refused, and the same again through XML and native JSON."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.network import Network
from vnetd.model.networkport import NetworkPort
from vnetd.model.port import PortRecord
from vnetd.service.port_document import describe_port, port_document
from vnetd.xmlcodec.documents import (
    Usage,
    network_to_xml,
    parse_document,
    parse_network,
    parse_port,
    port_to_json,
    port_to_xml,
)

UUID = "7ae63b5f-fe96-4af0-a7c3-da04ba1b126f"
EVERYTHING = """<networkport>
  <uuid>7ae63b5f-fe96-4af0-a7c3-da04ba1b126f</uuid>
  <owner>
    <name>web1</name>
    <uuid>0d6c4d34-62f1-4d3c-8c6c-1f5b2b3f2a11</uuid>
  </owner>
  <group>slow</group>
  <mac address='52:54:00:7b:35:93'/>
  <virtualport type='802.1Qbg'>
    <parameters managerid='1' typeid='2' typeidversion='3' instanceid='0d6c4d34-62f1-4d3c-8c6c-1f5b2b3f2a11'/>
  </virtualport>
  <bandwidth classID='3'>
    <inbound average='1000' peak='2000' burst='5120' floor='500'/>
    <outbound average='250'/>
  </bandwidth>
  <vlan trunk='yes'>
    <tag id='42' nativeMode='untagged'/>
    <tag id='47'/>
  </vlan>
  <port isolated='yes'/>
  <rxfilters trustGuest='yes'/>
PLUG</networkport>
"""
PLUGS = {
    "none": "",
    "network": "  <plug type='network' bridge='virbr0' macTableManager='libvirt'/>\n",
    "bridge": "  <plug type='bridge' bridge='br0'/>\n",
    "direct": "  <plug type='direct' dev='ens3' mode='private'/>\n",
    "hostdev-pci": "  <plug type='hostdev-pci' managed='yes'>\n    <driver name='vfio' model='mlx5'/>\n"
    "    <address domain='0x0000' bus='0x03' slot='0x10' function='0x1'/>\n  </plug>\n",
}


def document(**changes: str) -> str:
    """A small port document with some pieces replaced."""
    pieces = {
        "uuid": f"<uuid>{UUID}</uuid>",
        "mac": "<mac address='52:54:00:7b:35:93'/>",
        "rest": "",
        "plug": "<plug type='bridge' bridge='br0'/>",
    } | changes
    return f"<networkport>{''.join(pieces.values())}</networkport>"


@pytest.mark.parametrize("kind", PLUGS)
def test_a_complete_port_comes_back_byte_for_byte_through_either_form(kind: str) -> None:
    text = EVERYTHING.replace("PLUG", PLUGS[kind])
    port = parse_document(text).value
    assert isinstance(port, NetworkPort) and port.plug.type == kind
    assert port_to_xml(port) == text
    assert parse_document(port_to_json(port)).value == port, "its JSON is told from that of other kinds"
    assert NetworkPort.model_validate_json(port.model_dump_json(exclude_defaults=True)) == port


def test_what_a_port_says_means_what_it_says() -> None:
    port = parse_port(EVERYTHING.replace("PLUG", PLUGS["direct"])).value
    assert json.loads(port_to_json(port)) == {
        "uuid": UUID,
        "owner": {"name": "web1", "uuid": "0d6c4d34-62f1-4d3c-8c6c-1f5b2b3f2a11"},
        "group": "slow",
        "mac": "52:54:00:7b:35:93",
        "virtualport": {
            "type": "802.1Qbg",
            "managerid": 1,
            "typeid": 2,
            "typeidversion": 3,
            "instanceid": "0d6c4d34-62f1-4d3c-8c6c-1f5b2b3f2a11",
        },
        "bandwidth": {
            "inbound": {"average": 1000, "peak": 2000, "burst": 5120, "floor": 500},
            "outbound": {"average": 250},
        },
        "class_id": 3,
        "vlan": {"tags": [{"id": 42, "native": "untagged"}, {"id": 47}], "trunk": True},
        "isolated": True,
        "trust_guest_rx_filters": True,
        "plug": {"type": "direct", "dev": "ens3", "mode": "private"},
    }


def test_a_direct_plug_without_a_mode_is_vepa_and_a_plug_may_say_that_there_is_none() -> None:
    direct = parse_port(document(plug="<plug type='direct' dev='ens3'/>")).value
    assert "mode='vepa'" in port_to_xml(direct)
    assert parse_port(document(plug="<plug type='none'/>")).value == parse_port(document(plug="")).value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uuid": ""}, "element <uuid> is needed"),
        ({"uuid": "<uuid>1</uuid>"}, "<uuid> '1': "),
        ({"mac": ""}, "element <mac> is needed"),
        ({"mac": "<mac address='5'/>"}, "no MAC address"),
        ({"rest": "<owner><name>web1</name></owner>"}, "element <uuid> is needed"),
        ({"rest": "<owner><name> </name><uuid/></owner>"}, "element <name> is empty"),
        ({"rest": "<port isolated='maybe'/>"}, "isolated='maybe'.*yes or no"),
        ({"rest": "<bandwidth><outbound floor='5'/></bandwidth>"}, "floor"),
        ({"rest": "<bandwidth classID='0'><inbound floor='5'/></bandwidth>"}, "classID"),
        ({"rest": "<vlan/>"}, "<vlan>"),
        ({"rest": "<colour/>"}, "element <colour> is unknown"),
        ({"plug": "<plug type='user'/>"}, "type='user'.*none or network or bridge or direct or hostdev-pci"),
        ({"plug": "<plug/>"}, "attribute type is needed"),
        ({"plug": "<plug type='network'/>"}, "attribute bridge is needed"),
        ({"plug": "<plug type='direct' mode='vepa'/>"}, "attribute dev is needed"),
        ({"plug": "<plug type='direct' dev='e/1'/>"}, "no interface name"),
        ({"plug": "<plug type='direct' dev='e1' mode='fast'/>"}, "mode='fast'"),
        ({"plug": "<plug type='hostdev-pci'/>"}, "element <address> is needed"),
        ({"plug": "<plug type='hostdev-pci'><address type='usb'/></plug>"}, "PCI address"),
        ({"plug": "<plug type='bridge' bridge='br0' dev='x'/>"}, "attribute dev of <plug> is unknown"),
    ],
)
def test_a_bad_port_is_refused_naming_place_and_rule(changes: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid, match=rf"line 1: .*{words}"):
        parse_document(document(**changes))


def test_what_is_unknown_is_dropped_with_a_warning_by_the_lenient() -> None:
    parsed = parse_port(document(rest="<colour/>"), lenient=True)
    assert [one for one in parsed.warnings if "colour" in one] and parsed.value == parse_port(document()).value


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"plug": {"type": "cable"}}, "plug"),
        ({"plug": {"type": "direct"}}, r"plug.*dev"),
        ({"mac": 5}, "mac"),
        ({"isolated": "yes"}, "isolated"),
    ],
)
def test_bad_native_json_is_refused_naming_the_field(fields: dict[str, object], words: str) -> None:
    good = {"uuid": UUID, "mac": "52:54:00:00:00:01", "plug": {"type": "none"}}
    assert parse_port(json.dumps(good)).value.plug.type == "none"
    with pytest.raises(Invalid, match=words):
        parse_port(json.dumps(good | fields))


def test_a_port_of_user_mode_is_native_json_only() -> None:
    text = json.dumps({"uuid": UUID, "mac": "52:54:00:00:00:01", "plug": {"type": "user", "socket": "/run/s"}})
    port = parse_document(text).value
    assert isinstance(port, NetworkPort) and json.loads(port_to_json(port)) == json.loads(text)
    with pytest.raises(Unsupported, match=f"port {UUID}: user mode"):
        port_to_xml(port)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.integers(0, 900), st.booleans())
def test_a_damaged_port_is_refused_or_understood(text: str, place: int, lenient: bool) -> None:
    good = EVERYTHING.replace("PLUG", PLUGS["hostdev-pci"])
    with contextlib.suppress(Invalid, Unsupported):
        parse_document(good[:place] + text + good[place + len(text) :], lenient=lenient)


GROUPS = [
    {
        "name": "fast",
        "default": True,
        "trust_guest_rx_filters": False,
        "vlan": {"tags": [{"id": 5}]},
        "bandwidth": {"inbound": {"average": 9}},
    },
    {"name": "plain"},
]


def network(**fields: object) -> Network:
    """A network on a bridge of the host's, with everything that ports inherit."""
    said: dict[str, object] = {
        "name": "lab",
        "mode": "bridge",
        "bridge": {"name": "br0"},
        "trust_guest_rx_filters": True,
        "isolated_ports": True,
        "vlan": {"tags": [{"id": 4}]},
        "bandwidth": {"inbound": {"average": 7}},
        "portgroups": GROUPS,
    }
    return parse_network(json.dumps(said | fields)).value


def record(**fields: object) -> PortRecord:
    """The record of a port."""
    said = {"uuid": UUID, "network": UUID, "kind": "tap", "device": "vnet0", "mac": "52:54:00:00:00:01", "owner": 0}
    return PortRecord.model_validate(said | fields)


@pytest.mark.parametrize(
    ("fields", "vlan", "bandwidth", "isolated", "trust"),
    [
        ({}, 4, None, True, True),
        ({"portgroup": "plain"}, 4, None, True, True),
        ({"portgroup": "fast", "group_bandwidth": {"inbound": {"average": 9}}}, 5, 9, True, False),
        ({"portgroup": "fast", "bandwidth": {"inbound": {"average": 3}}, "isolated": False}, 5, 3, False, False),
    ],
)
def test_a_port_has_its_own_before_its_port_groups_before_its_networks(
    fields: dict[str, object], vlan: int, bandwidth: int | None, isolated: bool, trust: bool
) -> None:
    port = port_document(record(**fields), network())
    inbound = port.bandwidth.inbound if port.bandwidth else None
    assert port.vlan and port.vlan.tags[0].id == vlan
    assert (inbound.average if inbound else None) == bandwidth, "the network's own limits are never a port's"
    assert (port.isolated, port.trust_guest_rx_filters, port.group) == (isolated, trust, fields.get("portgroup"))


def test_a_port_without_a_plug_of_its_own_is_in_its_networks_bridge() -> None:
    assert "<plug type='bridge' bridge='br0'/>" in describe_port(record(), network(), "xml")
    own = parse_network(json.dumps({"name": "lab", "bridge": {"name": "virbr0", "mac_table": "kernel"}})).value
    assert "<plug type='network' bridge='virbr0' macTableManager='kernel'/>" in describe_port(record(), own, "xml")
    inner = describe_port(record(kind="macvlan", lower="eth1"), own, "xml")
    assert "<plug type='direct' dev='eth1' mode='bridge'/>" in inner
    with pytest.raises(Invalid, match="format 'yaml'"):
        describe_port(record(), own, "yaml")


def test_virtual_ports_of_network_and_port_group_are_merged_unless_they_contradict_each_other() -> None:
    group = {"name": "g", "virtualport": {"profileid": "p"}}
    merged = network(vlan=None, virtualport={"type": "802.1Qbh"}, portgroups=[group])
    port = port_document(record(portgroup="g"), merged)
    assert port.virtualport and (port.virtualport.type, port.virtualport.profileid) == ("802.1Qbh", "p")
    other = {"name": "g", "virtualport": {"type": "openvswitch"}}
    with pytest.raises(Invalid, match=r"virtual port type is 802\.1Qbh in the network and openvswitch"):
        port_document(record(portgroup="g"), network(vlan=None, virtualport={"type": "802.1Qbh"}, portgroups=[other]))


def test_use_is_shown_in_a_running_networks_xml_and_means_nothing_in_what_is_read() -> None:
    pool = {"name": "lab", "mode": "macvtap", "macvtap_mode": "vepa", "devices": {"interfaces": ["eth1", "eth2"]}}
    value = parse_network(json.dumps(pool)).value
    text = network_to_xml(value, Usage(2, {"eth2": 2}))
    assert "<network connections='2'>" in text
    assert "<interface dev='eth1'/>" in text and "<interface dev='eth2' connections='2'/>" in text
    assert parse_network(text).value == value and "connections" not in network_to_xml(value)
    functions = {"name": "lab", "mode": "hostdev", "devices": {"pci": [{"bus": 3, "slot": 16}]}}
    shown = network_to_xml(parse_network(json.dumps(functions)).value, Usage(1, {"0000:03:10.0": 1}))
    assert "<address type='pci' domain='0x0000' bus='0x03' slot='0x10' function='0x0' connections='1'/>" in shown
