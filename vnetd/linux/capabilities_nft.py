"""What nftables can do here, kernel and library together, found out in the network namespace of the calling thread."""

import json
from collections.abc import Iterator
from typing import Any

from nftables import Nftables

from vnetd.linux.nft_json import OWNED, reason
from vnetd.model.capability import Capability
from vnetd.plan.features import BridgeFeatures

NAME = "vnetd-probe"
_HOOK = {"hook": "prerouting", "type": "filter", "prio": 0, "policy": "accept"}
TRACKING, REJECTING = "nft-bridge-conntrack", "nft-bridge-reject"
RULES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    TRACKING: (
        "bridge",
        [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}, {"accept": None}],
    ),
    REJECTING: ("bridge", [{"reject": None}]),
    "nft-bridge-meta": (
        "bridge",
        [{"match": {"op": "==", "left": {"meta": {"key": "ibrname"}}, "right": "virbr0"}}, {"accept": None}],
    ),
    "nft-inet-conntrack": (
        "inet",
        [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}, {"accept": None}],
    ),
}
"""A rule for each, which is taken only if it can be done."""


def probe_nft() -> Iterator[Capability]:
    """The library's version, each of ``RULES``, address translation, hooks of devices, flow tables and owned tables."""
    library = Nftables()
    library.set_json_output(True)
    yield _library(library)
    for name in RULES:
        yield _rule_tried(library, name)
    nat = {"hook": "postrouting", "type": "nat", "prio": 100, "policy": "accept"}
    masquerade = [_chain("inet", nat), _rule("inet", [{"masquerade": None}])]
    yield _tried(library, "nft-masquerade", "inet", masquerade)
    yield _egress(library)
    flowtable = {"family": "inet", "table": NAME, "name": "flows", "hook": "ingress", "prio": 0, "dev": "lo"}
    yield _tried(library, "nft-flowtable", "inet", [{"add": {"flowtable": flowtable}}])
    yield _owned(library)


def bridge_features(library: Nftables) -> BridgeFeatures:
    """What filters of ports can do, in the network namespace the library is open in; nothing is left behind there."""
    tracking, rejecting = (_rule_tried(library, name) for name in (TRACKING, REJECTING))
    return BridgeFeatures(
        tracking=tracking.ok, reject=rejecting.ok, untracked=tracking.reason, unhooked=_egress(library).reason
    )


def _rule_tried(library: Nftables, name: str) -> Capability:
    family, expressions = RULES[name]
    return _tried(library, name, family, [_chain(family, _HOOK), _rule(family, expressions)])


def _egress(library: Nftables) -> Capability:
    hook = {"hook": "egress", "type": "filter", "prio": 0, "policy": "accept", "dev": "lo"}
    return _tried(library, "nft-netdev-egress", "netdev", [_chain("netdev", hook)])


def _library(library: Nftables) -> Capability:
    _, output, _ = library.cmd(json.dumps({"nftables": [{"list": {"tables": None}}]}))
    told = json.loads(output)["nftables"] if output.strip() else []
    versions = [one["metainfo"]["version"] for one in told if "metainfo" in one]
    return Capability("libnftables", bool(versions), versions[0] if versions else "it does not tell its version")


def _tried(library: Nftables, name: str, family: str, commands: list[dict[str, Any]]) -> Capability:
    """Whether a transaction of a table and ``commands`` is taken; it takes away again what it made."""
    table = {"table": {"family": family, "name": NAME}}
    code, _, errors = library.cmd(json.dumps({"nftables": [{"add": table}, *commands, {"delete": table}]}))
    return Capability(name, not code, f"nftables says: {reason(errors)}" if code else "")


def _owned(library: Nftables) -> Capability:
    """Tables nobody else can change, which stay without their owner. Old libraries drop the flags without a word."""
    name, where = "nft-owned-tables", {"family": "inet", "name": NAME}
    code, _, errors = library.cmd(json.dumps({"nftables": [{"add": {"table": {**where, "flags": OWNED}}}]}))
    if code:
        return Capability(name, False, f"nftables says: {reason(errors)}")
    _, output, _ = library.cmd(json.dumps({"nftables": [{"list": {"table": where}}]}))
    flags = [one["table"].get("flags", ()) for one in json.loads(output)["nftables"] if "table" in one]
    if flags and set(OWNED) <= set(flags[0]):
        return Capability(name, True)
    return Capability(name, False, "libnftables 1.1 or newer and Linux 6.9 or newer are needed")


def _chain(family: str, hook: dict[str, Any]) -> dict[str, Any]:
    return {"add": {"chain": {"family": family, "table": NAME, "name": "probe", **hook}}}


def _rule(family: str, expressions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"add": {"rule": {"family": family, "table": NAME, "chain": "probe", "expr": expressions}}}
