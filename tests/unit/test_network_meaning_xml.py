"""What the <network> format means: libvirt's reading of odd documents, warnings, leniency."""

import pytest
from support.network_xml import BRIDGED, IP, PCI, PF, dhcp, dns, doc, forward, ip, nat, route

from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.xmlcodec.documents import network_to_xml, parse_network

ACCEPTED: dict[str, tuple[str, object, object]] = {
    "uuid without dashes": (doc(f"<uuid>{'ab' * 16}</uuid>"), "str(n.uuid)[:9]", "abababab-"),
    "uuid with space": (doc(f"<uuid> {'ab' * 16}\n</uuid>"), "str(n.uuid)[:9]", "abababab-"),
    "empty title": (doc("<title/>"), "n.title", None),
    "lines of description": (doc("<description>a\n b</description>"), "n.description", "a\n b"),
    "connections": (doc("", " connections='3'"), "n.name", "n"),
    "mtu 0": (doc("<mtu size='0'/>"), "n.mtu", None),
    "mac": (doc("<mac address='52:54:0:A:b:1'/>"), "n.mac", "52:54:00:0a:0b:01"),
    "no mode is nat": (doc(f"<forward/>{IP}"), "n.mode", "nat"),
    "no forward is isolated": (doc(""), "n.mode", "isolated"),
    "mode none is isolated": (forward("none"), "n.mode", "isolated"),
    "dev is the first interface": (
        forward("nat", "<interface dev='a' connections='1'/>", IP, " dev='a'"),
        "n.devices.interfaces",
        ("a",),
    ),
    "dev alone": (forward("nat", "", IP, " dev='a'"), "n.devices.interfaces", ("a",)),
    "dev of an isolated network": (forward("none", "", "", " dev='a'"), "n.devices.interfaces", ()),
    "interfaces before pf": (
        forward("passthrough", f"<interface dev='a'/>{PF}"),
        "(n.devices.interfaces, n.devices.pf)",
        (("a",), None),
    ),
    "addresses before pf": (forward("hostdev", PCI + PF), "(len(n.devices.pci), n.devices.pf)", (1, None)),
    "managed is yes or not": (forward("hostdev", PF, "", " managed='YES'"), "n.devices.managed", True),
    "managed is anything else": (forward("hostdev", PF, "", " managed='x'"), "n.devices.managed", False),
    "hexadecimal PCI": (
        forward("hostdev", "<address type='pci' bus='0xFF' slot='31'/>"),
        "(n.devices.pci[0].bus, n.devices.pci[0].slot)",
        (255, 31),
    ),
    "macvtap bridge": (forward("bridge", "<interface dev='a'/>"), "(n.mode, n.macvtap_mode)", ("macvtap", "bridge")),
    "bridge": (forward("bridge", "", BRIDGED), "(n.mode, n.bridge.name)", ("bridge", "br0")),
    "delay 0 in bridge mode": (forward("bridge", "", "<bridge name='b' delay='0'/>"), "n.bridge.delay", 0),
    "nat ports unset": (nat("<nat><port start='0' end='0'/></nat>"), "n.nat", None),
    "nat ipv6 no": (nat("<nat ipv6='no'/>"), "n.nat.ipv6", False),
    "one nat address": (
        nat("<nat><address start='1.1.1.1' end='1.1.1.1'/></nat>"),
        "str(n.nat.address.end)",
        "1.1.1.1",
    ),
    "stp by default": (doc(""), "n.bridge.stp", True),
    "stp by default with bridge": (doc("<bridge name='b'/>"), "n.bridge.stp", True),
    "stp off": (doc("<bridge stp='off'/>"), "n.bridge.stp", False),
    "stp anything": (doc("<bridge stp='Off'/>"), "n.bridge.stp", True),
    "bridge template": (doc("<bridge name='abcdefghijklmn%d'/>"), "n.bridge.name", "abcdefghijklmn%d"),
    "mac table": (doc("<bridge macTableManager='libvirt'/>"), "n.bridge.mac_table", "vnetd"),
    "domain without name": (doc("<domain localOnly='yes'/>"), "n.domain", None),
    "dns options in a pool": (
        forward("vepa", "<interface dev='a'/>", "<dns enable='no'/>"),
        "n.dns.enable",
        False,
    ),
    "srv without service there": (
        dns("<srv service='a*/+-_' protocol='t+/-' target='.'/>"),
        "n.dns.services[0].target",
        ".",
    ),
    "srv zero is none": (
        dns("<srv service='a' protocol='b' target='c' priority='0' weight='0'/>"),
        "(n.dns.services[0].priority, n.dns.services[0].weight)",
        (None, None),
    ),
    "class A": (doc("<ip address='10.0.0.1'/>"), "n.addresses[0].address.network.prefixlen", 8),
    "class B": (doc("<ip address='172.16.0.1' prefix='0'/>"), "n.addresses[0].address.network.prefixlen", 16),
    "class C": (doc("<ip address='192.168.5.1'/>"), "n.addresses[0].address.network.prefixlen", 24),
    "no prefix of ipv6": (doc("<ip family='ipv6' address='fd00::1'/>"), "n.addresses[0].address.network.prefixlen", 64),
    "octal": (doc("<ip address='010.0.0.1' prefix='8'/>"), "str(n.addresses[0].address)", "8.0.0.1/8"),
    "short form": (doc("<ip address='10.1' prefix='8'/>"), "str(n.addresses[0].address)", "10.0.0.1/8"),
    "empty dhcp": (dhcp(""), "n.addresses[0].dhcp", None),
    "bootp alone": (dhcp("<bootp file='f'/>"), "n.addresses[0].dhcp", None),
    "tftp without root": (ip("<tftp/>"), "n.addresses[0].tftp_root", None),
    "lease of two minutes": (
        dhcp("<range start='192.168.5.9' end='192.168.5.9'><lease expiry='2'/></range>"),
        "n.addresses[0].dhcp.ranges[0].lease.seconds",
        120,
    ),
    "infinite lease": (
        dhcp("<range start='192.168.5.9' end='192.168.5.9'><lease/></range>"),
        "n.addresses[0].dhcp.ranges[0].lease.seconds",
        0,
    ),
    "mac as typed": (
        dhcp("<host mac='52:54:0:A:b:1' ip='192.168.5.9'/>"),
        "n.addresses[0].dhcp.hosts[0].mac",
        "52:54:0:A:b:1",
    ),
    "largest range": (
        doc("<ip address='10.0.0.1' prefix='8'><dhcp><range start='10.1.0.0' end='10.1.255.255'/></dhcp></ip>"),
        "len(n.addresses[0].dhcp.ranges)",
        1,
    ),
    "default route": (route("address='0.0.0.0' gateway='192.168.5.9'"), "str(n.routes[0].destination)", "0.0.0.0/0"),
    "route of ipv6": (
        route("family='ipv6' address='fd01::' prefix='64' gateway='fd00::9'"),
        "str(n.routes[0].destination)",
        "fd01::/64",
    ),
    "average 0": (doc("<bandwidth><inbound average='0'/></bandwidth>"), "n.bandwidth", None),
    "vlan of a host bridge": (
        forward("bridge", "", f"{BRIDGED}<vlan><tag id='1'/><tag id='2'/></vlan>"),
        "n.vlan.trunk",
        True,
    ),
    "vlan trunk no": (forward("hostdev", PF, "<vlan trunk='NO'><tag id='1'/></vlan>"), "n.vlan.trunk", None),
    "vlan that only a default port group allows": (
        forward(
            "bridge",
            "",
            f"{BRIDGED}<vlan><tag id='1'/></vlan><virtualport type='midonet'/>"
            "<portgroup name='g' default='yes'><virtualport type='openvswitch'/></portgroup>",
        ),
        "n.vlan.tags[0].id",
        1,
    ),
    "port group default": (doc("<portgroup name='g' default='YES'/>"), "n.portgroups[0].default", True),
    "port group no default": (doc("<portgroup name='g' default='true'/>"), "n.portgroups[0].default", False),
    "hexadecimal parameters": (
        forward("hostdev", PF, "<virtualport type='802.1Qbg'><parameters typeid='0xFF'/></virtualport>"),
        "n.virtualport.typeid",
        255,
    ),
    "forwarder with zone": (
        dns("<forwarder addr='fe80::1%eth0'/>"),
        "str(n.dns.forwarders[0].address)",
        "fe80::1%eth0",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_is_accepted_with_libvirts_meaning(name: str) -> None:
    text, expression, expected = ACCEPTED[name]
    network = parse_network(text).value
    assert eval(str(expression), {"n": network}) == expected
    assert parse_network(network_to_xml(network)).value == network


WARNED: dict[str, tuple[str, str]] = {
    "host outside the subnet": (dhcp("<host name='a' ip='10.0.0.9'/>"), "<host ip='10.0.0.9'>: address 10.0.0.9 lies"),
    "host of another family": (dhcp("<host name='a' ip='fd00::9'/>"), "<host ip='fd00::9'>: address fd00::9 lies"),
    "name given twice": (
        dhcp("<host name='a' ip='192.168.5.8'/><host name='a' ip='192.168.5.9'/>"),
        "<host name='a' ip='192.168.5.9'>: name a is given",
    ),
    "mac given twice": (
        dhcp("<host mac='52:54:0:0:0:1' ip='192.168.5.8'/><host mac='52:54:00:00:00:01' ip='192.168.5.9'/>"),
        "mac 52:54:00:00:00:01 is given",
    ),
    "address given twice": (
        dhcp("<host name='a' ip='192.168.5.8'/><host name='b' ip='192.168.5.8'/>"),
        "address 192.168.5.8 is given",
    ),
    "octal": (doc("<ip address='010.0.0.1' prefix='8'/>"), "<ip address='010.0.0.1'>: read as 8.0.0.1"),
    "stp word": (doc("<bridge stp='no'/>"), "<bridge stp='no'>: read as 'on'"),
    "bootp alone": (dhcp("<bootp file='f'/>"), "<bootp file='f'>: without a range or host"),
    "losers among devices": (forward("hostdev", PCI + PF), "pf dropped"),
    "dev of an isolated network": (forward("none", "", "", " dev='a'"), "interfaces dropped"),
    "managed elsewhere": (forward("vepa", "<interface dev='a'/>", "", " managed='yes'"), "managed='yes'"),
    "network address": (doc("<ip address='192.168.5.0' prefix='24'/>"), "network or broadcast address"),
    "small mtu with IPv6": (doc("<mtu size='1000'/><ip family='ipv6' address='fd00::1'/>"), "<mtu size='1000'>: IPv6"),
    "gateway is the host": (
        route("address='10.0.0.0' prefix='8' gateway='192.168.5.1'"),
        "<route gateway='192.168.5.1'>: gateway 192.168.5.1 is the host itself",
    ),
    "empty pool": (forward("vepa"), "without devices"),
    "virtual port of a network with bridge": (doc("<virtualport type='openvswitch'/>"), "<virtualport type="),
    "average 0": (doc("<bandwidth><inbound average='0'/></bandwidth>"), "<inbound average='0'>: an average of 0"),
    "metadata without namespace": (doc("<metadata><a/></metadata>"), "<a> has no namespace"),
    "metadata twice": (
        doc("<metadata xmlns:a='urn:a'><a:x/><a:y/></metadata>"),
        "<a:y> is the second of namespace 'urn:a'",
    ),
    "domain without name": (doc("<domain localOnly='no'/>"), "<domain localOnly='no'>: a domain without a name"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_is_surely_a_mistake_is_accepted_with_a_warning(name: str) -> None:
    text, words = WARNED[name]
    warnings = parse_network(text).warnings
    assert any(words in warning for warning in warnings), warnings


def test_metadata_keeps_what_it_needs_from_elements_around_it() -> None:
    text = (
        "<network xmlns:a='urn:a' xmlns='' ><name>n</name><metadata xmlns:b='urn:b'><a:x b:k='v'/></metadata></network>"
    )
    assert parse_network(text).value.metadata == ('<a:x xmlns:a="urn:a" xmlns:b="urn:b" b:k="v"/>',)


def test_unknown_things_are_dropped_with_leniency_and_each_is_named() -> None:
    text = doc("<colour/>stray<ip address='10.0.0.1' shade='dark'><dhcp><lamp/></dhcp></ip>", " tone='x'")
    parsed = parse_network(text, lenient=True)
    assert parsed.value == parse_network(doc("<ip address='10.0.0.1'/>")).value
    assert [word for word in ("<colour>", "stray", "shade", "<lamp>", "tone") if word not in str(parsed.warnings)] == []


def test_leniency_does_not_forgive_wrong_values() -> None:
    with pytest.raises(Invalid, match="yes or no"):
        parse_network(doc("<port isolated='x'/>"), lenient=True)


def test_a_network_says_nothing_that_was_not_said() -> None:
    assert parse_network(doc("<bridge stp='off'/>")).value == Network(name="n")
