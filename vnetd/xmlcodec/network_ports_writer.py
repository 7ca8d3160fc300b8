"""<vlan>, <bandwidth>, <virtualport>, <portgroup> and PCI addresses, as libvirt prints them."""

from vnetd.model.network_ports import Bandwidth, PciAddress, PortGroup, Rate, VirtualPort, Vlan
from vnetd.xmlcodec.xml import Writer


def pci_attributes(address: PciAddress) -> dict[str, object]:
    """Attributes of a PCI address, in the order libvirt prints them."""
    return {
        "type": "pci",
        "domain": f"0x{address.domain:04x}",
        "bus": f"0x{address.bus:02x}",
        "slot": f"0x{address.slot:02x}",
        "function": f"0x{address.function:x}",
    }


def write_vlan(writer: Writer, vlan: Vlan | None) -> None:
    """VLAN tags."""
    if vlan:
        with writer.element("vlan", {"trunk": vlan.trunk}):
            for tag in vlan.tags:
                writer.empty("tag", {"id": tag.id, "nativeMode": tag.native})


def write_bandwidth(writer: Writer, bandwidth: Bandwidth | None, class_id: int | None = None) -> None:
    """Limits of both directions; ``class_id`` is that of a single port."""
    if bandwidth and (bandwidth.inbound or bandwidth.outbound):
        with writer.element("bandwidth", {"classID": class_id}):
            _rate(writer, "inbound", bandwidth.inbound)
            _rate(writer, "outbound", bandwidth.outbound)


def _rate(writer: Writer, tag: str, rate: Rate | None) -> None:
    if rate:
        writer.empty(tag, {name: getattr(rate, name) for name in ("average", "peak", "burst", "floor")})


def write_virtualport(writer: Writer, port: VirtualPort | None) -> None:
    """Type and parameters of a virtual port."""
    if port is None:
        return
    names = ("managerid", "typeid", "typeidversion", "instanceid", "profileid", "interfaceid")
    parameters = {name: getattr(port, name) for name in names}
    with writer.element("virtualport", {"type": port.type}):
        if any(value is not None for value in parameters.values()):
            writer.empty("parameters", parameters)


def write_portgroup(writer: Writer, group: PortGroup) -> None:
    """A port group."""
    attributes = {
        "name": group.name,
        "default": group.default or None,
        "trustGuestRxFilters": group.trust_guest_rx_filters,
    }
    with writer.element("portgroup", attributes):
        write_vlan(writer, group.vlan)
        write_bandwidth(writer, group.bandwidth)
        write_virtualport(writer, group.virtualport)
