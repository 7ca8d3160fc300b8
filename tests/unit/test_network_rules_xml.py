"""Rules of the <network> format as a whole, of its bridge and ports: a refusal names element, value and rule."""

import pytest
from support.network_xml import BRIDGED, IP, Refused, doc, forward, nat, refuse

REFUSED: Refused = {
    "no name": ("<network/>", ("<network>", "name is needed")),
    "empty name": ("<network><name/></network>", ("<network>", "name is needed")),
    "slash in name": ("<network><name>a/b</name></network>", ("<name>", "'a/b'", "may not contain '/'")),
    "newline in name": ("<network><name>a\nb</name></network>", ("<name>", r"a\nb", "control character")),
    "name of the parent": ("<network><name>..</name></network>", ("<name>", "'..'", "begin with '.'")),
    "long name": (f"<network><name>{'n' * 201}</name></network>", ("<name>", "200 bytes")),
    "uuid": (doc("<uuid>12</uuid>"), ("<uuid>", "'12'", "32 hexadecimal digits")),
    "newline in title": (doc("<title>a\nb</title>"), ("<title>", "control character")),
    "second name": (doc("<name>m</name>"), ("<name>", "given twice")),
    "unknown element": (doc("<colour/>"), ("<colour>", "unknown in <network>")),
    "unknown attribute": (doc("", " colour='red'"), ("colour='red'", "attribute colour of <network> is unknown")),
    "ipv6 flag": (doc("", " ipv6='maybe'"), ("<network ipv6='maybe'>", "yes or no")),
    "trust flag": (doc("", " trustGuestRxFilters='1'"), ("trustGuestRxFilters='1'", "yes or no")),
    "mtu word": (doc("<mtu size='big'/>"), ("<mtu size='big'>", "number")),
    "mtu too small": (doc("<mtu size='67'/>"), ("<mtu size='67'>", "68")),
    "mtu too large": (doc("<mtu size='65536'/>"), ("<mtu size='65536'>", "65535")),
    "mac": (doc("<mac address='52:54:00'/>"), ("<mac address='52:54:00'>", "six hexadecimal groups")),
    "multicast mac": (doc("<mac address='01:00:5e:00:00:01'/>"), ("<mac", "01:00:5e:00:00:01", "multicast")),
    "isolated ports": (doc("<port isolated='true'/>"), ("<port isolated='true'>", "yes or no")),
    # <bridge>
    "bridge name": (doc("<bridge name='a/b'/>"), ("<bridge name='a/b'>", "no name of a bridge")),
    "bridge with two templates": (doc("<bridge name='a%d%d'/>"), ("<bridge name='a%d%d'>", "one '%d'")),
    "long bridge name": (doc("<bridge name='abcdefghijklmnop'/>"), ("<bridge", "1 to 15 bytes")),
    "bridge named all": (doc("<bridge name='all'/>"), ("<bridge name='all'>", "'all'")),
    "delay": (doc("<bridge delay='-1'/>"), ("<bridge delay='-1'>", "number")),
    "mac table": (doc("<bridge macTableManager='default'/>"), ("<bridge macTableManager='default'>", "kernel")),
    "stp in bridge mode": (forward("bridge", "", "<bridge name='br0' stp='on'/>"), ("<bridge stp='on'>", "stp")),
    "stp off in bridge mode": (forward("bridge", "", "<bridge name='b' stp='off'/>"), ("<bridge stp='off'>", "stp")),
    "delay in bridge mode": (forward("bridge", "", "<bridge name='b' delay='1'/>"), ("<bridge delay='1'>", "bridge")),
    "zone in bridge mode": (forward("bridge", "", "<bridge name='b' zone='z'/>"), ("<bridge zone='z'>", "bridge")),
    "bridge in a pool": (forward("vepa", "", BRIDGED), ("<bridge name='br0'>", "has no bridge")),
    "mac table in a pool": (
        forward("private", "", "<bridge macTableManager='kernel'/>"),
        ("<bridge macTableManager='kernel'>", "has no bridge"),
    ),
    "template of a host bridge": (forward("bridge", "", "<bridge name='b%d'/>"), ("<bridge name='b%d'>", "existing")),
    # <bandwidth>, <vlan>, <virtualport>, <portgroup>
    "rate without average": (doc("<bandwidth><inbound/></bandwidth>"), ("<inbound>", "average or a floor")),
    "peak without average": (
        doc("<bandwidth><inbound peak='2' floor='1'/></bandwidth>"),
        ("<inbound peak='2'>", "need an average"),
    ),
    "floor": (doc("<bandwidth><inbound average='1' floor='1'/></bandwidth>"), ("<inbound floor='1'>", "single port")),
    "floor outbound": (doc("<bandwidth><outbound floor='1'/></bandwidth>"), ("<outbound floor='1'>", "inbound")),
    "rate word": (doc("<bandwidth><inbound average='x'/></bandwidth>"), ("<inbound average='x'>", "number")),
    "rate limit": (
        doc(f"<bandwidth><inbound average='{2**54 + 1}'/></bandwidth>"),
        (f"<inbound average='{2**54 + 1}'>", str(2**54)),
    ),
    "burst limit": (
        doc("<bandwidth><inbound average='1' burst='4194304'/></bandwidth>"),
        ("<inbound burst='4194304'>", "4194303"),
    ),
    "class id": (doc("<bandwidth classID='3'><inbound average='1'/></bandwidth>"), ("classID='3'", "unknown")),
    "vlan in nat": (nat("", f"{IP}<vlan><tag id='1'/></vlan>"), ("<vlan>", "mode nat cannot have VLANs")),
    "vlan in vepa": (forward("vepa", "", "<vlan><tag id='1'/></vlan>"), ("<vlan>", "vepa")),
    "vlan in macvtap bridge": (
        forward("bridge", "<interface dev='a'/>", "<vlan><tag id='1'/></vlan>"),
        ("<vlan>", "macvtap bridge"),
    ),
    "vlan with Qbg": (
        forward("bridge", "", f"{BRIDGED}<vlan><tag id='1'/></vlan><virtualport type='802.1Qbg'/>"),
        ("<vlan>", "802.1Qbg"),
    ),
    "vlan of a port group with Qbh": (
        forward(
            "hostdev", "", "<portgroup name='g'><vlan><tag id='1'/></vlan><virtualport type='802.1Qbh'/></portgroup>"
        ),
        ("<vlan>", "port group g"),
    ),
    "vlan of the network in such a port group": (
        forward(
            "hostdev", "", "<vlan><tag id='1'/></vlan><portgroup name='g'><virtualport type='802.1Qbh'/></portgroup>"
        ),
        ("<vlan>", "port group g"),
    ),
    "vlan of a port group in nat": (
        nat("", f"{IP}<portgroup name='g'><vlan><tag id='1'/></vlan></portgroup>"),
        ("<vlan>", "port group g"),
    ),
    "vlan without tag": (forward("hostdev", "", "<vlan/>"), ("<vlan>", "at least 1 item")),
    "vlan id": (forward("hostdev", "", "<vlan><tag id='4096'/></vlan>"), ("<tag id='4096'>", "0 to 4095")),
    "vlan without id": (forward("hostdev", "", "<vlan><tag/></vlan>"), ("<tag>", "id is needed")),
    "vlan trunk word": (forward("hostdev", "", "<vlan trunk='on'><tag id='1'/></vlan>"), ("<vlan trunk='on'>", "yes")),
    "vlan no trunk": (
        forward("hostdev", "", "<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>"),
        ("<vlan trunk='no'>", "need a trunk"),
    ),
    "vlan no trunk and native": (
        forward("hostdev", "", "<vlan trunk='no'><tag id='1' nativeMode='tagged'/></vlan>"),
        ("<vlan trunk='no'>", "need a trunk"),
    ),
    "vlan native mode": (
        forward("hostdev", "", "<vlan><tag id='1' nativeMode='yes'/></vlan>"),
        ("<tag nativeMode='yes'>", "tagged or untagged"),
    ),
    "vlan two native": (
        forward("hostdev", "", "<vlan><tag id='1' nativeMode='tagged'/><tag id='2' nativeMode='untagged'/></vlan>"),
        ("<tag nativeMode='untagged'>", "only one VLAN"),
    ),
    "virtual port without type": (forward("hostdev", "", "<virtualport/>"), ("<virtualport>", "needs a type")),
    "virtual port type": (forward("hostdev", "", "<virtualport type='x'/>"), ("<virtualport type='x'>", "802.1Qbg")),
    "virtual port parameter": (
        forward("hostdev", "", "<virtualport type='802.1Qbh'><parameters typeid='1'/></virtualport>"),
        ("<parameters typeid='1'>", "802.1Qbh has no parameter typeid"),
    ),
    "virtual port number": (
        forward("hostdev", "", "<virtualport type='802.1Qbg'><parameters typeid='0x1000000'/></virtualport>"),
        ("<parameters typeid='0x1000000'>", "16777215"),
    ),
    "virtual port uuid": (
        forward("hostdev", "", "<virtualport type='802.1Qbg'><parameters instanceid='1'/></virtualport>"),
        ("<parameters instanceid='1'>", "no UUID"),
    ),
    "virtual port profile": (
        forward("hostdev", "", f"<virtualport type='802.1Qbh'><parameters profileid='{'p' * 40}'/></virtualport>"),
        ("<parameters profileid=", "39 characters"),
    ),
    "port group without name": (doc("<portgroup/>"), ("<portgroup>", "attribute name is needed")),
    "port groups of one name": (
        doc("<portgroup name='g'/><portgroup name='g'/>"),
        ("<portgroup name='g'>", "given twice"),
    ),
    "two default port groups": (
        doc("<portgroup name='g' default='yes'/><portgroup name='h' default='yes'/>"),
        ("<portgroup default='yes'>", "g is the default already"),
    ),
    "dnsmasq option without value": (
        doc("<d:options xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'><d:option/></d:options>"),
        ("<d:option>", "attribute value is needed"),
    ),
    "dnsmasq option of two lines": (
        doc(
            "<d:options xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'>"
            "<d:option value='a&#10;dhcp-script=/x'/></d:options>"
        ),
        ("<d:option", "control character"),
    ),
    "options of another namespace": (
        doc("<d:options xmlns:d='urn:other'/>"),
        ("<d:options>", "unknown in <network>"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_element_value_and_rule(name: str) -> None:
    refuse(*REFUSED[name])
