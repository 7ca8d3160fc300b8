"""Builders of libnftables JSON expressions; see libnftables-json(5) for the shapes."""

from vnetd.plan.rules import Json


def meta(key: str) -> Json:
    """A property of the packet: ``iifname``, ``oifname``, ``l4proto`` …"""
    return {"meta": {"key": key}}


def payload(protocol: str, field: str) -> Json:
    """A header field, e.g. ``payload("ip", "saddr")``."""
    return {"payload": {"protocol": protocol, "field": field}}


def concat(*parts: Json) -> Json:
    """Several values side by side, matched as one."""
    return {"concat": list(parts)}


def match(left: Json, right: Json, op: str = "==") -> Json:
    """A comparison; ``op`` is ``==``, ``!=`` or ``in`` (flags)."""
    return {"match": {"op": op, "left": left, "right": right}}


def in_set(left: Json, name: str) -> Json:
    """Whether ``left`` is an element of the named set."""
    return match(left, f"@{name}")


def vmap(key: Json, name: str) -> Json:
    """Look the verdict up in the named map."""
    return {"vmap": {"key": key, "data": f"@{name}"}}


def jump(chain: str) -> Json:
    """Go on in ``chain`` and come back."""
    return {"jump": {"target": chain}}


def prefix(address: str, length: int) -> Json:
    """An address prefix."""
    return {"prefix": {"addr": address, "len": length}}


def anonymous_set(*values: Json) -> Json:
    """A literal set."""
    return {"set": list(values)}


def span(first: int | str, last: int | str) -> Json:
    """A range, both ends included."""
    return {"range": [first, last]}


ACCEPT: Json = {"accept": None}
DROP: Json = {"drop": None}
RETURN: Json = {"return": None}
REJECT: Json = {"reject": {"type": "icmpx", "expr": "port-unreachable"}}
