"""The forms in which listings show one and the same rule, depending on libnftables, made one form. Pure.

What else a listing may show otherwise than it was written, the compilers avoid by writing it as it is listed.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vnetd.plan.rules import Json

_ICMP_CODES = {
    "net-unreachable": 0,
    "host-unreachable": 1,
    "prot-unreachable": 2,
    "port-unreachable": 3,
    "frag-needed": 4,
    "net-prohibited": 9,
    "host-prohibited": 10,
    "admin-prohibited": 13,
}
_ICMPV6_CODES = {
    "no-route": 0,
    "admin-prohibited": 1,
    "addr-unreachable": 3,
    "port-unreachable": 4,
    "policy-fail": 5,
    "reject-route": 6,
}
_PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "ospf": 89,
    "vrrp": 112,
    "sctp": 132,
    "udplite": 136,
}
_OPTIONS = {
    "eol": 0,
    "nop": 1,
    "maxseg": 2,
    "window": 3,
    "sack-perm": 4,
    "sack": 5,
    "timestamp": 8,
    "md5sig": 19,
    "mptcp": 30,
    "fastopen": 34,
}
_CODES: Mapping[str, Mapping[str, int]] = {"icmp": _ICMP_CODES, "icmpv6": _ICMPV6_CODES}


def same_rules(one: Json, other: Json) -> bool:
    """Whether two sequences of rules, written or listed, are the same to the kernel."""
    return bool(one == other or _plain(one) == _plain(other))


def _plain(part: Any) -> Any:
    match part:
        case {"range": [first, last]} if first == last:
            return first  # up to 1.0 it is listed as written, from 1.1 on as the value
        case {"|": [*flags]}:
            return flags  # up to 1.0 they are a list wherever they stand
        case {"match": {"left": {"tcp option": option}, "right": bool() as there}}:
            # Written by number, listed by a name if libnftables has one, which depends on its version.
            return {"tcp option": _OPTIONS.get(option["name"]) if "name" in option else option["base"], "there": there}
        case {"match": dict() as body}:
            return {"match": {name: _plain(value) for name, value in _plain_match(body).items()}}
        case dict():
            return {name: _plain(value) for name, value in part.items()}
        case list() | tuple():
            return _unimplied([_plain(value) for value in part])
    return part


def _plain_match(body: dict[str, Any]) -> dict[str, Any]:
    match body:
        case {"left": {"payload": {"protocol": "icmp" | "icmpv6" as header, "field": "code"}}}:
            # Up to 1.0 codes have names, whatever the type; from 1.1 on they are numbers.
            return {**body, "right": _numbers(body["right"], _CODES[header])}
        case {"left": {"meta": {"key": "l4proto"}} | {"payload": {"field": "protocol" | "nexthdr"}}}:
            # The C library knows their names from /etc/protocols, if there is one.
            return {**body, "right": _numbers(body["right"], _PROTOCOLS)}
        case {"left": {"&": [{"payload": {"base": _} as bits}, int() as mask]}, "right": int() as value}:
            return {**body, **_trimmed(bits, mask, value)}
    return body


def _trimmed(bits: Mapping[str, Any], mask: int, value: int) -> dict[str, Any]:
    """Some bits of a header compared: up to 1.0 listed as written, from 1.1 on just these bits if they are in a row."""
    low = (mask & -mask).bit_length() - 1
    width = mask.bit_length() - low
    if mask <= 0 or mask >> low != (1 << width) - 1:
        return {"left": {"&": [dict(bits), mask]}, "right": value}
    place = {"base": bits["base"], "offset": bits["offset"] + bits["len"] - low - width, "len": width}
    return {"left": {"payload": place}, "right": value >> low}


def _numbers(right: Any, codes: Mapping[str, int]) -> Any:
    match right:
        case str():
            return codes.get(right, right)
        case {"range": [first, last]}:
            return {"range": [_numbers(first, codes), _numbers(last, codes)]}
        case {"set": [*members]}:
            return {"set": [_numbers(one, codes) for one in members]}
    return right


def _unimplied(parts: list[Any]) -> list[Any]:
    """Without tests for a protocol that listings leave out before its options or fields, though they are there."""
    left_out = {number for number, shows in _SHOWN.items() if any(map(shows, parts))}
    return [one for one in parts if not left_out or _protocol(one) not in left_out]


def _protocol(part: Any) -> int | None:
    """The protocol a statement asks for, as the kernel finds it, ``None`` if it asks for something else."""
    match part:
        case {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": int() as number}}:
            return number
        case {"match": {"op": "==", "left": {"payload": {"field": "protocol"}}, "right": 6}}:
            return 6
    return None


def _shows(header: str) -> Callable[[Any], bool]:
    def of(part: Any) -> bool:
        match part:
            case {"match": {"left": {"payload": {"protocol": protocol}}}}:
                return bool(protocol == header)
        return False

    return of


_SHOWN: Mapping[int, Callable[[Any], bool]] = {
    6: lambda part: isinstance(part, dict) and "tcp option" in part,
    58: _shows("icmpv6"),
}
