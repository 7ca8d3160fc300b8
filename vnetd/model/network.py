"""The network model: what a user says about one virtual network. Native JSON is this model itself.

Fields named ``xml_*`` keep how a libvirt document spelled something, so that it is printed the same way again;
they change nothing in the kernel. Source of the rules: libvirt's network format (see docs/FORMATS.md).
"""

from enum import StrEnum
from ipaddress import IPv4Address
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from vnetd.model.base import (
    IfName,
    IPAddress,
    IPInterface,
    IPNetwork,
    Mtu,
    ObjectName,
    PortNumber,
    Text,
    UnicastMac,
    Value,
)


class Mode(StrEnum):
    """How a network is joined to the rest of the world."""

    ISOLATED = "isolated"
    NAT = "nat"
    ROUTE = "route"
    OPEN = "open"
    BRIDGE = "bridge"
    MACVTAP = "macvtap"
    HOSTDEV = "hostdev"
    USER = "user"

    @property
    def has_bridge(self) -> bool:
        """Whether vnetd makes a bridge for a network of this mode (libvirt: "virtual" modes)."""
        return self in {Mode.ISOLATED, Mode.NAT, Mode.ROUTE, Mode.OPEN}


class MacvtapMode(StrEnum):
    """Forwarding between the macvtap devices of one lower device."""

    BRIDGE = "bridge"
    VEPA = "vepa"
    PRIVATE = "private"
    PASSTHROUGH = "passthrough"


class AddressRange(Value):
    """Source addresses for SNAT, first and last included (IPv4)."""

    start: IPv4Address
    end: IPv4Address


class PortRange(Value):
    """TCP/UDP ports, first and last included; 0–0 means unset."""

    start: Annotated[int, Field(ge=0, le=65535)]
    end: Annotated[int, Field(ge=0, le=65535)]


class Nat(Value):
    """Source address translation of a ``nat`` network; IPv4 is always translated, IPv6 if asked for."""

    ipv6: bool = False
    address: AddressRange | None = None
    ports: PortRange | None = None
    xml_ipv6: bool | None = None


class Bridge(Value):
    """The bridge of a network; ``name`` may hold one ``%d`` (lowest free number). ``delay`` in seconds."""

    name: Text | None = None
    zone: Text | None = None
    stp: bool = False
    delay: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    mac_table: Literal["kernel", "vnetd"] | None = None


class Domain(Value):
    """DNS domain of the guests. ``local_only``: never asked upstream. ``register``: tell systemd-resolved."""

    name: Text
    local_only: bool | None = None
    register_: bool | None = Field(default=None, alias="register")

    model_config = Value.model_config | {"populate_by_name": True}


class DnsForwarder(Value):
    """Upstream server for everything, or for one domain; a domain alone goes to the default servers."""

    domain: Text | None = None
    address: IPAddress | None = None


class DnsText(Value):
    """One TXT record."""

    name: Text
    value: Text


class DnsService(Value):
    """One SRV record (RFC 2782); target ``.`` says the service is not there."""

    service: Text
    protocol: Text
    domain: Text | None = None
    target: Text | None = None
    port: PortNumber | None = None
    priority: Annotated[int, Field(ge=0, le=65535)] | None = None
    weight: Annotated[int, Field(ge=0, le=65535)] | None = None


class DnsHost(Value):
    """Names of one address."""

    address: IPAddress
    hostnames: tuple[Text, ...]


class Dns(Value):
    """What the network's DNS server answers and whom it asks."""

    enable: bool | None = None
    forward_plain_names: bool | None = None
    forwarders: tuple[DnsForwarder, ...] = ()
    texts: tuple[DnsText, ...] = ()
    services: tuple[DnsService, ...] = ()
    hosts: tuple[DnsHost, ...] = ()


class Lease(Value):
    """Lease time; ``expiry`` 0 is infinite. ``unit`` as written."""

    expiry: Annotated[int, Field(ge=0, le=2**64 - 1)] = 0
    unit: Literal["seconds", "minutes", "hours"] = "minutes"

    @property
    def seconds(self) -> int:
        """The lease time in seconds, 0 for infinite."""
        return self.expiry * {"seconds": 1, "minutes": 60, "hours": 3600}[self.unit]


class DhcpRange(Value):
    """Addresses handed out, first and last included."""

    start: IPAddress
    end: IPAddress
    lease: Lease | None = None


class DhcpHost(Value):
    """A fixed address for a MAC (IPv4), a DUID (``id``, IPv6) or a host name. ``mac`` is kept as typed."""

    mac: Text | None = None
    id: Text | None = None
    name: Text | None = None
    address: IPAddress
    lease: Lease | None = None


class Bootp(Value):
    """Network boot file and the server that has it (IPv4)."""

    file: Text
    server: IPAddress | None = None


class DhcpOption(Value):
    """A DHCP option sent to clients of its family, by number or dnsmasq's name, values as text."""

    option: Annotated[int, Field(ge=1, le=65535)] | Text
    values: tuple[Text, ...] = ()


class Dhcp(Value):
    """DHCP service on one address's subnet."""

    ranges: tuple[DhcpRange, ...] = ()
    hosts: tuple[DhcpHost, ...] = ()
    bootp: Bootp | None = None
    options: tuple[DhcpOption, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether clients can get an address; ``bootp`` alone hands out none."""
        return bool(self.ranges or self.hosts)


class Address(Value):
    """An address of the host on the network's bridge, with its subnet and the services there."""

    address: IPInterface
    local_ptr: bool | None = None
    tftp_root: Text | None = None
    dhcp: Dhcp | None = None
    xml_family: bool = False
    xml_mask: Literal["netmask", "prefix", "none"] | None = None


class Route(Value):
    """A static route through a guest of the network."""

    destination: IPNetwork
    gateway: IPAddress
    metric: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = None
    xml_family: bool = False
    xml_mask: Literal["netmask", "prefix", "none"] | None = None


class Rate(Value):
    """Limits of one direction: kB/s for average, peak and floor; kB for burst."""

    average: Annotated[int, Field(ge=0)] | None = None
    peak: Annotated[int, Field(ge=0)] | None = None
    burst: Annotated[int, Field(ge=0)] | None = None
    floor: Annotated[int, Field(ge=0)] | None = None


class Bandwidth(Value):
    """Limits as seen from the guests: ``inbound`` is what they receive."""

    inbound: Rate | None = None
    outbound: Rate | None = None


class VlanTag(Value):
    """One VLAN; ``native``: the one whose frames carry no tag (or one, if ``tagged``)."""

    id: Annotated[int, Field(ge=0, le=4095)]
    native: Literal["tagged", "untagged"] | None = None


class Vlan(Value):
    """VLANs of the ports of a network or port group."""

    trunk: bool | None = None
    tags: tuple[VlanTag, ...]


class VirtualPort(Value):
    """Parameters for the switch a port is plugged into (802.1Qbg, 802.1Qbh, Open vSwitch, midonet)."""

    type: Literal["802.1Qbg", "802.1Qbh", "openvswitch", "midonet"] | None = None
    managerid: Annotated[int, Field(ge=0, le=0xFF)] | None = None
    typeid: Annotated[int, Field(ge=0, le=0xFFFFFF)] | None = None
    typeidversion: Annotated[int, Field(ge=0, le=0xFF)] | None = None
    instanceid: UUID | None = None
    profileid: Text | None = None
    interfaceid: UUID | None = None


class PortGroup(Value):
    """A named set of port settings; one may be the default."""

    name: Text
    default: bool = False
    trust_guest_rx_filters: bool | None = None
    vlan: Vlan | None = None
    bandwidth: Bandwidth | None = None
    virtualport: VirtualPort | None = None


class PciAddress(Value):
    """A PCI function."""

    domain: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 0
    bus: Annotated[int, Field(ge=0, le=0xFF)] = 0
    slot: Annotated[int, Field(ge=0, le=0x1F)] = 0
    function: Annotated[int, Field(ge=0, le=7)] = 0


class Devices(Value):
    """Host devices behind a network: its uplink (nat, route), or the pool its ports are made from."""

    interfaces: tuple[IfName, ...] = ()
    pf: IfName | None = None
    pci: tuple[PciAddress, ...] = ()
    managed: bool | None = None
    driver: Text | None = None
    driver_model: Text | None = None
    xml_dev: bool = False


class PortForward(Value):
    """A port of the host led to a guest, which is named by host name, MAC or address."""

    protocol: Literal["tcp", "udp"]
    listen: PortNumber
    to: Text
    port: PortNumber | None = None
    address: IPAddress | None = None


class Access(Value):
    """Who may attach ports: user names, or group names with a leading ``@``."""

    attach: tuple[Text, ...] = ()


class Network(Value):
    """One virtual network, whole."""

    name: ObjectName
    uuid: UUID | None = None
    title: Text | None = None
    description: str | None = None
    metadata: tuple[str, ...] = ()
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
    dnsmasq_options: tuple[Text, ...] = ()
    host_access: bool = True
    forwards: tuple[PortForward, ...] = ()
    access: Access | None = None
