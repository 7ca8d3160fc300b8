"""The built-in filters are, rule by rule, what libvirt's nwfilter documents have, and vnetd's own beside them."""

import pytest

from vnetd.model.filter import Reference, Rule
from vnetd.xmlcodec.filter_builtin import builtin_filters

DHCP_OUT = "out accept 100: ip srcipaddr=0.0.0.0 dstipaddr=255.255.255.255 protocol=udp srcportstart=68 dstportstart=67"
DHCPV6_OUT = (
    "out accept 100: ipv6 srcipaddr=fe80:: srcipmask=10 dstipaddr=ff02::1:2 protocol=udp "
    "srcportstart=546 dstportstart=547"
)
RARP = (
    "dstmacaddr=ff:ff:ff:ff:ff:ff opcode=Request_Reverse arpsrcmacaddr=$MAC arpdstmacaddr=$MAC "
    "arpsrcipaddr=0.0.0.0 arpdstipaddr=0.0.0.0"
)
LIBVIRT: dict[str, tuple[str, ...]] = {
    "allow-arp": ("arp -500", "inout accept 500"),
    "allow-ipv4": ("ipv4 -700", "inout accept 500"),
    "allow-ipv6": ("ipv6 -600", "inout accept 500"),
    "allow-incoming-ipv4": ("ipv4 -700", "in accept 500"),
    "allow-incoming-ipv6": ("ipv6 -600", "in accept 500"),
    "allow-dhcp": ("ipv4 -700", DHCP_OUT, "in accept 100: ip protocol=udp srcportstart=67 dstportstart=68"),
    "allow-dhcp-server": (
        "ipv4 -700",
        DHCP_OUT,
        "in accept 100: ip srcipaddr=$DHCPSERVER protocol=udp srcportstart=67 dstportstart=68",
    ),
    "allow-dhcpv6": ("ipv6 -600", DHCPV6_OUT, "in accept 100: ipv6 protocol=udp srcportstart=547 dstportstart=546"),
    "allow-dhcpv6-server": (
        "ipv6 -600",
        DHCPV6_OUT,
        "in accept 100: ipv6 srcipaddr=$DHCPSERVER protocol=udp srcportstart=547 dstportstart=546",
    ),
    "no-mac-spoofing": ("mac -800", "out return 500: mac srcmacaddr=$MAC", "out drop 500: mac"),
    "no-mac-broadcast": ("ipv4 -700", "out drop 500: mac dstmacaddr=ff:ff:ff:ff:ff:ff"),
    "no-ip-multicast": ("ipv4 -700", "out drop 500: ip dstipaddr=224.0.0.0 dstipmask=4"),
    "no-ipv6-multicast": ("ipv6 -600", "out drop 500: ipv6 dstipaddr=ff00:: dstipmask=8"),
    "no-ip-spoofing": (
        "ipv4-ip -710",
        "out return 100: ip srcipaddr=0.0.0.0 protocol=udp",
        "out return 500: ip srcipaddr=$IP",
        "out drop 1000",
    ),
    "no-ipv6-spoofing": (
        "ipv6-ip -610",
        "out return 100: ipv6 srcipaddr=fe80:: srcipmask=10 protocol=udp",
        "out return 500: ipv6 srcipaddr=$IPV6",
        "out drop 1000",
    ),
    "no-arp-mac-spoofing": ("arp-mac -520", "out return 350: arp arpsrcmacaddr=$MAC", "out drop 1000"),
    "no-arp-ip-spoofing": ("arp-ip -510", "out return 400: arp arpsrcipaddr=$IP", "out drop 1000"),
    "no-arp-spoofing": ("root 0", "no-arp-mac-spoofing", "no-arp-ip-spoofing"),
    "no-other-l2-traffic": ("root 0", "inout drop 1000"),
    "no-other-rarp-traffic": ("rarp -400", "inout drop 1000"),
    "qemu-announce-self-rarp": (
        "rarp -400",
        f"out accept 500: rarp srcmacaddr=$MAC {RARP}",
        f"in accept 500: rarp {RARP}",
    ),
    "qemu-announce-self": (
        "root 0",
        "out accept 500: mac protocolid=0x835",
        "qemu-announce-self-rarp",
        "no-other-rarp-traffic",
    ),
    "clean-traffic": (
        "root 0",
        "no-mac-spoofing",
        "no-ip-spoofing",
        "out accept -650: mac protocolid=ipv4",
        "allow-incoming-ipv4",
        "no-arp-spoofing",
        "inout accept -500: mac protocolid=arp",
        "no-other-l2-traffic",
        "qemu-announce-self",
    ),
    "clean-traffic-gateway": (
        "root 0",
        "no-mac-spoofing",
        "no-ip-spoofing",
        "no-arp-spoofing",
        "inout accept -500: mac protocolid=arp",
        "in accept 500: mac srcmacaddr=$GATEWAY_MAC",
        "out accept 500: mac dstmacaddr=$GATEWAY_MAC",
        "no-other-l2-traffic",
        "qemu-announce-self",
    ),
}
OWN = {"vnetd-guest", "vnetd-guest-arp", "vnetd-guest-ipv4", "vnetd-guest-ipv6"}


def words(entry: Rule | Reference) -> str:
    """A rule or reference as the table has it."""
    if isinstance(entry, Reference):
        return entry.filter
    head = f"{entry.direction} {entry.action} {entry.priority}"
    if entry.match is None:
        return head
    values = [f"{'not ' if one.negated else ''}{one.name}={one.value}" for one in entry.match.attributes]
    return " ".join([f"{head}: {entry.match.protocol}", *values])


def test_libvirts_filters_and_our_own_are_all_there_are() -> None:
    filters = builtin_filters()
    assert (len(LIBVIRT), set(filters)) == (24, {*LIBVIRT, *OWN})
    assert {name for one in filters.values() for name in one.references} <= set(filters)
    assert len({one.uuid for one in filters.values()}) == len(filters)


@pytest.mark.parametrize("name", sorted(LIBVIRT))
def test_a_filter_of_libvirts_has_libvirts_rules(name: str) -> None:
    one = builtin_filters()[name]
    assert (f"{one.chain} {one.priority}", *map(words, one.entries)) == LIBVIRT[name]
