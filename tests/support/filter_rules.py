"""Compiled filters in words, for tests that say which rules a filter comes to."""

from collections.abc import Sequence
from typing import Any

import pytest

from vnetd.plan.features import PLAIN, BridgeFeatures
from vnetd.ruleset.filter import Compiled, compile_binding
from vnetd.ruleset.filter_symbols import protocol
from vnetd.xmlcodec.filter import filter_from_xml
from vnetd.xmlcodec.filter_builtin import builtin_filters

ICMP = f"ip protocol {protocol(1)} icmp"
"""How a rule says ICMP; without /etc/protocols, which a bare system lacks, protocols have no names."""
TRACKING = BridgeFeatures(tracking=True)
WAYS = pytest.mark.parametrize("features", [PLAIN, TRACKING], ids=["remembered", "tracked"])
MAC = "52:54:00:00:00:01"
ALL = dict(builtin_filters())


def bind(
    rules: str,
    attributes: str = "",
    device: str = "vnet0",
    features: BridgeFeatures = PLAIN,
    **parameters: Sequence[str],
) -> Compiled:
    one = filter_from_xml(f"<filter name='f' {attributes}>{rules}</filter>").value
    return compile_binding({**ALL, "f": one}, "f", device, MAC, parameters, features)


def rule(match: str, direction: str = "out", action: str = "drop", more: str = "") -> str:
    return f"<rule action='{action}' direction='{direction}' {more}>{match}</rule>"


def words(statement: Any) -> str:
    """One statement, short: ``tcp dport 22``, ``ip saddr != …``, ``drop``."""
    ((kind, body),) = statement.items()
    if kind == "match":
        sign = " !=" if body["op"] == "!=" else ""
        return f"{expression(body['left'])}{sign} {expression(body['right'])}"
    if kind == "set":
        return f"note {body['set'].removeprefix('@')}"
    return str(kind)


def expression(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value).split("_")[0] if str(value).startswith("@values") else str(value)
    ((kind, body),) = value.items()
    if kind == "payload":
        return f"{body['protocol']} {body['field']}" if "field" in body else f"{body['base']}+{body['offset']}"
    if kind == "tcp option":
        return f"tcp option {body['base']}"
    if kind in {"meta", "ct"}:
        return str(body["key"])
    if kind == "concat":
        return " . ".join(map(expression, body))
    if kind == "prefix":
        return f"{body['addr']}/{body['len']}"
    if kind == "range":
        return "-".join(map(str, body))
    if kind == "set":
        return "set"
    return "&".join(map(str, map(expression, body)))


def chains(compiled: Compiled, start: str) -> list[list[str]]:
    """Rules of the chains whose names begin so, in words."""
    found = [one for one in compiled.fragment.chains if one.name.startswith(start)]
    return [[" ".join(words(statement) for statement in one) for one in chain.rules] for chain in found]


def network_rules(rules: str, **parameters: Sequence[str]) -> tuple[list[str], list[str]]:
    """IPv4 rules from the guest and to it without the final accept."""
    compiled = bind(rules, **parameters)
    both = [chains(compiled, side) for side in ("from_ip_", "to_ip_")]
    return tuple(found[0][:-1] if found else [] for found in both)  # type: ignore[return-value]


def root_rules(rules: str, **parameters: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rules of the root chains."""
    compiled = bind(rules, **parameters)
    return tuple((chains(compiled, side) or [[]])[0] for side in ("from_root", "to_root"))  # type: ignore[return-value]


def entered(compiled: Compiled, side: str, network: str = "ip") -> list[tuple[str, list[str]]]:
    """Rules of the network layer in words without the final accept, each with the rules of the chain it enters."""
    by_name = {chain.name: chain for chain in compiled.fragment.chains}
    (found,) = [chain for chain in compiled.fragment.chains if chain.name.startswith(f"{side}_{network}_")]
    return [
        (
            " ".join(map(words, statements)),
            [" ".join(map(words, one)) for t in targets_of(statements) for one in by_name[t].rules],
        )
        for statements in found.rules[:-1]
    ]


def targets_of(statements: tuple[Any, ...]) -> list[str]:
    return [statement["jump"]["target"] for statement in statements if "jump" in statement]


def sides_of(rules: str, features: BridgeFeatures) -> set[str]:
    """Sides on which a rule of the network layer is, beside what acceptance leads to."""
    compiled = bind(rules, features=features)
    names = [chain.name for chain in compiled.fragment.chains if "_ip_" in chain.name and len(chain.rules) > 1]
    return {name.split("_")[0] for name in names}
