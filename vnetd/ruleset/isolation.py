"""Rules that keep isolated ports from each other on the way over their gateway.

The bridge itself keeps isolated ports apart. But a guest may send what is for another's IP address to the gateway's
MAC: the host forwards it, and for the bridge it is then the host's own. So what comes from an isolated port carries
a bit of the packet's mark, and what the host sends out of an isolated port must not have it. The port a packet came
from is known on the bridge only, and is lost when it is routed; the mark stays (docs/adr).
"""

from vnetd.plan.rules import Chain, Element, Fragment, Hook, Json, Set
from vnetd.ruleset.expressions import DROP, in_set, match, meta

MARK = 0x4000_0000
"""The bit of the mark that says: this came from an isolated port."""
ALL = 0xFFFF_FFFF
ISOLATED = Set("bridge", "isolated", ("ifname",))


def isolation_fragment(device: str) -> Fragment:
    """What keeps the port ``device`` from other isolated ones, of its own network and of others."""
    return Fragment(CHAINS, (ISOLATED,), frozenset({Element("bridge", ISOLATED.name, (device,))}))


def _marked() -> Json:
    return match({"&": [meta("mark"), MARK]}, MARK)


def _set_mark(value: Json) -> Json:
    return {"mangle": {"key": meta("mark"), "value": value}}


CHAINS = (
    Chain(
        "bridge",
        "isolation_in",
        ((in_set(meta("iifname"), ISOLATED.name), _set_mark({"|": [meta("mark"), MARK]})),),
        Hook("filter", "prerouting", -150),
    ),
    Chain(
        "bridge",
        "isolation_out",
        ((in_set(meta("oifname"), ISOLATED.name), _marked(), DROP),),
        Hook("filter", "output", 0),
    ),
    # What is for the host itself has come to its end: its answers must not inherit the bit (fwmark_reflect).
    Chain(
        "inet",
        "isolation_local",
        ((_marked(), _set_mark({"&": [meta("mark"), ALL ^ MARK]})),),
        Hook("filter", "input", -150),
    ),
)
