"""What a network's document says about the addresses of one guest and of the others."""

from ipaddress import IPv6Network

from vnetd.model.network import Network
from vnetd.model.network_dhcp import DhcpHost
from vnetd.service.lessons import Site

LLT, LL = 1, 3
"""DUIDs that hold a link-layer address (RFC 8415, 11.2 and 11.4)."""


def site_of(network: Network, mac: str) -> Site:
    """A guest with this MAC address in the network: fixed hosts by MAC address, or by a DUID that is made of it."""
    hosts = [host for address in network.addresses if address.dhcp for host in address.dhcp.hosts]
    owners = [(host.address, _mac_of(host)) for host in hosts]
    own = tuple(address for address, owner in owners if owner == mac)
    others = {address for address, owner in owners if owner not in {mac, ""}}
    subnets = [one.address.network for one in network.addresses]
    return Site(
        hosts=own,
        taken=frozenset(others | {one.address.ip for one in network.addresses}),
        prefixes=tuple(subnet for subnet in subnets if isinstance(subnet, IPv6Network)),
    )


def _mac_of(host: DhcpHost) -> str:
    """Canonical, "" for a host that is known by its name or by an identifier that says nothing about its MAC."""
    if host.mac:
        return ":".join(f"{int(group, 16):02x}" for group in host.mac.split(":"))
    octets = [int(group, 16) for group in host.id.split(":") if group] if host.id else []
    kind, hardware = octets[0:2], octets[2:4]
    if hardware == [0, 1] and (kind, len(octets)) in (([0, LL], 10), ([0, LLT], 14)):
        return ":".join(f"{octet:02x}" for octet in octets[-6:])
    return ""
