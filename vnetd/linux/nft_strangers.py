"""Other programs' base chains, from a listing of the whole ruleset. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from vnetd.linux.nft_json import TABLE
from vnetd.plan.rules import Hook, Json, Stranger

Place = tuple[str, str]


def strangers(objects: Iterable[Mapping[str, Any]]) -> tuple[Stranger, ...]:
    """Base chains of tables that are not vnetd's, in the order they are listed."""
    hooks: list[tuple[Place, str, Hook]] = []
    chains: defaultdict[Place, dict[str, list[tuple[Json, ...]]]] = defaultdict(dict)
    sets: defaultdict[Place, dict[str, tuple[Json, ...]]] = defaultdict(dict)
    for listed in objects:
        for kind, body in listed.items():
            if not isinstance(body, Mapping) or body.get("table", TABLE) == TABLE:
                continue
            where = body["family"], body["table"]
            if kind == "chain":
                chains[where].setdefault(body["name"], [])
                if "hook" in body:
                    hook = Hook(body["type"], body["hook"], body["prio"], body.get("policy", "accept"))
                    hooks.append((where, body["name"], hook))
            elif kind == "rule":
                chains[where].setdefault(body["chain"], []).append(tuple(body["expr"]))
            elif kind in {"set", "map"}:
                sets[where][body["name"]] = tuple(body.get("elem", ()))
    rules = {where: {name: tuple(one) for name, one in found.items()} for where, found in chains.items()}
    return tuple(Stranger(*where, name, hook, rules[where], sets[where]) for where, name, hook in hooks)
