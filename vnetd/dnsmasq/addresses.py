"""Arithmetic on addresses that dnsmasq's lines need."""

from ipaddress import IPv4Interface

from vnetd.dnsmasq.fields import refuse
from vnetd.model.base import IPInterface


def reverse_zone(interface: IPInterface) -> str:
    """The zone below ``in-addr.arpa`` or ``ip6.arpa`` that is exactly this subnet.

    Raises ``Invalid`` where there is none: IPv4 needs a prefix of 8, 16 or 24, IPv6 a multiple of 4.
    """
    network = interface.network
    step, labels = (8, 4) if isinstance(interface, IPv4Interface) else (4, 32)
    count = network.prefixlen // step
    if network.prefixlen % step or not 0 < count < labels:
        raise refuse(
            "local_ptr (localPtr) of",
            interface,
            "its subnet is no reverse zone; IPv4 needs prefix 8, 16 or 24, IPv6 a multiple of 4 between 4 and 124",
        )
    return ".".join(network.network_address.reverse_pointer.split(".")[labels - count :])
