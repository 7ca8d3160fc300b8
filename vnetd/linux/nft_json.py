"""nftables values as libnftables JSON and back (libnftables-json(5)). Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from vnetd.plan.drift import IMPLIED, canonical_key
from vnetd.plan.rules import (
    FAMILIES,
    Chain,
    Count,
    Element,
    Family,
    Fragment,
    Hook,
    Json,
    MissingRule,
    Set,
    TableContents,
)

TABLE = "vnetd"
"""Name of vnetd's table in each family."""
OWNED = ["owner", "persist"]

COUNTER = {"counter": None}

Command = dict[str, Any]
Kinds = Mapping[tuple[Family, str], Set]
"""What the kernel's sets are: tells a range from an interface name with a dash, a map from a set."""


def transaction(
    remove: Fragment, add: Fragment, rules: Iterable[MissingRule], kinds: Kinds, owned: Collection[Family]
) -> list[Command]:
    """Commands that take ``remove`` away and bring ``add`` and ``rules``, in the order the kernel can follow.

    What refers goes before what it refers to, and comes after it. A chain in both with the same hook stays and is
    filled anew. ``kinds`` describes sets that are in neither part.
    """
    kept = _kept(remove.chains, add.chains)
    before = {**kinds, **{(one.family, one.name): one for one in remove.sets}}
    after = {**before, **{(one.family, one.name): one for one in add.sets}}
    gone = {(one.family, one.name) for one in remove.sets}
    return [
        *({"flush": _set_object(one)} for one in remove.sets),
        *_element_commands("delete", (one for one in remove.elements if (one.family, one.set) not in gone), before),
        # It may have gone with its device: what is added now, if it is not there, can be deleted.
        *({"add": {"chain": _chain(chain)}} for chain in remove.chains if _gone_with_device(chain, kept)),
        *({"flush": {"chain": _chain(chain)}} for chain in remove.chains),
        *({"delete": {"chain": _chain(chain)}} for chain in remove.chains if (chain.family, chain.name) not in kept),
        *({"delete": _set_object(one)} for one in remove.sets),
        *_additions(add, kept, after, owned),
        *map(_placed, rules),
    ]


def rewriting(contents: Fragment, there: Collection[Family], owned: Collection[Family]) -> list[Command]:
    """Commands that make the tables hold ``contents`` and nothing else, whatever they hold.

    ``there`` are the families that have the table now, ``owned`` those whose table shall be owned.
    """
    kinds = {(one.family, one.name): one for one in contents.sets}
    deletions = [{"delete": table(family, False)} for family in FAMILIES if family in there]
    return [*deletions, *_additions(contents, set(), kinds, owned)]


def table(family: Family, owned: bool) -> Command:
    """The table object, with the flags that keep others from changing it."""
    described = {"family": family, "name": TABLE}
    return {"table": {**described, "flags": OWNED} if owned else described}


def contents(family: Family, objects: Iterable[Mapping[str, Any]]) -> TableContents:
    """What a listing of a table, or of a chain or set of it, holds."""
    rules: dict[str, list[tuple[Json, ...]]] = {}
    handles: defaultdict[str, list[int]] = defaultdict(list)
    hooks: dict[str, Hook] = {}
    elements: dict[str, frozenset[Element]] = {}
    definitions: dict[str, Set] = {}
    for listed in objects:
        for kind, body in listed.items():
            match kind:
                case "chain":
                    rules.setdefault(body["name"], [])
                    if "hook" in body:
                        hooks[body["name"]] = Hook(body["type"], body["hook"], body["prio"], body["policy"])
                case "rule":
                    rules.setdefault(body["chain"], []).append(
                        tuple(_stateless(one) for one in body["expr"] if "counter" not in one)
                    )
                    handles[body["chain"]].append(body["handle"])
                case "set" | "map":
                    one = _definition(family, body)
                    definitions[one.name] = one
                    elements[one.name] = frozenset() if one.dynamic else frozenset(_elements(one, body))
    chains = {name: tuple(found) for name, found in rules.items()}
    called = {name: tuple(found) for name, found in handles.items()}
    return TableContents(family, chains, hooks, elements, definitions, called)


def counts(objects: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Count, ...]]:
    """What a listing of chains says its rules have counted, rule by rule; nothing for one without counter."""
    found: dict[str, list[Count]] = {}
    for listed in objects:
        if rule := listed.get("rule"):
            counters = [one["counter"] for one in rule["expr"] if isinstance(one.get("counter"), dict)]
            found.setdefault(rule["chain"], []).append(
                Count(counters[0]["packets"], counters[0]["bytes"]) if counters else Count()
            )
    return {name: tuple(one) for name, one in found.items()}


def _kept(remove: Iterable[Chain], add: Iterable[Chain]) -> set[tuple[Family, str]]:
    hooks = {(chain.family, chain.name): chain.hook for chain in remove}
    both = ((chain.family, chain.name) for chain in add if (chain.family, chain.name) in hooks)
    wanted = {(chain.family, chain.name): chain.hook for chain in add}
    return {where for where in both if hooks[where] == wanted[where]}


def _gone_with_device(chain: Chain, kept: Collection[tuple[Family, str]]) -> bool:
    """Whether a chain that goes may be gone already."""
    return bool(chain.hook and chain.hook.device) and (chain.family, chain.name) not in kept


def _additions(
    add: Fragment, kept: Collection[tuple[Family, str]], kinds: Kinds, owned: Collection[Family]
) -> Iterator[Command]:
    needed = {chain.family for chain in add.chains} | {one.family for one in add.sets}
    for family in FAMILIES:
        if family in needed:
            yield {"add": table(family, family in owned)}
    for one in add.sets:
        yield {"add": _set_object(one, defined=True)}
    for chain in add.chains:
        if (chain.family, chain.name) not in kept:
            yield {"add": {"chain": _chain(chain, hooked=True)}}
    for chain in add.chains:
        for rule in chain.rules:
            yield {"add": {"rule": _rule(chain, rule)}}
    yield from _element_commands("add", add.elements, kinds)


def _placed(missing: MissingRule) -> Command:
    body = _rule(missing.chain, missing.chain.rules[missing.place])
    return {"insert": {"rule": {**body, "handle": missing.before}}} if missing.before else {"add": {"rule": body}}


def _rule(chain: Chain, rule: tuple[Json, ...]) -> Command:
    expressions = [*rule[:-1], COUNTER, rule[-1]] if chain.counted else list(rule)
    return {"family": chain.family, "table": TABLE, "chain": chain.name, "expr": expressions}


def _chain(chain: Chain, hooked: bool = False) -> Command:
    body: Command = {"family": chain.family, "table": TABLE, "name": chain.name}
    if hooked and chain.hook:
        hook = chain.hook
        body |= {"type": hook.type, "hook": hook.hook, "prio": hook.priority, "policy": hook.policy}
        body |= {"dev": hook.device} if hook.device else {}
    return body


def _set_object(one: Set, defined: bool = False) -> Command:
    body: Command = {"family": one.family, "table": TABLE, "name": one.name}
    if defined:
        body["type"] = list(one.key) if len(one.key) > 1 else one.key[0]
        # JSON of libnftables before 1.1 refuses "dynamic"; time-outs and rules that fill the set imply it.
        flags = [flag for flag in one.flags if flag != "dynamic"]
        optional = {"map": one.data, "flags": flags, "size": one.size, "timeout": one.timeout}
        body |= {name: value for name, value in optional.items() if value}
    return {"map" if one.data else "set": body}


def _element_commands(verb: str, elements: Iterable[Element], kinds: Kinds) -> Iterator[Command]:
    """One command a set; sorted, so that equal changes are equal commands."""
    by_set: defaultdict[tuple[Family, str], list[Element]] = defaultdict(list)
    for element in elements:
        by_set[element.family, element.set].append(element)
    for (family, name), members in sorted(by_set.items()):
        known = kinds.get((family, name))
        types = known.key if known else ()
        body = {"family": family, "table": TABLE, "name": name}
        members.sort(key=lambda element: element.key)
        yield {verb: {"element": {**body, "elem": [_element(element, types) for element in members]}}}


def _element(element: Element, types: Sequence[str]) -> Json:
    parts = [_component(text, types[place] if place < len(types) else "") for place, text in enumerate(element.key)]
    key = {"concat": parts} if len(parts) > 1 else parts[0]
    return [key, _data(element.data)] if element.data else key


def _component(text: str, kind: str) -> Json:
    if kind == "ifname":
        return text
    if "/" in text:
        address, length = text.split("/")
        return {"prefix": {"addr": address, "len": int(length)}}
    first, dash, last = text.partition("-")
    if dash and _is_value(first) and _is_value(last):
        return {"range": [first, last]}
    return text


def _is_value(text: str) -> bool:
    if text.isdigit():
        return True
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _data(text: str) -> Json:
    verdict, _, chain = text.partition(" ")
    if verdict in {"goto", "jump"} and chain:
        return {verdict: {"target": chain}}
    return {text: None} if text in {"accept", "drop", "return", "continue"} else text


def _definition(family: Family, body: Mapping[str, Any]) -> Set:
    kind = body["type"]
    listed = body.get("flags", [])
    flags = {listed} if isinstance(listed, str) else set(listed)
    if flags & IMPLIED:
        flags |= {"dynamic"}
    key = (kind,) if isinstance(kind, str) else tuple(kind)
    return Set(family, body["name"], key, body.get("map"), tuple(sorted(flags)), body.get("size"), body.get("timeout"))


def _elements(one: Set, body: Mapping[str, Any]) -> Iterator[Element]:
    for listed in body.get("elem", ()):
        key, data = listed if one.data else (listed, "")
        yield Element(one.family, one.name, _key(key, one.key), _text(data))


def _key(listed: Json, kinds: Sequence[str]) -> tuple[str, ...]:
    if isinstance(listed, dict) and "elem" in listed:
        listed = listed["elem"]["val"]
    parts = listed["concat"] if isinstance(listed, dict) and "concat" in listed else [listed]
    return canonical_key((_text(part) for part in parts), kinds)


def _text(listed: Json) -> str:
    """One component of a key, or the data of a map's element."""
    match listed:
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return f"{first}-{last}"
        case {"goto": {"target": chain}}:
            return f"goto {chain}"
        case {"jump": {"target": chain}}:
            return f"jump {chain}"
        case {}:
            return " ".join(listed)
    return str(listed)


def _stateless(listed: Json) -> Json:
    """A statement without what packets change in it."""
    if isinstance(listed, list):
        return [_stateless(one) for one in listed]
    if not isinstance(listed, dict):
        return listed
    return {name: _without_state(name, value) for name, value in listed.items()}


def _without_state(name: str, value: Json) -> Json:
    if name == "last" or (name == "counter" and isinstance(value, dict)):
        return None
    if name == "quota" and isinstance(value, dict):
        value = {key: one for key, one in value.items() if not key.startswith("used")}
    return _stateless(value)


def reason(errors: str) -> str:
    """libnftables' own words: what stands behind its made-up file positions, once each."""
    lines = (line.split("Error: ", 1)[-1].strip() for line in errors.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line.strip("^~ "))) or "libnftables gives no reason"
