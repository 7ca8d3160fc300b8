"""Other programs' base chains are found with what belongs to them, as ``nft -j list ruleset`` shows it."""

from vnetd.linux.nft_strangers import strangers
from vnetd.plan.rules import Hook

DROP = {"drop": None}
CHAIN = {"family": "ip", "table": "filter", "handle": 1}
HOOK = {"type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}


def test_base_chains_come_with_their_tables_chains_and_sets() -> None:
    listed = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "ip", "name": "filter", "handle": 1}},
        {"set": {"family": "ip", "table": "filter", "name": "bad", "type": "ipv4_addr", "elem": ["192.0.2.1"]}},
        {"chain": {**CHAIN, "name": "FORWARD", **HOOK}},
        {"chain": {**CHAIN, "name": "mine"}},
        {"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": [{"jump": {"target": "mine"}}]}},
        {"rule": {"family": "ip", "table": "filter", "chain": "mine", "expr": [{"counter": {}}, DROP]}},
        {"chain": {"family": "inet", "table": "vnetd", "name": "forward", **HOOK}},
    ]
    (one,) = strangers(listed)
    assert (one.family, one.table, one.name) == ("ip", "filter", "FORWARD")
    assert one.hook == Hook("filter", "forward", 0, "drop")
    assert one.chains == {"FORWARD": (({"jump": {"target": "mine"}},),), "mine": (({"counter": {}}, DROP),)}
    assert one.sets == {"bad": ("192.0.2.1",)}
