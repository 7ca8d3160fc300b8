"""The language of filter rules: every attribute of every element with values it takes and values it does not."""

from collections.abc import Mapping

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.filter import Filter, Rule
from vnetd.model.filter_protocols import PROTOCOLS
from vnetd.xmlcodec.filter import filter_from_xml, filter_to_xml

Kept = Mapping[str, str]
"""Values as they may be written, and as they are kept."""
MAC: tuple[Kept, tuple[str, ...]] = (
    {"52:54:00:00:00:01": "52:54:00:00:00:01", "2:3:4:A:B:C": "02:03:04:0a:0b:0c"},
    ("52:54:00:00:00", "52:54:00:00:00:01:02", "52:54:00:00:00:gg", "52-54-00-00-00-01", "x"),
)
MAC_MASK: tuple[Kept, tuple[str, ...]] = (
    {"ff:ff:ff:00:00:00": "ff:ff:ff:00:00:00", "0:0:0:0:0:0": "00:00:00:00:00:00"},
    ("ff:00:ff:00:00:00", "00:ff:ff:ff:ff:ff", "24", "ff"),
)
IP4: tuple[Kept, tuple[str, ...]] = (
    {"10.0.0.1": "10.0.0.1", "255.255.255.255": "255.255.255.255", "10.1": "10.0.0.1", "010.0.0.1": "8.0.0.1"},
    ("10.0.0.256", "fe80::1", "10.0.0.0/8", "host", "10.0.0.1.2"),
)
IP6: tuple[Kept, tuple[str, ...]] = (
    {"FE80:0::1": "fe80::1", "::": "::", "::ffff:a00:1": "::ffff:10.0.0.1", "::A00:1": "::10.0.0.1"},
    ("10.0.0.1", "fe80::1%eth0", "fe80::/10", ":::", "g::"),
)
MASK4: tuple[Kept, tuple[str, ...]] = (
    {"0": "0", "32": "32", "255.255.255.0": "24", "0.0.0.0": "0", "255.255.255.255": "32"},
    ("33", "-1", "255.0.255.0", "0.255.255.255", "0.0.0.255", "ffff::", "x"),
)
MASK6: tuple[Kept, tuple[str, ...]] = (
    {"0": "0", "128": "128", "ffff:ffff::": "32", "::": "0"},
    ("129", "-1", "ffff:0:ffff::", "255.0.0.0", "x"),
)


def number(bits: int) -> tuple[Kept, tuple[str, ...]]:
    """Decimal, and hexadecimal with or without ``0x`` where it cannot be decimal."""
    top = (1 << bits) - 1
    kept = {"0": "0", str(top): str(top), f"0x{top:X}": f"0x{top:x}", "0x0a": "0xa", "c": "0xc", "007": "7"}
    return kept, (str(top + 1), f"0x{top + 1:x}", "-1", "1.5", "0x", "1 2", "z")


U8, U16, U32 = number(8), number(16), number(32)
DSCP: tuple[Kept, tuple[str, ...]] = {"0": "0", "63": "63", "0x3f": "0x3f"}, ("64", "0x40", "-1", "af11")
TYPE_NAMES = {"arp": "arp", "RARP": "rarp", "ipv4": "ipv4", "IPv6": "ipv6", "vlan": "vlan"}
OPCODES = ["Request", "Reply", "Request_Reverse", "Reply_Reverse", "DRARP_Request", "DRARP_Reply", "DRARP_Error"]
OPCODES += ["InARP_Request", "ARP_NAK"]
STATES: tuple[Kept, tuple[str, ...]] = (
    {"NEW": "NEW", "new,established": "NEW,ESTABLISHED", "RELATED,INVALID": "RELATED,INVALID", "NEW,NONE": "NONE"},
    ("OLD", "NEW;ESTABLISHED", "NEW,", "UNTRACKED"),
)
FLAGS: tuple[Kept, tuple[str, ...]] = (
    {"SYN/ALL": "SYN/ALL", "syn,ack/syn": "SYN,ACK/SYN", "ALL/NONE": "ALL/NONE", "FIN,URG,PSH/RST": "FIN,URG,PSH/RST"},
    ("SYN", "SYN/", "/SYN", "SYN/ACK/FIN", "ECE/ECE", "SYN ACK/SYN"),
)
IPSET: tuple[Kept, tuple[str, ...]] = {"a": "a", "x_.:-+ y": "x_.:-+ y", "n" * 31: "n" * 31}, ("n" * 32, "a,b", "a/b")
IPSET_FLAGS: tuple[Kept, tuple[str, ...]] = (
    {"src": "src", "DST,src": "dst,src", ",".join(["src"] * 6): ",".join(["src"] * 6)},
    ("source", "src,", ",".join(["dst"] * 7)),
)
COMMENT: tuple[Kept, tuple[str, ...]] = (
    {"a <b> & 'c' \"d\"": "a <b> & 'c' \"d\"", "c" * 256: "c" * 256, "ü": "ü"},
    ("c" * 257, "a\nb", "\x7f"),
)
PROTOCOL_NAMES = ["tcp", "udp", "udplite", "esp", "ah", "icmp", "igmp", "sctp", "icmpv6"]
PROTOCOL_NUMBERS: tuple[Kept, tuple[str, ...]] = (
    {**{one: one for one in PROTOCOL_NAMES}, "TCP": "tcp", "255": "255"},
    ("256", "gre", "-1"),
)
OTHERS: Mapping[str, tuple[Kept, tuple[str, ...]]] = {
    "protocolid": ({**TYPE_NAMES, "0x600": "0x600", "65535": "65535"}, ("0x5ff", "65536", "ip")),
    "encap-protocol": ({**TYPE_NAMES, "0x3c": "0x3c", "0xffff": "0xffff"}, ("0x3b", "0x10000", "ip")),
    "vlanid": ({"0": "0", "4095": "4095", "0xfff": "0xfff"}, ("4096", "-1", "x")),
    "opcode": ({**{one: one for one in OPCODES}, "reply": "Reply", "65535": "65535"}, ("65536", "Ask")),
    "gratuitous": ({"true": "true", "1": "true", "YES": "true", "no": "false", "maybe": "false"}, ()),
    "protocol": PROTOCOL_NUMBERS,
    "dscp": DSCP,
    "connlimit-above": U16,
    "state": STATES,
    "ipset": IPSET,
    "ipsetflags": IPSET_FLAGS,
    "flags": FLAGS,
    "option": U8,
    "comment": COMMENT,
    "hwtype": U16,
    "protocoltype": U16,
}
STP_RANGES = ["root-priority", "root-cost", "sender-priority", "port", "age", "max-age", "hello-time", "forward-delay"]
STP_NUMBERS = {"type": U8, "flags": U8} | {
    f"{name}{end}": U32 if name == "root-cost" else U16 for name in STP_RANGES for end in ("", "-hi")
}
STP_ADDRESSES = ("root-address", "root-address-mask", "sender-address", "sender-address-mask")
MAC4 = ("srcmacaddr", "srcmacmask", "dstmacaddr", "dstmacmask")
IPS = ("srcipaddr", "srcipmask", "dstipaddr", "dstipmask")
L3 = ("srcmacaddr", *IPS, "srcipfrom", "srcipto", "dstipfrom", "dstipto", "dscp", "connlimit-above")
L3 = (*L3, "state", "ipset", "ipsetflags")
PORTS = ("srcportstart", "srcportend", "dstportstart", "dstportend")
ARP = ("arpsrcmacaddr", "arpdstmacaddr", "arpsrcipaddr", "arpsrcipmask", "arpdstipaddr", "arpdstipmask", "gratuitous")
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "mac": (*MAC4, "protocolid"),
    "vlan": (*MAC4, "vlanid", "encap-protocol"),
    "stp": ("srcmacaddr", "srcmacmask", *STP_NUMBERS, *STP_ADDRESSES),
    **{name: (*MAC4, "hwtype", "protocoltype", "opcode", *ARP) for name in ("arp", "rarp")},
    "ip": (*MAC4, *IPS, "protocol", *PORTS, "dscp"),
    "ipv6": (*MAC4, *IPS, "protocol", *PORTS, "type", "typeend", "code", "codeend"),
    **{f"tcp{version}": (*L3, *PORTS, "option", "flags") for version in ("", "-ipv6")},
    **{f"{name}{version}": (*L3, *PORTS) for name in ("udp", "sctp") for version in ("", "-ipv6")},
    **{name: (*L3, "type", "code") for name in ("icmp", "icmpv6")},
    **{f"{name}{version}": L3 for name in ("udplite", "esp", "ah", "all") for version in ("", "-ipv6")},
    "igmp": L3,
}


def kind(element: str, attribute: str) -> tuple[Kept, tuple[str, ...]]:
    """Values an attribute takes and does not take."""
    if element == "stp" and attribute in STP_NUMBERS:
        return STP_NUMBERS[attribute]
    if attribute in OTHERS:
        return OTHERS[attribute]
    if attribute.endswith(("macaddr", "address")):
        return MAC
    if attribute.endswith(("macmask", "address-mask")):
        return MAC_MASK
    six = element == "ipv6" or element.endswith(("-ipv6", "icmpv6"))
    if "ip" in attribute:
        four = (IP4, MASK4) if not six else (IP6, MASK6)
        return four[attribute.endswith("mask")]
    return U16 if "port" in attribute else U8


def document(element: str, attribute: str, value: str, more: str = "") -> str:
    given = value.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;").replace("\n", "&#10;")
    ports = " protocol='tcp'" if element in {"ip", "ipv6"} and "port" in attribute else ""
    return (
        "<filter name='f'><rule action='drop' direction='in'>"
        f"<{element}{ports} {attribute}='{given}'{more}/></rule></filter>"
    )


def kept(one: Filter, attribute: str) -> str:
    (rule,) = one.entries
    assert isinstance(rule, Rule) and rule.match
    return rule.match.values[attribute].value


def test_every_element_has_just_these_attributes() -> None:
    assert set(ATTRIBUTES) == set(PROTOCOLS) and len(ATTRIBUTES) == 24
    for name, attributes in ATTRIBUTES.items():
        assert set(PROTOCOLS[name].attributes) - {"comment"} == set(attributes), name
        assert "comment" in PROTOCOLS[name].attributes


@pytest.mark.parametrize("element", ATTRIBUTES)
def test_values_are_kept_in_one_form_that_is_stable_in_both_notations(element: str) -> None:
    for attribute in (*ATTRIBUTES[element], "comment"):
        values, _ = kind(element, attribute)
        for value, canonical in (*values.items(), ("$NAME", "$NAME"), ("$NAME[@2]", "$NAME[@2]"), ("$N[7]", "$N[7]")):
            one = filter_from_xml(document(element, attribute, value)).value
            assert kept(one, attribute) == canonical
            written = filter_to_xml(one)
            assert filter_to_xml(filter_from_xml(written).value) == written
            assert Filter.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize("element", ATTRIBUTES)
def test_other_values_are_refused_naming_element_attribute_and_line(element: str) -> None:
    for attribute in (*ATTRIBUTES[element], "comment"):
        for value in (*kind(element, attribute)[1], "$", "$A[", "$A[@1001]", "$A B"):
            with pytest.raises(Invalid) as caught:
                filter_from_xml(document(element, attribute, value))
            assert f"<{element}" in str(caught.value)
            assert attribute in str(caught.value)
            assert "line 1" in str(caught.value)


@pytest.mark.parametrize("element", ATTRIBUTES)
def test_every_attribute_is_negated_or_follows_the_one_it_belongs_to(element: str) -> None:
    for attribute in ATTRIBUTES[element]:
        if element in {"ip", "ipv6"} and "port" in attribute:  # they need a protocol that is not negated
            continue
        value = next(iter(kind(element, attribute)[0]))
        parsed = filter_from_xml(document(element, attribute, value, " match='no'"))
        (rule,) = parsed.value.entries
        assert isinstance(rule, Rule) and rule.match
        follows = attribute in PROTOCOLS[element].signs
        assert rule.match.values[attribute].negated is not follows
        assert bool(parsed.warnings) is follows
        written = filter_to_xml(parsed.value)
        assert filter_to_xml(filter_from_xml(written).value) == written
