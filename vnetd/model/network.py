"""The network model: what a user says about one virtual network. Native JSON is this model itself.

Fields named ``xml_*`` keep how a libvirt document spelled something, so that it is printed the same way again;
they change nothing in the kernel. Source of the rules: libvirt's network format.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from vnetd.model.base import Lines, Mtu, ObjectName, Text, UnicastMac, Uuid, Value, Word
from vnetd.model.network_addressing import Address, AddressRange, Nat, PortRange, Route, default_prefix
from vnetd.model.network_dhcp import Bootp, Dhcp, DhcpHost, DhcpOption, DhcpRange, Lease
from vnetd.model.network_dns import Dns, DnsForwarder, DnsHost, DnsService, DnsText, Domain
from vnetd.model.network_modes import MacvtapMode, Mode
from vnetd.model.network_ports import (
    Access,
    Bandwidth,
    Devices,
    PciAddress,
    PortForward,
    PortGroup,
    Rate,
    VirtualPort,
    Vlan,
    VlanTag,
)
from vnetd.model.network_rules import check

__all__ = [
    "Access",
    "Address",
    "AddressRange",
    "Bandwidth",
    "Bootp",
    "Bridge",
    "Devices",
    "Dhcp",
    "DhcpHost",
    "DhcpOption",
    "DhcpRange",
    "Dns",
    "DnsForwarder",
    "DnsHost",
    "DnsService",
    "DnsText",
    "Domain",
    "Lease",
    "MacvtapMode",
    "Mode",
    "Nat",
    "Network",
    "PciAddress",
    "PortForward",
    "PortGroup",
    "PortRange",
    "Rate",
    "Route",
    "VirtualPort",
    "Vlan",
    "VlanTag",
    "default_prefix",
]

MAX_BRIDGE_NAME = 15


def _bridge_name(name: str) -> str:
    """An interface name, or a template of one; a template's shortest number takes one of its two places."""
    plain = name.replace("%d", "0", 1)
    if len(plain.encode()) > MAX_BRIDGE_NAME or plain in {".", "..", "all", "default"}:
        raise ValueError(f"{name[:40]!r} is no name of a bridge: the kernel takes 1 to 15 bytes, not 'all', 'default'")
    if not re.fullmatch(r"[A-Za-z0-9_.\-]+", plain):
        raise ValueError(f"{name!r} is no name of a bridge: letters, digits, '_', '-', '.' and one '%d' are allowed")
    return name


class Bridge(Value):
    """The bridge of a network; ``name`` may hold one ``%d`` (lowest free number). ``delay`` in seconds.

    ``multicast_snooping``: the kernel heeds guests' IGMP and MLD, and takes multicast only to who asked for it once
    somebody queries (``adr/0022``).
    """

    name: Annotated[Word, AfterValidator(_bridge_name)] | None = None
    zone: Word | None = None
    stp: bool = False
    delay: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    mac_table: Literal["kernel", "vnetd"] | None = None
    multicast_snooping: bool = False


class Network(Value):
    """One virtual network, whole."""

    name: ObjectName
    uuid: Uuid | None = None
    title: Text | None = None
    description: Lines | None = None
    metadata: tuple[Lines, ...] = ()
    mode: Mode = Mode.ISOLATED
    macvtap_mode: MacvtapMode | None = None
    guest_ipv6: bool = False
    trust_guest_rx_filters: bool | None = None
    devices: Devices = Devices()
    nat: Nat | None = None
    bridge: Bridge = Bridge()
    mtu: Mtu | None = None
    mac: UnicastMac | None = None
    domain: Domain | None = None
    dns: Dns | None = None
    vlan: Vlan | None = None
    bandwidth: Bandwidth | None = None
    isolated_ports: bool | None = None
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    virtualport: VirtualPort | None = None
    portgroups: tuple[PortGroup, ...] = ()
    dnsmasq_options: tuple[Word, ...] = ()
    host_access: bool | None = None
    forwards: tuple[PortForward, ...] = ()
    access: Access | None = None

    @field_validator("title", "description")
    @classmethod
    def _empty_is_absent(cls, text: str | None) -> str | None:
        return text or None

    @field_validator("nat", "dns", "bandwidth")
    @classmethod
    def _saying_nothing_is_absent(cls, part: Value | None) -> Value | None:
        return part if part and part != type(part)() else None

    @model_validator(mode="after")
    def _consistent(self) -> "Network":
        check(self)
        return self
