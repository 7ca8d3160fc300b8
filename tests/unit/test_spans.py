"""Subnets as numbers overlap where subnets overlap."""

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from vnetd.model.base import IPNetwork
from vnetd.model.spans import span_of


@st.composite
def subnets(draw: st.DrawFn) -> IPNetwork:
    """Subnets of both families, so few that many overlap."""
    bits, make = draw(st.sampled_from([(32, "10.0.0.{}/{}"), (128, "fd00::{:x}/{}")]))
    return ip_network(make.format(draw(st.integers(0, 31)), draw(st.integers(bits - 6, bits))), strict=False)


@given(subnets(), subnets())
def test_spans_overlap_where_subnets_do(one: IPNetwork, other: IPNetwork) -> None:
    same_family = one.version == other.version
    assert span_of(one).overlaps(span_of(other)) == (same_family and one.overlaps(other))


def test_a_family_whose_numbers_are_the_same_is_another() -> None:
    assert not span_of(ip_network("0.0.0.0/24")).overlaps(span_of(ip_network("::/120")))
