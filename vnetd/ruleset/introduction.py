"""Rules for a guest whose MAC address nobody told: its first packet tells, and until then nothing passes."""

from vnetd.plan.rules import Chain, Element, Fragment, Hook, Set
from vnetd.ruleset.expressions import DROP, meta, vmap
from vnetd.ruleset.learning import FROM_BUDGET, shown

FROM, TO = "introducing_from", "introducing_to"
_SHOWN = Chain("bridge", "introduce", (shown("iifname", FROM_BUDGET), (DROP,)))
_CHAINS = (
    Chain("bridge", FROM, ((vmap(meta("iifname"), FROM),),), Hook("filter", "prerouting", -215)),
    Chain("bridge", TO, ((vmap(meta("oifname"), TO),),), Hook("filter", "postrouting", 215)),
    _SHOWN,
)
_SETS = (
    Set("bridge", FROM, ("ifname",), data="verdict"),
    Set("bridge", TO, ("ifname",), data="verdict"),
    FROM_BUDGET,
)


def introducing(device: str) -> Fragment:
    """What the guest at ``device`` sends is shown (``host.Packets``) and dropped, as is all that is sent to it."""
    entries = (
        Element("bridge", FROM, (device,), f"goto {_SHOWN.name}"),
        Element("bridge", TO, (device,), "drop"),
    )
    return Fragment(_CHAINS, _SETS, frozenset(entries))
