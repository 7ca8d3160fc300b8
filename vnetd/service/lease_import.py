"""Leases that another DHCP server gave on a network's subnets, checked before dnsmasq reads them as its own."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from vnetd.dnsmasq.leases import Lease
from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.service.api import Option, Options

MOST_LEASES = 65536
TEXTS = {
    "mac": r"([0-9a-f]{2}:){5}[0-9a-f]{2}",
    "hostname": r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})",
    "client_id": r"[0-9a-f]{2}(:[0-9a-f]{2}){0,253}",
    "iaid": r"T?[0-9]{1,10}",
    "server_duid": r"[0-9a-f]{2}(:[0-9a-f]{2}){0,129}",
}
"""What each text may be, if it is there; nothing else may get into dnsmasq's file."""
NUMBERS = ("expiry", "prefix")


def leases_of(network: Network, rows: Sequence[Options]) -> tuple[Lease, ...]:
    """The leases in ``rows``, with the keys of ``GetLeases`` and ``server_duid``; of two for one address the last.

    Raises ``Invalid`` for one that makes no sense or lies outside the subnets on which ``network`` serves DHCP.
    """
    if len(rows) > MOST_LEASES:
        raise Invalid(f"there are {len(rows)} leases: {MOST_LEASES} is the limit")
    found = {lease.address: lease for lease in (_lease(network, row) for row in rows)}
    return tuple(found.values())


def _lease(network: Network, row: Options) -> Lease:
    for name in row:
        if name not in {"address", "family", *TEXTS, *NUMBERS}:
            raise Invalid(f"unknown key {name!r} of a lease")
    try:
        address = ip_address(str(row.get("address", "")))
    except ValueError:
        raise Invalid(f"{row.get('address')!r} is no IP address of a lease") from None
    if not any(a.dhcp and a.dhcp.serves and address in a.address.network for a in network.addresses):
        raise Invalid(f"{address} is on no subnet on which network {network.name} serves DHCP")
    texts = {name: _text(row, name) for name in TEXTS}
    if address.version == 4 and not texts["mac"]:
        raise Invalid(f"the lease of {address} needs a MAC address")
    if address.version == 6 and not (texts["iaid"] and texts["client_id"]):
        raise Invalid(f"the lease of {address} needs iaid and client_id, which is the client's DUID")
    return Lease(address, "ipv4" if address.version == 4 else "ipv6", _expiry(row), **texts)


def _text(row: Mapping[str, Option], name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str) or (value and not re.fullmatch(TEXTS[name], value)):
        raise Invalid(f"{value!r} cannot be {name} of a lease")
    return value


def _expiry(row: Mapping[str, Option]) -> int:
    value = row.get("expiry", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 40:
        raise Invalid(f"{value!r} cannot be expiry of a lease: seconds since the epoch are needed, or 0 for never")
    return value
