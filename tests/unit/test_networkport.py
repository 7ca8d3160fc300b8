"""<networkport> documents: read, refused, and the same again through XML and native JSON."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.networkport import NetworkPort
from vnetd.xmlcodec.documents import parse_document, parse_port, port_to_json, port_to_xml

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
