"""A port as a document: what it has, be it its own, its port group's or its network's, and what it is plugged into.

The order is libvirt's: VLANs and trust are the port group's before the network's, isolation the port's before the
network's, bandwidth the port's before the port group's and never the network's.
"""

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.network import MacvtapMode, Mode, Network, PortGroup
from vnetd.model.network_ports import VirtualPort
from vnetd.model.networkport import BridgePlug, DirectPlug, NetworkPlug, NetworkPort, Plug
from vnetd.model.port import UNLIMITED, PortRecord
from vnetd.service.documents import refuse_format
from vnetd.xmlcodec.documents import port_to_json, port_to_xml


def describe_port(record: PortRecord, network: Network, format: str) -> str:
    """The document as ``xml`` or ``json``. Raises ``Invalid`` for another format, ``Unsupported`` for what libvirt's
    XML has no word for.
    """
    refuse_format(format, "xml", "json")
    port = port_document(record, network)
    return port_to_xml(port) if format == "xml" else port_to_json(port)


def port_document(record: PortRecord, network: Network) -> NetworkPort:
    """The port of this record on the network as it runs."""
    group = next((one for one in network.portgroups if one.name == record.portgroup), None)
    return NetworkPort(
        uuid=record.uuid,
        group=record.portgroup,
        mac=record.mac,
        virtualport=_virtualport(network, group),
        bandwidth=record.limits if record.limits != UNLIMITED else None,
        class_id=record.floor_class,
        vlan=(group and group.vlan) or network.vlan,
        isolated=network.isolated_ports if record.isolated is None else record.isolated,
        trust_guest_rx_filters=_trust(network, group),
        plug=record.plug or _inside(record, network) or _bridge_plug(network),
    )


def _trust(network: Network, group: PortGroup | None) -> bool | None:
    if group and group.trust_guest_rx_filters is not None:
        return group.trust_guest_rx_filters
    return network.trust_guest_rx_filters


def _virtualport(network: Network, group: PortGroup | None) -> VirtualPort | None:
    """Network's and port group's together. Raises ``Invalid`` where they contradict each other."""
    parts = [one for one in (network.virtualport, group.virtualport if group else None) if one]
    merged: dict[str, object] = {}
    for part in parts:
        for name, value in part.model_dump(exclude_none=True).items():
            if merged.setdefault(name, value) != value:
                raise Invalid(f"virtual port {name} is {merged[name]} in the network and {value} in its port group")
    return VirtualPort.model_validate(merged) if merged else None


def _inside(record: PortRecord, network: Network) -> Plug | None:
    """What a device on a card of the host's, wholly in its guest, is plugged into; ``None`` for other ports."""
    if not record.lower:
        return None
    return DirectPlug(type="direct", dev=record.lower, mode=network.macvtap_mode or MacvtapMode.BRIDGE)


def _bridge_plug(network: Network) -> Plug:
    bridge = network.bridge
    if bridge.name is None:
        raise Unsupported(f"network {network.name} has no bridge its ports could be plugged into")
    if network.mode is Mode.BRIDGE:
        return BridgePlug(type="bridge", bridge=bridge.name, mac_table=bridge.mac_table)
    return NetworkPlug(type="network", bridge=bridge.name, mac_table=bridge.mac_table)
