"""What a host may or may not be able to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from vnetd.model.errors import Unsupported

ABILITIES: Mapping[str, str] = {
    "bridge": "bridges",
    "bridge-vlan-filtering": "VLAN filtering on bridges",
    "dnsmasq": "the program dnsmasq",
    "dnsmasq-dhcpv6": "a dnsmasq with DHCPv6",
    "dnsmasq-tftp": "a dnsmasq with TFTP",
    "ifb": "ifb devices, for shaping what comes in",
    "ipvlan": "ipvlan devices",
    "libnftables": "the library libnftables",
    "macvlan": "macvlan devices",
    "macvtap": "macvtap devices",
    "nft-bridge-conntrack": "connection tracking on bridges (module nf_conntrack_bridge)",
    "nft-bridge-meta": "rules that ask for a packet's bridge",
    "nft-bridge-reject": "rules that reject on bridges",
    "nft-flowtable": "flow tables",
    "nft-inet-conntrack": "connection tracking",
    "nft-masquerade": "address translation",
    "nft-netdev-egress": "rules where packets leave a device (Linux 5.16)",
    "nft-owned-tables": "tables that others cannot change",
    "packet-log": "packets that rules log (module nfnetlink_log)",
    "passt": "the program passt",
    "sr-iov": "network cards with virtual functions",
    "tap": "tap devices",
    "tap-multiqueue": "tap devices with several queues",
    "tc-fq_codel": "queueing discipline fq_codel",
    "tc-htb": "queueing discipline htb",
    "tc-ingress": "queueing discipline ingress",
    "tc-matchall": "classifier matchall",
    "tc-mirred": "redirection of packets to another device",
    "tc-police": "policing of what comes in",
    "tc-tbf": "queueing discipline tbf",
    "tc-u32": "classifier u32",
    "veth": "veth devices",
    "vlan": "802.1Q devices",
    "vxlan": "vxlan devices",
}
"""Every ability a host is asked for, in words that stand after "needs"."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One ability of this host. ``reason``: why not, in the host's words; of what is there, a version or a place."""

    name: str
    ok: bool
    reason: str = ""


def refusal(what: str, name: str, reason: str, instead: str = "") -> Unsupported:
    """What is told of ``what`` (the subject of a sentence) where the ability ``name`` lacks for ``reason``.

    ``instead``: what its reader can do other than give the host that ability, as an order.
    """
    way_out = f"; {instead}" if instead else ""
    return Unsupported(f"{what} needs {ABILITIES[name]}, which this host has not: {reason}{way_out}")
