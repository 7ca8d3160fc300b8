"""Rules that show vnetd the packets which tell a guest's addresses, and that hold neighbour advertisements to them.

They are chains of their own beside those of filters: what is seen from the guest is seen before its filter, what is
seen towards it after, so that an answer the filter keeps away teaches nothing. Each guest has a budget of packets to
be looked at; who exceeds it delays nobody's learning but their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vnetd.plan.rules import Chain, Element, Fragment, Hook, Json, Set
from vnetd.ruleset.expressions import ACCEPT, DROP, match, meta, payload, vmap
from vnetd.ruleset.filter_uses import digest

GROUP = 30318
"""Log group the packets go to."""
SNAP = 2048
"""Bytes of a packet that are shown."""
RATE, BURST = 10, 50
"""Packets a second of one guest and direction; as libvirt's nwfilter page has them for DHCP."""
ALL_NODES = "ff02::1"
JSON_MAX = 2**63 - 1
Rule = tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """What of a guest's packets is to be seen: its DHCP and claims of IPv6 addresses always, ``traffic`` at first.

    ``speaks_for`` are the only IPv6 addresses it may advertise as a neighbour; ``None``: any.
    """

    device: str
    traffic: bool = False
    speaks_for: frozenset[IPv6Address] | None = None


def watching(one: Watched) -> Fragment:
    """The rules for one guest."""
    seen = "learn_from_any" if one.traffic else "learn_from"
    entries = [Element("bridge", "learning_from", (one.device,), f"goto {seen}")]
    entries.append(Element("bridge", "learning_to", (one.device,), "goto learn_to"))
    chains = (*BASE.chains, FROM_ANY) if one.traffic else BASE.chains
    sets = BASE.sets
    if one.speaks_for is not None:
        own = _advertised(one.speaks_for)
        chains, sets = (*chains, NEIGHBOURS, own), (*sets, ADVERTISING)
        entries.append(Element("bridge", ADVERTISING.name, (one.device,), f"goto {own.name}"))
    return Fragment(chains, sets, frozenset(entries))


def _advertised(addresses: Iterable[IPv6Address]) -> Chain:
    """Advertisements of these targets pass, no other does (RFC 4861, 4.4: the target is in octets 8 to 23)."""
    target: Json = {"payload": {"base": "th", "offset": 64, "len": 128}}
    rules = tuple((match(target, _number(int(one))), ACCEPT) for one in sorted(addresses))
    content = (*rules, (DROP,))
    return Chain("bridge", f"advertised_{digest(content)}", content)


def _number(value: int) -> Json:
    return value if value <= JSON_MAX else f"0x{value:x}"


def _budget(name: str) -> Set:
    return Set("bridge", name, ("ifname",), flags=("dynamic",), size=65536, timeout=60)


def shown(device: str, budget: Set, *matches: Json, rate: int = RATE, burst: int = BURST, **how: Json) -> Rule:
    """Show what matches, as long as the sender has budget left. ``how``: more of the statement ``log``."""
    limit = {"limit": {"rate": rate, "burst": burst, "per": "second"}}
    spend = {"set": {"op": "update", "elem": meta(device), "set": f"@{budget.name}", "stmt": [limit]}}
    return (*matches, spend, {"log": {"group": GROUP, "snaplen": SNAP, **how}})


def _ports(source: int, destination: int) -> tuple[Json, ...]:
    return (match(payload("udp", "sport"), source), match(payload("udp", "dport"), destination))


def _advertisement() -> Json:
    return match(payload("icmpv6", "type"), "nd-neighbor-advert")


def _base(name: str, hook: str, priority: int, *rules: tuple[Json, ...]) -> Chain:
    return Chain("bridge", name, rules, Hook("filter", hook, priority))


FROM_BUDGET, TO_BUDGET = _budget("learning_spent_from"), _budget("learning_spent_to")
_FROM = (
    shown("iifname", FROM_BUDGET, *_ports(68, 67)),
    shown("iifname", FROM_BUDGET, *_ports(546, 547)),
    shown(
        "iifname",
        FROM_BUDGET,
        match(payload("icmpv6", "type"), "nd-neighbor-solicit"),
        match(payload("ip6", "saddr"), "::"),
    ),
)
FROM_ANY = Chain(
    "bridge",
    "learn_from_any",
    (
        *_FROM,
        shown("iifname", FROM_BUDGET, match(payload("ether", "type"), "arp")),
        shown("iifname", FROM_BUDGET, match(payload("ip", "saddr"), str(IPv4Address(0)), "!=")),
    ),
)
NEIGHBOURS = _base("neighbours", "prerouting", -190, (_advertisement(), vmap(meta("iifname"), "advertising")))
ADVERTISING = Set("bridge", "advertising", ("ifname",), data="verdict")
BASE = Fragment(
    chains=(
        _base("learning_prerouting", "prerouting", -210, (vmap(meta("iifname"), "learning_from"),)),
        _base("learning_postrouting", "postrouting", 210, (vmap(meta("oifname"), "learning_to"),)),
        Chain("bridge", "learn_from", _FROM),
        Chain(
            "bridge",
            "learn_to",
            (
                shown("oifname", TO_BUDGET, *_ports(67, 68)),
                shown("oifname", TO_BUDGET, *_ports(547, 546)),
                shown("oifname", TO_BUDGET, _advertisement(), match(payload("ip6", "daddr"), ALL_NODES)),
            ),
        ),
    ),
    sets=(
        Set("bridge", "learning_from", ("ifname",), data="verdict"),
        Set("bridge", "learning_to", ("ifname",), data="verdict"),
        FROM_BUDGET,
        TO_BUDGET,
    ),
)
"""What all watched guests share."""
