"""libvirt's <network> document. Source: libvirt's network format page, and its parser where the page is silent."""

from collections.abc import Mapping
from typing import Any, Final

from vnetd.model.network import Network
from vnetd.model.network_modes import MacvtapMode, Mode
from vnetd.model.network_warnings import warnings
from vnetd.xmlcodec.metadata import read_metadata
from vnetd.xmlcodec.network_addresses import read_ip, read_route
from vnetd.xmlcodec.network_dns import read_dns, read_domain
from vnetd.xmlcodec.network_forward import read_devices, read_nat
from vnetd.xmlcodec.network_native import read_native
from vnetd.xmlcodec.network_ports import read_bandwidth, read_portgroup, read_virtualport, read_vlan
from vnetd.xmlcodec.network_writer import network_to_xml
from vnetd.xmlcodec.parsed import Parsed
from vnetd.xmlcodec.reader import Element, Fields, build, open_document, place_of
from vnetd.xmlcodec.xml import DNSMASQ, SPACE

__all__ = ["network_from_xml", "network_to_xml"]

_MODES: Final[Mapping[str, tuple[Mode, MacvtapMode | None]]] = {
    "none": (Mode.ISOLATED, None),
    "nat": (Mode.NAT, None),
    "route": (Mode.ROUTE, None),
    "open": (Mode.OPEN, None),
    "bridge": (Mode.BRIDGE, None),
    "private": (Mode.MACVTAP, MacvtapMode.PRIVATE),
    "vepa": (Mode.MACVTAP, MacvtapMode.VEPA),
    "passthrough": (Mode.MACVTAP, MacvtapMode.PASSTHROUGH),
    "hostdev": (Mode.HOSTDEV, None),
}
_NAMES: Final = {
    "addresses": "ip",
    "routes": "route",
    "portgroups": "portgroup",
    "devices": "forward",
    "mode": "forward",
    "isolated_ports": "port",
    "dnsmasq_options": "options",
    "trust_guest_rx_filters": "trustGuestRxFilters",
    "guest_ipv6": "ipv6",
}


def network_from_xml(text: str, *, lenient: bool = False) -> Parsed[Network]:
    """Read a <network>. ``lenient``: what is unknown is dropped with a warning, else it is refused.

    Raises ``Invalid`` with one sentence that names line, element, value and rule.
    """
    root = open_document(text, "network", lenient=lenient)
    fields = _network(root)
    root.finish()
    network = build(Network, fields)
    found = [f"{place_of(one, fields)}: {one.rule}" for one in warnings(network)]
    return Parsed(network, (*root.reading.warnings, *found))


def _network(root: Element) -> Fields:
    root.ignore("connections")
    forward, bridge = root.child("forward"), root.child("bridge")
    mode, macvtap_mode = _mode(forward, bridge)
    fields: dict[str, Any] = {
        "name": root.child_text("name"),
        "uuid": (root.child_text("uuid") or "").strip(SPACE) or None,
        "title": root.child_text("title"),
        "description": root.child_text("description"),
        "mode": mode,
        "macvtap_mode": macvtap_mode,
        "guest_ipv6": root.boolean("ipv6"),
        "trust_guest_rx_filters": root.boolean("trustGuestRxFilters"),
        "bridge": _bridge(bridge or root, mode) if bridge or mode.has_bridge else None,
        "mtu": _child_integer(root, "mtu", "size"),
        "mac": _child_attribute(root, "mac", "address"),
        "isolated_ports": _child_boolean(root, "port", "isolated"),
        "addresses": [read_ip(one) for one in root.each("ip")],
        "routes": [read_route(one) for one in root.each("route")],
        "portgroups": [read_portgroup(one) for one in root.each("portgroup")],
        "dnsmasq_options": _dnsmasq_options(root),
    }
    if forward:
        fields |= {"nat": read_nat(forward, mode), "devices": read_devices(forward, mode)}
    fields |= {name: read(child) for name, read in _CHILDREN.items() if (child := root.child(name))}
    read_native(root.child("metadata"), fields)
    return Fields(root, fields, _NAMES)


_CHILDREN: Final = {
    "metadata": read_metadata,
    "domain": read_domain,
    "dns": read_dns,
    "vlan": read_vlan,
    "bandwidth": read_bandwidth,
    "virtualport": read_virtualport,
}


def _mode(forward: Element | None, bridge: Element | None) -> tuple[Mode, MacvtapMode | None]:
    """libvirt's mode ``bridge`` is two things: guests on a host's bridge, or macvtap over devices."""
    word = (forward.word("mode", *_MODES) or "nat") if forward else "none"
    if word != "bridge" or forward is None:
        return _MODES[word]
    name = bridge.attribute("name") if bridge else None
    pool = bool(forward.attribute("dev") or forward.each("interface", "pf"))
    if name and pool:
        raise forward.invalid(f"a network of mode bridge has either a bridge name, here {name!r}, or forward devices")
    return (Mode.BRIDGE, None) if name else (Mode.MACVTAP, MacvtapMode.BRIDGE)


def _bridge(bridge: Element, mode: Mode) -> Fields:
    """The bridge; with ``mode`` one of those that have none of their own, STP may not even be mentioned."""
    if bridge.node.tag != "bridge":  # there is no such element: libvirt switches STP on
        return Fields(bridge, {"stp": True})
    stp = bridge.attribute("stp")
    if stp is not None and not mode.has_bridge:
        raise bridge.invalid(f"stp cannot be set in a network of mode {mode}", "stp")
    if stp not in {None, "on", "off"}:
        bridge.warn("read as 'on', as libvirt does", "stp")
    table = bridge.word("macTableManager", "kernel", "libvirt")
    fields = {
        "name": bridge.attribute("name"),
        "zone": bridge.attribute("zone"),
        "stp": mode.has_bridge and stp != "off",
        "delay": bridge.integer("delay"),
        "mac_table": "vnetd" if table == "libvirt" else table,
    }
    return Fields(bridge, fields, {"mac_table": "macTableManager"})


def _child_attribute(root: Element, child: str, name: str) -> str | None:
    element = root.child(child)
    return element.required(name) if element else None


def _child_boolean(root: Element, child: str, name: str) -> bool | None:
    element = root.child(child)
    return element.boolean(name) if element else None


def _child_integer(root: Element, child: str, name: str) -> int | None:
    """A number of a child element; 0 is the same as none."""
    element = root.child(child)
    return (element.integer(name) or None) if element else None


def _dnsmasq_options(root: Element) -> list[str]:
    options = root.child("options", DNSMASQ)
    return [one.required("value") for one in options.each("option", namespace=DNSMASQ)] if options else []
