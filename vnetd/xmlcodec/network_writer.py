"""A network as libvirt's <network>, in the order of elements and attributes libvirt prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vnetd.model.errors import Unsupported
from vnetd.model.network import Address, Dhcp, DhcpHost, DhcpRange, Dns, Domain, Lease, Nat, Network, Route
from vnetd.model.network_modes import MacvtapMode, Mode
from vnetd.model.network_ports import Devices
from vnetd.xmlcodec.addresses import interface_attributes, network_attributes
from vnetd.xmlcodec.metadata import write_metadata
from vnetd.xmlcodec.network_ports_writer import (
    pci_attributes,
    write_bandwidth,
    write_portgroup,
    write_virtualport,
    write_vlan,
)
from vnetd.xmlcodec.xml import DNSMASQ, Writer


@dataclass(frozen=True, slots=True)
class Usage:
    """Ports of a network that runs: all of them, and those on each of its devices, by name or PCI address."""

    ports: int = 0
    devices: Mapping[str, int] = field(default_factory=dict)


def network_to_xml(network: Network, usage: Usage | None = None) -> str:
    """The document, canonical: reading and writing it again changes nothing. ``usage`` is shown, and never read.

    Raises ``Unsupported`` for mode user, for which libvirt's format has no word.
    """
    if network.mode is Mode.USER:
        raise Unsupported(f"network {network.name}: mode user cannot be said in libvirt's XML: use native JSON")
    writer, usage = Writer(), usage or Usage()
    with writer.element("network", _root_attributes(network, usage)):
        writer.text("name", network.name)
        writer.text("uuid", str(network.uuid) if network.uuid else None)
        writer.text("title", network.title)
        writer.text("description", network.description)
        write_metadata(writer, network)
        _forward(writer, network, usage)
        _bridge(writer, network)
        if network.mtu:
            writer.empty("mtu", {"size": network.mtu})
        if network.mac:
            writer.empty("mac", {"address": network.mac})
        _domain(writer, network.domain)
        _dns(writer, network.dns)
        write_vlan(writer, network.vlan)
        write_bandwidth(writer, network.bandwidth)
        if network.isolated_ports is not None:
            writer.empty("port", {"isolated": network.isolated_ports})
        for address in network.addresses:
            _ip(writer, address)
        for route in network.routes:
            _route(writer, route)
        write_virtualport(writer, network.virtualport)
        for group in network.portgroups:
            write_portgroup(writer, group)
        _dnsmasq_options(writer, network.dnsmasq_options)
    return str(writer)


def _root_attributes(network: Network, usage: Usage) -> dict[str, object]:
    return {
        "xmlns:dnsmasq": DNSMASQ if network.dnsmasq_options else None,
        "connections": usage.ports or None,
        "ipv6": network.guest_ipv6 or None,
        "trustGuestRxFilters": network.trust_guest_rx_filters,
    }


def _forward(writer: Writer, network: Network, usage: Usage) -> None:
    if network.mode is Mode.ISOLATED:
        return
    devices = network.devices
    mode = network.macvtap_mode or MacvtapMode.BRIDGE if network.mode is Mode.MACVTAP else network.mode
    attributes = {"dev": next(iter(devices.interfaces), None), "mode": mode, "managed": devices.managed}
    with writer.element("forward", attributes):
        if devices.driver:
            writer.empty("driver", {"name": devices.driver, "model": devices.driver_model})
        _nat(writer, network.nat)
        _devices(writer, devices, usage)


def _devices(writer: Writer, devices: Devices, usage: Usage) -> None:
    if devices.pf:
        writer.empty("pf", {"dev": devices.pf})
    for name in devices.interfaces:
        writer.empty("interface", {"dev": name, "connections": usage.devices.get(name)})
    for address in devices.pci:
        connections = usage.devices.get(address.text)
        writer.empty("address", {**pci_attributes(address), "connections": connections})


def _nat(writer: Writer, nat: Nat | None) -> None:
    if nat is None or nat == Nat():
        return
    with writer.element("nat", {"ipv6": nat.ipv6}):
        if nat.address:
            writer.empty("address", {"start": nat.address.start, "end": nat.address.end})
        if nat.ports:
            writer.empty("port", {"start": nat.ports.start, "end": nat.ports.end})


def _bridge(writer: Writer, network: Network) -> None:
    bridge = network.bridge
    table = "libvirt" if bridge.mac_table == "vnetd" else bridge.mac_table
    if network.mode.has_bridge:
        stp: dict[str, object] = {"stp": "on" if bridge.stp else "off", "delay": bridge.delay}
        writer.empty("bridge", {"name": bridge.name, "zone": bridge.zone, **stp, "macTableManager": table})
    elif bridge.name:
        writer.empty("bridge", {"name": bridge.name, "macTableManager": table})


def _domain(writer: Writer, domain: Domain | None) -> None:
    if domain:
        writer.empty("domain", {"name": domain.name, "localOnly": domain.local_only, "register": domain.register_})


def _dns(writer: Writer, dns: Dns | None) -> None:
    if dns is None or dns == Dns():
        return
    with writer.element("dns", {"enable": dns.enable, "forwardPlainNames": dns.forward_plain_names}):
        for forwarder in dns.forwarders:
            writer.empty("forwarder", {"domain": forwarder.domain, "addr": forwarder.address})
        for text in dns.texts:
            writer.empty("txt", {"name": text.name, "value": text.value})
        for service in dns.services:
            names = ("service", "protocol", "domain", "target", "port", "priority", "weight")
            writer.empty("srv", {name: getattr(service, name) for name in names})
        for host in dns.hosts:
            with writer.element("host", {"ip": host.address}):
                for name in host.hostnames:
                    writer.text("hostname", name)


def _ip(writer: Writer, address: Address) -> None:
    attributes = interface_attributes(address.address, address.xml_family, address.xml_mask)
    with writer.element("ip", {**attributes, "localPtr": address.local_ptr}, pair=True):
        if address.tftp_root:
            writer.empty("tftp", {"root": address.tftp_root})
        if address.dhcp and address.dhcp.serves:
            _dhcp(writer, address.dhcp)


def _dhcp(writer: Writer, dhcp: Dhcp) -> None:
    with writer.element("dhcp"):
        for span in dhcp.ranges:
            _leased(writer, "range", {"start": span.start, "end": span.end}, span)
        for host in dhcp.hosts:
            _leased(writer, "host", {"mac": host.mac, "id": host.id, "name": host.name, "ip": host.address}, host)
        if dhcp.bootp:
            writer.empty("bootp", {"file": dhcp.bootp.file, "server": dhcp.bootp.server})


def _leased(writer: Writer, tag: str, attributes: dict[str, object], leased: DhcpRange | DhcpHost) -> None:
    with writer.element(tag, attributes):
        if leased.lease:
            writer.empty("lease", _lease(leased.lease))


def _lease(lease: Lease) -> dict[str, object]:
    return {"expiry": lease.expiry, "unit": lease.unit if lease.expiry else None}


def _route(writer: Writer, route: Route) -> None:
    attributes = network_attributes(route.destination, route.xml_family, route.xml_mask)
    writer.empty("route", {**attributes, "gateway": route.gateway, "metric": route.metric})


def _dnsmasq_options(writer: Writer, options: tuple[str, ...]) -> None:
    if options:
        with writer.element("dnsmasq:options"):
            for option in options:
                writer.empty("dnsmasq:option", {"value": option})
