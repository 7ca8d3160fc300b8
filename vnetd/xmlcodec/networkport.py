"""libvirt's <networkport> document, both ways. Source: libvirt's network port format page and its parser."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from vnetd.model.errors import Unsupported
from vnetd.model.network_modes import MacvtapMode
from vnetd.model.networkport import BridgePlug, DirectPlug, HostdevPlug, NetworkPlug, NetworkPort, Plug, UserPlug
from vnetd.xmlcodec.network_forward import read_pci
from vnetd.xmlcodec.network_ports import read_bandwidth, read_virtualport, read_vlan
from vnetd.xmlcodec.network_ports_writer import pci_attributes, write_bandwidth, write_virtualport, write_vlan
from vnetd.xmlcodec.parsed import Parsed
from vnetd.xmlcodec.reader import Element, Fields, build, open_document
from vnetd.xmlcodec.xml import SPACE, Writer

_NAMES: Final = {"isolated": "port", "trust_guest_rx_filters": "rxfilters", "class_id": "bandwidth"}


def port_from_xml(text: str, *, lenient: bool = False) -> Parsed[NetworkPort]:
    """Read a <networkport>. Raises ``Invalid`` naming line, element, value and rule."""
    root = open_document(text, "networkport", lenient=lenient)
    fields = _port(root)
    root.finish()
    return Parsed(build(NetworkPort, fields), tuple(root.reading.warnings))


def _port(root: Element) -> Fields:
    owner, bandwidth, isolation, filters = (root.child(name) for name in ("owner", "bandwidth", "port", "rxfilters"))
    fields: dict[str, Any] = {
        "uuid": _text(root, "uuid"),
        "owner": Fields(owner, {name: _text(owner, name) for name in ("name", "uuid")}) if owner else None,
        "group": root.child_text("group"),
        "mac": _needed(root, "mac").required("address"),
        "class_id": bandwidth.integer("classID", 1, 0xFFFF) if bandwidth else None,
        "isolated": isolation.boolean("isolated") if isolation else None,
        "trust_guest_rx_filters": filters.boolean("trustGuest") if filters else None,
        "plug": _plug(root.child("plug")),
    }
    fields |= {name: read(child) for name, read in _CHILDREN.items() if (child := root.child(name))}
    return Fields(root, fields, _NAMES)


_CHILDREN: Final = {"virtualport": read_virtualport, "bandwidth": read_bandwidth, "vlan": read_vlan}


def _plug(plug: Element | None) -> Mapping[str, Any]:
    if plug is None:
        return {"type": "none"}
    kind = plug.word("type", "none", *_PLUGS)
    if kind is None:
        raise plug.invalid("attribute type is needed")
    fields = _PLUGS[kind](plug) if kind in _PLUGS else {}
    return Fields(plug, {"type": kind, **fields}, {"mac_table": "macTableManager", "driver_model": "driver"})


def _bridge_plug(plug: Element) -> dict[str, Any]:
    table = plug.word("macTableManager", "kernel", "libvirt")
    return {"bridge": plug.required("bridge"), "mac_table": "vnetd" if table == "libvirt" else table}


def _direct_plug(plug: Element) -> dict[str, Any]:
    return {"dev": plug.required("dev"), "mode": plug.word("mode", *MacvtapMode)}


def _hostdev_plug(plug: Element) -> dict[str, Any]:
    driver = plug.child("driver")
    return {
        "managed": plug.boolean("managed"),
        "driver": driver.required("name") if driver else None,
        "driver_model": driver.attribute("model") if driver else None,
        "address": read_pci(_needed(plug, "address")),
    }


_PLUGS: Final[Mapping[str, Callable[[Element], dict[str, Any]]]] = {
    "network": _bridge_plug,
    "bridge": _bridge_plug,
    "direct": _direct_plug,
    "hostdev-pci": _hostdev_plug,
}


def _needed(parent: Element, name: str) -> Element:
    child = parent.child(name)
    if child is None:
        raise parent.invalid(f"element <{name}> is needed")
    return child


def _text(parent: Element, name: str) -> str:
    """Text of a child that must be there, without the space around it."""
    text = (_needed(parent, name).text() or "").strip(SPACE)
    if not text:
        raise parent.invalid(f"element <{name}> is empty")
    return text


def port_to_xml(port: NetworkPort) -> str:
    """The document, canonical: reading and writing it again changes nothing.

    Raises ``Unsupported`` for a port of user mode, for which libvirt's format has no word.
    """
    if isinstance(port.plug, UserPlug):
        raise Unsupported(f"port {port.uuid}: user mode cannot be said in libvirt's XML: use native JSON")
    writer = Writer()
    with writer.element("networkport"):
        writer.text("uuid", str(port.uuid))
        if port.owner:
            with writer.element("owner"):
                writer.text("name", port.owner.name)
                writer.text("uuid", str(port.owner.uuid))
        writer.text("group", port.group)
        writer.empty("mac", {"address": port.mac})
        write_virtualport(writer, port.virtualport)
        write_bandwidth(writer, port.bandwidth, port.class_id)
        write_vlan(writer, port.vlan)
        if port.isolated is not None:
            writer.empty("port", {"isolated": port.isolated})
        if port.trust_guest_rx_filters is not None:
            writer.empty("rxfilters", {"trustGuest": port.trust_guest_rx_filters})
        _write_plug(writer, port.plug)
    return str(writer)


def _write_plug(writer: Writer, plug: Plug) -> None:
    match plug:
        case NetworkPlug() | BridgePlug():
            table = "libvirt" if plug.mac_table == "vnetd" else plug.mac_table
            writer.empty("plug", {"type": plug.type, "bridge": plug.bridge, "macTableManager": table})
        case DirectPlug():
            writer.empty("plug", {"type": plug.type, "dev": plug.dev, "mode": plug.mode})
        case HostdevPlug():
            with writer.element("plug", {"type": plug.type, "managed": plug.managed}):
                if plug.driver:
                    writer.empty("driver", {"name": plug.driver, "model": plug.driver_model})
                address = {name: value for name, value in pci_attributes(plug.address).items() if name != "type"}
                writer.empty("address", address)
