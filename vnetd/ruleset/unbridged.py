"""Filters of devices that are in no bridge: a macvtap's packets pass no hooks but its own (family netdev). Pure.

What its guest sends leaves the device there, and what is for the guest arrives: what a bridge sees the other way round.
So the rules are those of a bridge's port that ask for the device under the other name, and each device has base
chains of its own, which lead into them.
"""

from collections.abc import Iterable
from dataclasses import replace

from vnetd.plan.rules import Chain, Fragment, Hook, Json
from vnetd.ruleset import filter_chains, learning
from vnetd.ruleset.filter_origin import origin_of, told

_HOOKS = {"prerouting": "egress", "postrouting": "ingress"}
_NAMES = {"iifname": "oifname", "oifname": "iifname"}
_BASES = (*filter_chains.BASE.chains, *learning.BASE.chains, learning.NEIGHBOURS)
_MAPS = (*filter_chains.BASE.sets, *learning.BASE.sets, learning.ADVERTISING)

CHAINS = 1024
"""Chains that are kept turned."""

_turned_chains: dict[int, tuple[Chain, Chain]] = {}


def unbridged(fragment: Fragment) -> Fragment:
    """Rules for the port of a bridge as they are for a device in none; packets come to them by its ``entrance``."""
    return Fragment(
        tuple(_chain(chain) for chain in fragment.chains if chain.hook is None),
        tuple(replace(one, family="netdev") for one in fragment.sets),
        frozenset(replace(one, family="netdev") for one in fragment.elements),
    )


def entrance(device: str) -> Fragment:
    """What leads the packets of a device, which has to be there, to the rules of its filter and its learning."""
    chains = []
    for base in _BASES:
        if base.hook:
            hook = Hook("filter", _HOOKS[base.hook.hook], base.hook.priority, device=device)
            chains.append(replace(_chain(base), name=f"{base.name}_{device}", hook=hook))
    maps = (one for one in _MAPS if one.data)
    return Fragment(tuple(chains), tuple(replace(one, family="netdev") for one in maps))


def _chain(chain: Chain) -> Chain:
    """The same for whoever has the chain: ports of one filter share theirs, and what is one thing is quickly compared.

    With its turned form is kept the chain whose identity finds it.
    """
    found = _turned_chains.get(id(chain))
    if found is None:
        while len(_turned_chains) >= CHAINS:
            del _turned_chains[next(iter(_turned_chains))]
        found = chain, replace(chain, family="netdev", rules=tuple(_rules(chain.rules)))
        _turned_chains[id(chain)] = found
    return found[1]


def _rules(rules: Iterable[tuple[Json, ...]]) -> Iterable[tuple[Json, ...]]:
    for rule in rules:
        turned, origin = tuple(map(_turned, rule)), origin_of(rule)
        yield from told(origin, [turned]) if origin else [turned]


def _turned(json: Json) -> Json:
    match json:
        case {"meta": {"key": ("iifname" | "oifname") as name}}:
            return {"meta": {"key": _NAMES[name]}}
        case dict():
            return {name: _turned(value) for name, value in json.items()}
        case list() | tuple():
            return [_turned(one) for one in json]
    return json
