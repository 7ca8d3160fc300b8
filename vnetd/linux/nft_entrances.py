"""Base chains at a device that lead into verdict maps, as nf_tables messages (docs/adr/0020).

By such packets come to the filter of a macvtap (``ruleset/unbridged``). Rules of other forms are left to libnftables.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from vnetd.linux.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, encode
from vnetd.linux.nft_json import TABLE, Kinds
from vnetd.linux.nft_messages import (
    DATA_VALUE,
    FAMILY,
    GENERIC,
    LIST_MEMBER,
    SUBSYSTEM,
    Message,
    Unsuited,
    interface,
    nest,
    signed,
    text,
)
from vnetd.plan.rules import Chain, Json
from vnetd.ruleset.expressions import match, payload

NEW_CHAIN, NEW_RULE = SUBSYSTEM << 8 | 3, SUBSYSTEM << 8 | 6
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 3, 4, 5, 7
HOOK_NUMBER, HOOK_PRIORITY, HOOK_DEVICE = 1, 2, 3
HOOKS = {"ingress": 0, "egress": 1}
ACCEPT = 1
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS = 1, 2, 4
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2
VERDICT, REGISTER = 0, 1
"""Registers: what decides about the packet, and the one all values go through."""
LOOKUP_SET, LOOKUP_SOURCE, LOOKUP_TARGET = 1, 2, 3
META_TARGET, META_KEY = 1, 2
META = {"protocol": 1, "iifname": 6, "oifname": 7, "l4proto": 16}
COMPARED, COMPARISON, COMPARED_WITH = 1, 2, 3
EQUAL = 0
PAYLOAD_TARGET, PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LENGTH = 1, 2, 3, 4
TRANSPORT_HEADER = 2
ADVERTISEMENT = match(payload("icmpv6", "type"), "nd-neighbor-advert")


def entrances(chains: Sequence[Chain], kinds: Kinds) -> Iterator[Message]:
    """What makes the chains, then their rules. Raises ``Unsuited``."""
    for chain in chains:
        yield NEW_CHAIN, NLM_F_REQUEST | NLM_F_CREATE, _chain(chain)
    for chain in chains:
        for rule in chain.rules:
            yield NEW_RULE, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND, _rule(chain, rule, kinds)


def _chain(chain: Chain) -> bytes:
    hook = chain.hook
    if chain.family != "netdev" or chain.counted or hook is None or hook.hook not in HOOKS:
        raise Unsuited
    if (hook.type, hook.policy) != ("filter", "accept"):
        raise Unsuited
    where = signed(HOOK_NUMBER, HOOKS[hook.hook]) + signed(HOOK_PRIORITY, hook.priority)
    return b"".join((
        GENERIC.pack(FAMILY[chain.family], 0, 0),
        text(CHAIN_TABLE, TABLE),
        text(CHAIN_NAME, chain.name),
        text(CHAIN_TYPE, hook.type),
        signed(CHAIN_POLICY, ACCEPT),
        nest(CHAIN_HOOK, where + _device(hook.device)),
    ))  # fmt: skip


def _device(name: str) -> bytes:
    try:
        interface(name)
    except ValueError:
        raise Unsuited from None
    return text(HOOK_DEVICE, name)


def _rule(chain: Chain, rule: tuple[Json, ...], kinds: Kinds) -> bytes:
    where = text(RULE_TABLE, TABLE) + text(RULE_CHAIN, chain.name)
    return GENERIC.pack(FAMILY[chain.family], 0, 0) + where + nest(RULE_EXPRESSIONS, _expressions(rule, kinds))


def _expressions(rule: tuple[Json, ...], kinds: Kinds) -> bytes:
    match rule:
        case ({"vmap": lookup},):
            return _decided(lookup, kinds)
        case (test, {"vmap": lookup}) if test == ADVERTISEMENT:
            return _ADVERTISED + _decided(lookup, kinds)
    raise Unsuited


def _decided(lookup: Json, kinds: Kinds) -> bytes:
    """The verdict a map has for the device."""
    match lookup:
        case {"key": {"meta": {"key": ("iifname" | "oifname") as key}}, "data": str(data)}:
            name = data.removeprefix("@")
            known = kinds.get(("netdev", name))
            if known and (known.key, known.data, known.flags) == (("ifname",), "verdict", ()):
                return _looked_up(key, name)
    raise Unsuited


@lru_cache(maxsize=1024)
def _looked_up(key: str, name: str) -> bytes:
    found = text(LOOKUP_SET, name) + signed(LOOKUP_SOURCE, REGISTER) + signed(LOOKUP_TARGET, VERDICT)
    return _meta(key) + _expression("lookup", found)


def _expression(name: str, data: bytes) -> bytes:
    return nest(LIST_MEMBER, text(EXPRESSION_NAME, name) + nest(EXPRESSION_DATA, data))


def _meta(key: str) -> bytes:
    return _expression("meta", signed(META_KEY, META[key]) + signed(META_TARGET, REGISTER))


def _equal(value: bytes) -> bytes:
    compared = signed(COMPARED, REGISTER) + signed(COMPARISON, EQUAL)
    return _expression("cmp", compared + nest(COMPARED_WITH, encode(DATA_VALUE, value)))


def _transport(offset: int, length: int) -> bytes:
    place = signed(PAYLOAD_BASE, TRANSPORT_HEADER) + signed(PAYLOAD_OFFSET, offset) + signed(PAYLOAD_LENGTH, length)
    return _expression("payload", signed(PAYLOAD_TARGET, REGISTER) + place)


_ADVERTISED = b"".join((
    *(_meta("protocol"), _equal(b"\x86\xdd")),
    *(_meta("l4proto"), _equal(b"\x3a")),
    *(_transport(0, 1), _equal(b"\x88")),
))  # fmt: skip
"""That a packet is ICMPv6 at all has to be asked first: libnftables adds that, and leaves it out where it lists."""
