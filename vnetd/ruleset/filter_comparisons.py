"""Comparisons of one header field with the value of one attribute, which may be negated."""

from collections.abc import Mapping
from ipaddress import ip_network

from vnetd.model.filter import Attribute
from vnetd.plan.rules import Json
from vnetd.ruleset.expressions import match, prefix

Attributes = Mapping[str, Attribute]
SIDES = (("src", "s"), ("dst", "d"))


def compare(left: Json, right: Json, attribute: Attribute) -> Json:
    """Equal, or not equal if the attribute is negated."""
    return match(left, right, "!=" if attribute.negated else "==")


def network(address: str, length: int) -> Json:
    """The prefix of that length the address is in."""
    return prefix(str(ip_network(f"{address}/{length}", strict=False).network_address), length)
