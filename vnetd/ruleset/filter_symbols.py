"""Names libnftables prints for numbers: rules are written as they are listed, or they would look like drift.

Source: the symbol tables of libnftables 1.0.6 and 1.1.3, as their listings show them.
"""

import socket
from collections.abc import Mapping
from functools import cache

from vnetd.plan.rules import Json
from vnetd.ruleset.expressions import span

ETHERTYPE = {0x800: "ip", 0x806: "arp", 0x86DD: "ip6", 0x8100: "8021q", 0x88A8: "8021ad"}
ARP_OPERATION = {1: "request", 2: "reply", 3: "rrequest", 4: "rreply", 8: "inrequest", 9: "inreply", 10: "nak"}
ICMP_TYPE = {
    0: "echo-reply",
    3: "destination-unreachable",
    4: "source-quench",
    5: "redirect",
    8: "echo-request",
    9: "router-advertisement",
    10: "router-solicitation",
    11: "time-exceeded",
    12: "parameter-problem",
    13: "timestamp-request",
    14: "timestamp-reply",
    15: "info-request",
    16: "info-reply",
    17: "address-mask-request",
    18: "address-mask-reply",
}
ICMPV6_TYPE = {
    1: "destination-unreachable",
    2: "packet-too-big",
    3: "time-exceeded",
    4: "parameter-problem",
    128: "echo-request",
    129: "echo-reply",
    130: "mld-listener-query",
    131: "mld-listener-report",
    132: "mld-listener-done",
    133: "nd-router-solicit",
    134: "nd-router-advert",
    135: "nd-neighbor-solicit",
    136: "nd-neighbor-advert",
    137: "nd-redirect",
    138: "router-renumbering",
    141: "ind-neighbor-solicit",
    142: "ind-neighbor-advert",
    143: "mld2-listener-report",
}
DSCP = {
    **{value << 3: f"cs{value}" for value in range(8)},
    **{(group << 3) + (drop << 1): f"af{group}{drop}" for group in (1, 2, 3, 4) for drop in (1, 2, 3)},
    1: "lephb",
    44: "va",
    46: "ef",
}
_PROTOCOLS = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "ipv6-icmp",
    89: "ospf",
    112: "vrrp",
    132: "sctp",
    136: "udplite",
}


def symbol(table: Mapping[int, str], value: int) -> Json:
    """The name of ``value``, or the number itself where it has none."""
    return table.get(value, value)


def symbols(table: Mapping[int, str], first: int, last: int) -> Json:
    """A range of named numbers, or the one it consists of."""
    return symbol(table, first) if first == last else span(symbol(table, first), symbol(table, last))


@cache
def protocol(number: int) -> Json:
    """The name of an IP protocol as the C library knows it, since libnftables asks it; else the number."""
    name = _PROTOCOLS.get(number)
    try:
        return name if name and socket.getprotobyname(name) == number else number
    except OSError:  # no /etc/protocols here
        return number
