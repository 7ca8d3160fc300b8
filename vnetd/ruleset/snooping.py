"""Rules that show which addresses guests use, so that people can be told; they let pass and keep out nothing.

One chain serves all ports, each has an element. It comes after the filters, so what a filter keeps out is not shown.
What is shown is marked with ``PREFIX``, so that nothing is decided by it (``packets.sightings.Packet.snooped``).
"""

from vnetd.plan.rules import Chain, Element, Fragment, Hook, Json, Set
from vnetd.ruleset.expressions import anonymous_set, in_set, match, meta, payload
from vnetd.ruleset.learning import Rule, shown

PREFIX = "vnetd-snooped"
RATE, BURST = 2, 10
"""Packets a second of one guest: enough, for what is told is kept for minutes."""
PRIORITY = -140
"""After filters, which are at -150."""
SNOOPED = Set("bridge", "snooped", ("ifname",))
SPENT = Set("bridge", "snooping_spent", ("ifname",), flags=("dynamic",), size=65536, timeout=60)


def snooping(device: str) -> Fragment:
    """Show what the guest at ``device`` tells of its addresses."""
    return Fragment(BASE.chains, BASE.sets, frozenset({Element("bridge", SNOOPED.name, (device,))}))


def _of_guests(*matches: Json) -> Rule:
    ours = in_set(meta("iifname"), SNOOPED.name)
    return shown("iifname", SPENT, *matches, ours, rate=RATE, burst=BURST, prefix=PREFIX)


def _ports(client: int, server: int) -> tuple[Json, ...]:
    return (match(payload("udp", "sport"), client), match(payload("udp", "dport"), server))


_NEIGHBOURS = match(payload("icmpv6", "type"), anonymous_set("nd-neighbor-solicit", "nd-neighbor-advert"))
BASE = Fragment(
    chains=(
        Chain(
            "bridge",
            "snooping",
            (
                _of_guests(match(payload("ether", "type"), "arp")),
                _of_guests(_NEIGHBOURS),
                _of_guests(*_ports(68, 67)),
                _of_guests(*_ports(546, 547)),
            ),
            Hook("filter", "prerouting", PRIORITY),
        ),
    ),
    sets=(SNOOPED, SPENT),
)
"""What all ports share."""
