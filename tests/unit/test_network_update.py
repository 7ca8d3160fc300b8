"""One section of a network changes as net-update changes it, and what cannot be is refused with its own error."""

import pytest

from vnetd.model.errors import Exists, Invalid, NotFound, Unsupported, VnetError
from vnetd.model.network import Network
from vnetd.xmlcodec.documents import network_to_xml, parse_network
from vnetd.xmlcodec.update import apply_update

BEFORE = """<network>
  <name>n</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='on' delay='0'/>
  <dns>
    <txt name='t' value='one'/>
    <srv service='s' protocol='tcp' domain='d' target='a'/>
    <srv service='s' protocol='udp' domain='d' target='a'/>
    <host ip='10.0.0.5'>
      <hostname>five</hostname>
      <hostname>also</hostname>
    </host>
    <host ip='10.0.0.6'>
      <hostname>six</hostname>
    </host>
  </dns>
  <ip family='ipv6' address='fd00::1' prefix='64'>
  </ip>
  <ip address='10.0.0.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='10.0.0.100' end='10.0.0.110'/>
      <host mac='52:54:00:00:00:02' name='two' ip='10.0.0.2'/>
      <host name='three' ip='10.0.0.3'/>
    </dhcp>
  </ip>
  <portgroup name='g' default='yes'/>
  <portgroup name='h'/>
</network>
"""
POOL = "<network><name>p</name><forward mode='vepa'><interface dev='a'/><interface dev='b'/></forward></network>"


@pytest.fixture(scope="module")
def network() -> Network:
    return parse_network(BEFORE).value


def lines(network: Network, tag: str) -> list[str]:
    """The lines of the document that hold elements of ``tag``."""
    return [line.strip() for line in network_to_xml(network).splitlines() if f"<{tag} " in line]


HOSTS = lines(parse_network(BEFORE).value, "host")[2:]
RANGES = ["<range start='10.0.0.100' end='10.0.0.110'/>"]
TWO, THREE = HOSTS
NEW = "<host mac='52:54:00:00:00:09' name='nine' ip='10.0.0.9'/>"

CHANGES = [
    ("add", "ip-dhcp-host", NEW, "host", [TWO, THREE, NEW]),
    ("add-last", "ip-dhcp-host", NEW, "host", [TWO, THREE, NEW]),
    ("add-first", "ip-dhcp-host", NEW, "host", [NEW, TWO, THREE]),
    ("modify", "ip-dhcp-host", "<host name='two' ip='10.0.0.8'/>", "host", ["<host name='two' ip='10.0.0.8'/>", THREE]),
    (
        "modify",
        "ip-dhcp-host",
        "<host mac='52:54:0:0:0:2' name='neu' ip='10.0.0.8'/>",
        "host",
        ["<host mac='52:54:0:0:0:2' name='neu' ip='10.0.0.8'/>", THREE],
    ),
    ("modify", "ip-dhcp-host", "<host name='x' ip='10.0.0.3'/>", "host", [TWO, "<host name='x' ip='10.0.0.3'/>"]),
    ("delete", "ip-dhcp-host", "<host mac='52:54:0:0:0:2'/>", "host", [THREE]),
    ("delete", "ip-dhcp-host", "<host name='three'/>", "host", [TWO]),
    ("delete", "ip-dhcp-host", "<host ip='10.0.0.3' mac='52:54:0:0:0:7'/>", "host", [TWO]),
    ("delete", "ip-dhcp-host", "<host name='two' ip='10.0.0.2' id='aa'/>", "host", [THREE]),
    (
        "add",
        "ip-dhcp-range",
        "<range start='10.0.0.120' end='10.0.0.130'><lease expiry='1' unit='hours'/></range>",
        "range",
        [*RANGES, "<range start='10.0.0.120' end='10.0.0.130'>"],
    ),
    (
        "add-first",
        "ip-dhcp-range",
        "<range start='10.0.0.50' end='10.0.0.60'/>",
        "range",
        ["<range start='10.0.0.50' end='10.0.0.60'/>", *RANGES],
    ),
    ("delete", "ip-dhcp-range", RANGES[0], "range", []),
    ("add", "portgroup", "<portgroup name='i'/>", "portgroup", ["g", "h", "i"]),
    ("add-first", "portgroup", "<portgroup name='i'/>", "portgroup", ["i", "g", "h"]),
    ("modify", "portgroup", "<portgroup name='g'/>", "portgroup", ["<portgroup name='g'/>", "<portgroup name='h'/>"]),
    (
        "modify",
        "portgroup",
        "<portgroup name='g' default='yes' trustGuestRxFilters='no'/>",
        "portgroup",
        ["trust", "h"],
    ),
    ("delete", "portgroup", "<portgroup name='g'/>", "portgroup", ["<portgroup name='h'/>"]),
    ("add", "dns-host", "<host ip='10.0.0.7'><hostname>seven</hostname></host>", "host", ["0.5", "0.6", "0.7"]),
    ("delete", "dns-host", "<host ip='10.0.0.5'/>", "host", ["0.6"]),
    ("delete", "dns-host", "<host><hostname>also</hostname></host>", "host", ["0.6"]),
    ("modify", "dns-host", "<host ip='10.0.0.5'><hostname>new</hostname></host>", "host", ["0.5", "0.6"]),
    ("add", "dns-txt", "<txt name='u' value='two'/>", "txt", ["'t'", "'u'"]),
    ("modify", "dns-txt", "<txt name='t' value='other'/>", "txt", ["other"]),
    ("delete", "dns-txt", "<txt name='t'/>", "txt", []),
    ("add-first", "dns-srv", "<srv service='s' protocol='sctp'/>", "srv", ["sctp", "tcp", "udp"]),
    ("delete", "dns-srv", "<srv protocol='udp'/>", "srv", ["tcp"]),
]


@pytest.mark.parametrize(("command", "section", "snippet", "tag", "expected"), CHANGES)
def test_a_section_changes(
    network: Network, command: str, section: str, snippet: str, tag: str, expected: list[str]
) -> None:
    changed = apply_update(network, command, section, snippet)
    found = lines(changed, tag)
    if tag == "host":
        found = found[2:] if section == "ip-dhcp-host" else found[: -len(HOSTS)]
    assert len(found) == len(expected), found
    for line, words in zip(found, expected, strict=True):
        assert words in line
    assert parse_network(network_to_xml(changed)).value == changed
    assert network_to_xml(network) == BEFORE, "the network it was applied to has not changed"


REFUSED: list[tuple[str, str, str, type[VnetError], str]] = [
    ("replace", "dns-txt", "<txt name='t'/>", Unsupported, "command 'replace' is unknown"),
    ("add", "colour", "<txt name='t'/>", Unsupported, "section 'colour' is unknown"),
    *(
        (command, section, "<bridge/>", Unsupported, f"section '{section}' cannot be updated")
        for section in ("bridge", "domain", "ip", "forward", "forward-pf")
        for command in ("add", "modify", "delete")
    ),
    ("modify", "ip-dhcp-range", RANGES[0], Unsupported, "'ip-dhcp-range' cannot be modified"),
    ("modify", "forward-interface", "<interface dev='a'/>", Unsupported, "'forward-interface' cannot be modified"),
    ("modify", "dns-srv", "<srv service='s' protocol='tcp'/>", Unsupported, "'dns-srv' cannot be modified"),
    ("add", "ip-dhcp-host", "<range start='10.0.0.2' end='10.0.0.3'/>", Invalid, "<host> is needed"),
    ("add", "ip-dhcp-host", "no XML", Invalid, "well-formed"),
    ("add", "ip-dhcp-host", "<host mac='52:54:0:0:0:2' ip='10.0.0.9'/>", Exists, "mac, name or ip"),
    ("add", "ip-dhcp-host", "<host name='three' ip='10.0.0.9'/>", Exists, "exists already"),
    ("add", "ip-dhcp-host", "<host name='x' ip='10.0.0.3'/>", Exists, "exists already"),
    ("add", "ip-dhcp-host", "<host name='x'/>", Invalid, "attribute ip is needed"),
    ("add", "ip-dhcp-host", "<host ip='10.0.0.9'/>", Invalid, "needs mac or name"),
    ("add", "ip-dhcp-host", "<host name='x' ip='10.0.0.9' colour='red'/>", Invalid, "attribute colour"),
    ("add", "ip-dhcp-host", "<host name='x' ip='fd00::9'/>", Invalid, "another family"),
    ("modify", "ip-dhcp-host", "<host name='x' ip='10.0.0.9'/>", NotFound, "no such host"),
    ("delete", "ip-dhcp-host", "<host name='two' ip='10.0.0.3'/>", NotFound, "no such host"),
    ("delete", "ip-dhcp-host", "<host id='aa'/>", Invalid, "mac, name or ip is needed"),
    ("delete", "ip-dhcp-host", "<host mac='zz'/>", Invalid, "<host mac='zz'>"),
    ("add", "ip-dhcp-range", RANGES[0], Exists, "this range"),
    ("add", "ip-dhcp-range", "<range start='10.0.0.105' end='10.0.0.120'/>", Invalid, "overlaps"),
    ("add", "ip-dhcp-range", "<range start='10.0.9.5' end='10.0.9.6'/>", Invalid, "outside the subnet"),
    ("add", "ip-dhcp-range", "<range start='fd00::5' end='fd00::6'/>", Invalid, "another family"),
    ("delete", "ip-dhcp-range", "<range start='10.0.0.100' end='10.0.0.111'/>", NotFound, "no such range"),
    ("add", "forward-interface", "<interface/>", Invalid, "attribute dev is needed"),
    ("delete", "forward-interface", "<interface dev='x'/>", NotFound, "no such interface"),
    ("add", "portgroup", "<portgroup name='g'/>", Exists, "port group g exists"),
    ("add", "portgroup", "<portgroup name='i' default='yes'/>", Exists, "default port group, g"),
    ("modify", "portgroup", "<portgroup name='h' default='yes'/>", Exists, "default port group, g"),
    ("modify", "portgroup", "<portgroup name='i'/>", NotFound, "no such port group"),
    ("delete", "portgroup", "<portgroup name='i'/>", NotFound, "no such port group"),
    ("delete", "portgroup", "<portgroup/>", Invalid, "attribute name is needed"),
    ("add", "portgroup", "<portgroup name='i'><vlan><tag id='1'/></vlan></portgroup>", Invalid, "cannot be on VLANs"),
    ("add", "dns-host", "<host ip='10.0.0.5'><hostname>x</hostname></host>", Exists, "10.0.0.5"),
    ("add", "dns-host", "<host ip='10.0.0.9'/>", Invalid, "at least 1 item"),
    ("modify", "dns-host", "<host ip='10.0.0.9'><hostname>x</hostname></host>", NotFound, "no such DNS host"),
    ("delete", "dns-host", "<host ip='10.0.0.9'/>", NotFound, "no such DNS host"),
    ("delete", "dns-host", "<host/>", Invalid, "ip or a hostname is needed"),
    (
        "delete",
        "dns-host",
        "<host ip='10.0.0.5'><hostname>six</hostname></host>",
        Invalid,
        "2 entries match",
    ),
    ("add", "dns-txt", "<txt name='t' value='x'/>", Exists, "'t'"),
    ("add", "dns-txt", "<txt name='u'/>", Invalid, "attribute value is needed"),
    ("modify", "dns-txt", "<txt name='t'/>", Invalid, "attribute value is needed"),
    ("modify", "dns-txt", "<txt name='u' value='x'/>", NotFound, "no such TXT record"),
    ("delete", "dns-txt", "<txt name='u'/>", NotFound, "no such TXT record"),
    ("add", "dns-txt", "<txt name='u' value='a&#10;b'/>", Invalid, "control character"),
    ("add", "dns-srv", "<srv service='s' protocol='tcp'/>", Exists, "exists already"),
    ("add", "dns-srv", "<srv service='s'/>", Invalid, "protocol"),
    ("delete", "dns-srv", "<srv service='s'/>", Invalid, "2 entries match"),
    ("delete", "dns-srv", "<srv service='x'/>", NotFound, "no such service"),
    ("delete", "dns-srv", "<srv/>", Invalid, "which service is meant"),
]


@pytest.mark.parametrize(("command", "section", "snippet", "error", "words"), REFUSED)
def test_a_change_that_cannot_be_is_refused_with_its_own_error(
    network: Network, command: str, section: str, snippet: str, error: type[VnetError], words: str
) -> None:
    with pytest.raises(error) as caught:
        apply_update(network, command, section, snippet)
    assert words in str(caught.value)
    assert type(caught.value) is error


def test_an_uplink_can_be_given_and_taken() -> None:
    pool = parse_network(POOL).value
    grown = apply_update(pool, "add-first", "forward-interface", "<interface dev='c' connections='4'/>")
    assert grown.devices.interfaces == ("c", "a", "b")
    assert apply_update(grown, "delete", "forward-interface", "<interface dev='a'/>").devices.interfaces == ("c", "b")
    with pytest.raises(Exists, match="interface a"):
        apply_update(pool, "add", "forward-interface", "<interface dev='a'/>")


def test_a_second_uplink_of_a_nat_network_is_refused_as_defining_it_would_be(network: Network) -> None:
    once = apply_update(network, "add", "forward-interface", "<interface dev='a'/>")
    with pytest.raises(Invalid, match="one interface at most"):
        apply_update(once, "add", "forward-interface", "<interface dev='b'/>")


def test_the_parent_index_counts_all_addresses(network: Network) -> None:
    host = "<host id='0:1' name='six' ip='fd00::6'/>"
    changed = apply_update(network, "add", "ip-dhcp-host", host, parent_index=0)
    assert changed.addresses[0].dhcp is not None and changed.addresses[0].dhcp.hosts[0].name == "six"
    with pytest.raises(Invalid, match="another family"):
        apply_update(network, "add", "ip-dhcp-host", host, parent_index=1)
    with pytest.raises(NotFound, match="2 <ip> elements: there is none of index 2"):
        apply_update(network, "add", "ip-dhcp-host", host, parent_index=2)


def test_a_negative_parent_index_means_the_subnet_with_dhcp_else_the_first_of_ipv4(network: Network) -> None:
    assert apply_update(network, "add", "ip-dhcp-host", NEW, parent_index=-7).addresses[1].dhcp is not None
    bare = apply_update(network, "delete", "ip-dhcp-range", RANGES[0])
    for host in (TWO, THREE):
        bare = apply_update(bare, "delete", "ip-dhcp-host", host)
    assert bare.addresses[1].dhcp is None, "DHCP without range and host is none"
    assert apply_update(bare, "add", "ip-dhcp-range", RANGES[0]).addresses[1].dhcp is not None


def test_dhcp_of_a_second_subnet_of_the_family_is_refused() -> None:
    text = BEFORE.replace("<portgroup name='g'", "<ip address='10.1.0.1' prefix='24'/><portgroup name='g'")
    with pytest.raises(Invalid, match=r"10.0.0.1/24 already"):
        apply_update(parse_network(text).value, "add", "ip-dhcp-host", "<host name='x' ip='10.1.0.5'/>", parent_index=2)


def test_a_network_without_addresses_has_no_place_for_dhcp() -> None:
    with pytest.raises(NotFound, match="0 <ip> elements"):
        apply_update(Network(name="n"), "add", "ip-dhcp-host", NEW)


def test_dns_comes_and_goes_with_its_records() -> None:
    with_text = apply_update(Network(name="n"), "add", "dns-txt", "<txt name='a' value='b'/>")
    assert with_text.dns is not None and with_text.dns.texts[0].value == "b"
    assert apply_update(with_text, "delete", "dns-txt", "<txt name='a'/>") == Network(name="n")
