"""Elements of plain sets and maps as nf_tables messages: what guests coming and going consist of (docs/adr/0020)."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from vnetd.linux.netlink import NLM_F_CREATE, NLM_F_REQUEST, encode
from vnetd.linux.nft_json import TABLE, Kinds
from vnetd.linux.nft_messages import (
    DATA_VALUE,
    DATA_VERDICT,
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
from vnetd.plan.rules import Element, Family, Set

NEW_ELEMENT, DELETE_ELEMENT = SUBSYSTEM << 8 | 12, SUBSYSTEM << 8 | 14
LIST_TABLE, LIST_SET, LIST_ELEMENTS = 1, 2, 3
ELEMENT_KEY, ELEMENT_DATA, VERDICT_CODE, VERDICT_CHAIN = 1, 2, 1, 2
VERDICTS = {"drop": 0, "accept": 1, "continue": -1, "jump": -3, "goto": -4, "return": -5}


def coming(elements: Collection[Element], kinds: Kinds) -> Iterator[Message]:
    """What makes them. Raises ``Unsuited``, as ``going`` does."""
    return _changes(NEW_ELEMENT, NLM_F_REQUEST | NLM_F_CREATE, elements, kinds)


def going(elements: Collection[Element], kinds: Kinds) -> Iterator[Message]:
    """What takes them away."""
    return _changes(DELETE_ELEMENT, NLM_F_REQUEST, elements, kinds)


def _changes(kind: int, flags: int, elements: Collection[Element], kinds: Kinds) -> Iterator[Message]:
    """One message a set, sorted, so that equal changes are equal messages."""
    by_set: defaultdict[tuple[Family, str], list[Element]] = defaultdict(list)
    for element in elements:
        by_set[element.family, element.set].append(element)
    for (family, name), members in sorted(by_set.items()):
        one = kinds.get((family, name))
        if one is None or one.flags or one.data not in {None, "verdict"}:
            raise Unsuited
        listed = b"".join(nest(LIST_MEMBER, _element(member, one)) for member in members)
        body = GENERIC.pack(FAMILY[family], 0, 0) + text(LIST_TABLE, TABLE) + text(LIST_SET, name)
        yield kind, flags, body + nest(LIST_ELEMENTS, listed)


def _element(element: Element, one: Set) -> bytes:
    """Its key, each component of several filled up to whole words, and in a map its verdict."""
    try:
        parts = [PACKED[kind](part) for kind, part in zip(one.key, element.key, strict=True)]
    except (KeyError, ValueError):
        raise Unsuited from None
    key = parts[0] if len(parts) == 1 else b"".join(part + bytes(-len(part) % 4) for part in parts)
    return nest(ELEMENT_KEY, encode(DATA_VALUE, key)) + (_verdict(element.data) if one.data else b"")


def _verdict(data: str) -> bytes:
    verdict, _, chain = data.partition(" ")
    code = signed(VERDICT_CODE, VERDICTS[verdict])
    return nest(ELEMENT_DATA, nest(DATA_VERDICT, code + (text(VERDICT_CHAIN, chain) if chain else b"")))


def _ethernet(address: str) -> bytes:
    raw = bytes.fromhex(address.replace(":", ""))
    if len(raw) != 6:
        raise ValueError(address)
    return raw


PACKED: Mapping[str, Callable[[str], bytes]] = {
    "ifname": interface,
    "ipv4_addr": lambda address: IPv4Address(address).packed,
    "ipv6_addr": lambda address: IPv6Address(address).packed,
    "ether_addr": _ethernet,
}
"""Components of a key by their type."""
