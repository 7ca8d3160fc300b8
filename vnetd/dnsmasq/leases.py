"""dnsmasq's lease database. Format: lease_update_file of dnsmasq; DUIDs: RFC 8415, section 11."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

_ETHERNET = "0001"
_LLT, _LL = "0001", "0003"


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease. ``expiry`` in seconds since the epoch, 0 for never; texts are empty where dnsmasq knows nothing.

    ``mac`` of a DHCPv6 client comes from its DUID and is empty if that holds none. ``server_duid`` only for IPv6.
    """

    address: IPv4Address | IPv6Address
    family: Literal["ipv4", "ipv6"]
    expiry: int
    mac: str
    hostname: str
    client_id: str
    iaid: str = ""
    server_duid: str = ""

    def is_current(self, now: float) -> bool:
        """Whether the lease holds at ``now``, seconds since the epoch."""
        return self.expiry == 0 or self.expiry > now


def parse(text: str) -> tuple[Lease, ...] | None:
    """The leases of a database in its order; ``None`` when ``text`` was read in the middle of a write.

    dnsmasq rewrites its file in place, so a reader may see a part. A line that is complete but makes no sense (of
    another's hand) is left out.
    """
    if text and not text.endswith("\n"):
        return None
    leases: list[Lease] = []
    server_duid = ""
    for line in text.split("\n")[:-1]:
        words = line.split(" ")
        if words[0] == "duid" and len(words) == 2:
            server_duid = words[1]
        elif (lease := _lease(words, server_duid)) is not None:
            leases.append(lease)
    return tuple(leases)


class LeaseChanges(NamedTuple):
    """What became of a network's leases. A renewal alone changes nothing; another client or name does."""

    added: tuple[Lease, ...]
    removed: tuple[Lease, ...]


def changes(before: Iterable[Lease], after: Iterable[Lease]) -> LeaseChanges:
    """Leases that came and went between two readings, each in the order of its reading."""
    old, new = {_presence(lease): lease for lease in before}, {_presence(lease): lease for lease in after}
    return LeaseChanges(
        added=tuple(lease for key, lease in new.items() if key not in old),
        removed=tuple(lease for key, lease in old.items() if key not in new),
    )


def _presence(lease: Lease) -> tuple[object, ...]:
    return (lease.address, lease.mac, lease.client_id, lease.iaid, lease.hostname)


def _lease(words: list[str], server_duid: str) -> Lease | None:
    """``EXPIRY MAC-or-IAID ADDRESS NAME CLIENT-ID``; the second is an IAID for IPv6 (``T`` before it: temporary)."""
    if len(words) != 5 or not (words[0].isascii() and words[0].isdigit()):
        return None
    try:
        address = ip_address(words[2])
    except ValueError:
        return None
    hostname, client_id = _known(words[3]), _known(words[4])
    if isinstance(address, IPv4Address):
        return Lease(address, "ipv4", int(words[0]), _ethernet(words[1]), hostname, client_id)
    mac = mac_of_duid(client_id)
    return Lease(address, "ipv6", int(words[0]), mac, hostname, client_id, words[1], server_duid)


def _known(word: str) -> str:
    return "" if word == "*" else word


def _ethernet(word: str) -> str:
    """A MAC, without the ``HARDWARE-TYPE-`` dnsmasq puts before those that are not Ethernet's."""
    return word.partition("-")[2] if "-" in word else word


def mac_of_duid(duid: str) -> str:
    """The MAC within a DUID of type LLT or LL on Ethernet (RFC 8415, 11.2 and 11.4), else ``""``."""
    try:
        octets = bytes.fromhex(duid.replace(":", ""))
    except ValueError:
        return ""
    kind, hardware = octets[:2].hex(), octets[2:4].hex()
    start = {_LLT: 8, _LL: 4}.get(kind, 0)
    if not start or hardware != _ETHERNET or len(octets) != start + 6:
        return ""
    return octets[start:].hex(":")


def render(leases: Iterable[Lease]) -> str:
    """A database with these leases, as ``parse`` reads it; the server's own DUID stands before those of IPv6."""
    leases = tuple(leases)
    lines = [_line(lease, lease.mac or "00:00:00:00:00:00") for lease in leases if lease.family == "ipv4"]
    server = next((lease.server_duid for lease in leases if lease.server_duid), "")
    if server:
        lines.append(f"duid {server}")
    lines += [_line(lease, lease.iaid or "0") for lease in leases if lease.family == "ipv6"]
    return "".join(f"{line}\n" for line in lines)


def _line(lease: Lease, second: str) -> str:
    return f"{lease.expiry} {second} {lease.address} {lease.hostname or '*'} {lease.client_id or '*'}"
