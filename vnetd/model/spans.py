"""Subnets as numbers: what each start compares with those of all active networks must be compared fast."""

from typing import NamedTuple

from vnetd.model.base import IPNetwork


class Span(NamedTuple):
    """A subnet: IP version, first and last address."""

    version: int
    first: int
    last: int

    def overlaps(self, other: "Span") -> bool:
        """Whether an address is in both."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last


def span_of(subnet: IPNetwork) -> Span:
    """A subnet's numbers."""
    return Span(subnet.version, int(subnet.network_address), int(subnet.broadcast_address))
