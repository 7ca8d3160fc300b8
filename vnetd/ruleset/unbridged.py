"""Filters of devices that are in no bridge: a macvtap's packets pass no hooks but its own (family netdev). Pure.

What its guest sends leaves the device there, and what is for the guest arrives: what a bridge sees the other way round.
So the rules are those of a bridge's port that ask for the device under the other name, and each device has base
chains of its own, which lead into them.

When anything is added the kernel goes from each base chain through all elements of the map it asks. Every device has
such chains here, so devices that ask one map are few: each map of a bridge is parted (docs/adr/0019).
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from zlib import crc32

from vnetd.plan.rules import Chain, Element, Fragment, Hook, Json, Set
from vnetd.ruleset import filter_chains, learning
from vnetd.ruleset.filter_origin import origin_of, told

_HOOKS = {"prerouting": "egress", "postrouting": "ingress"}
_NAMES = {"iifname": "oifname", "oifname": "iifname"}
_BASES = (*filter_chains.BASE.chains, *learning.BASE.chains, learning.NEIGHBOURS)
_MAPS = (*filter_chains.BASE.sets, *learning.BASE.sets, learning.ADVERTISING)
_PARTED = frozenset(one.name for one in _MAPS if one.data)


def _asked(base: Chain) -> str:
    """The map a base chain leads into."""
    (name,) = (str(one["vmap"]["data"]).removeprefix("@") for rule in base.rules for one in rule if "vmap" in one)
    return name


_ENTERED = tuple((place, base, _asked(base)) for place, base in enumerate(_BASES) if base.hook)
"""Base chains with their places and the maps they lead into."""

PARTS = 128
"""Of each map that leads packets to the rules of their device."""
CHAINS = 1024
"""Chains that are kept turned."""

_turned_chains: dict[int, tuple[Chain, Chain]] = {}


def unbridged(fragment: Fragment) -> Fragment:
    """Rules for the port of a bridge as they are for a device in none; packets come to them by its ``entrance``."""
    elements = [
        Element("netdev", part_of(one.set, one.key[0]) if one.set in _PARTED else one.set, one.key, one.data)
        for one in fragment.elements
    ]
    parts = (_map(name) for name in sorted({one.set for one in elements} - {one.name for one in fragment.sets}))
    return Fragment(
        tuple(_chain(chain) for chain in fragment.chains if chain.hook is None),
        (*(_set(one) for one in fragment.sets if one.name not in _PARTED), *parts),
        frozenset(elements),
    )


def entrance(device: str, rules: Fragment | None = None) -> Fragment:
    """What leads the packets of a device, which has to be there, to the rules of its filter and its learning.

    Of ``rules``, if those are given, only to what they have: each base chain costs its packets and the kernel time.
    """
    part = _part(device)
    filled = _PARTED if rules is None else {one.set.removesuffix(f"_{part}") for one in rules.elements}
    chains = []
    for place, base, asked in _ENTERED:
        if base.hook and asked in filled:
            hook = Hook("filter", _HOOKS[base.hook.hook], base.hook.priority, device=device)
            chains.append(Chain("netdev", f"{base.name}_{device}", _asking(place, part), hook, base.counted))
    return Fragment(tuple(chains), tuple(_map(part_of(name, device)) for name in sorted(_PARTED & filled)))


def part_of(map_: str, device: str) -> str:
    """The part of a map that leads the packets of this device."""
    return f"{map_}_{_part(device)}"


def _part(device: str) -> str:
    return f"{crc32(device.encode()) % PARTS:02x}"


@lru_cache(maxsize=CHAINS)
def _set(one: Set) -> Set:
    return replace(one, family="netdev")


@lru_cache(maxsize=PARTS * len(_PARTED))
def _map(name: str) -> Set:
    return Set("netdev", name, ("ifname",), data="verdict")


@lru_cache(maxsize=PARTS * len(_BASES))
def _asking(place: int, part: str) -> tuple[tuple[Json, ...], ...]:
    """The rules of a base chain, which ask this part of their maps."""
    return tuple(tuple(_parted(statement, part) for statement in rule) for rule in _chain(_BASES[place]).rules)


def _parted(statement: Json, part: str) -> Json:
    match statement:
        case {"vmap": {"key": key, "data": str(data)}}:
            return {"vmap": {"key": key, "data": f"{data}_{part}"}}
    return statement


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
