"""What native JSON can say of a network and libvirt's XML cannot: carried in <metadata>, as JSON, so nothing is lost.

Whoever edits the XML of a network with port forwards gets them back when defining the result.
"""

import json
from typing import Any, Final

from vnetd.model.base import Value
from vnetd.model.errors import Invalid
from vnetd.model.network import Access, DhcpOption, Network, PortForward
from vnetd.xmlcodec.native import from_json
from vnetd.xmlcodec.reader import Element, Fields
from vnetd.xmlcodec.xml import Node

NATIVE: Final = "urn:org.vnetd1:network"
"""Namespace of the element in <metadata>."""


class NativePart(Value):
    """The fields XML has no words for; DHCP options stand in the order of the addresses they belong to."""

    host_access: bool | None = None
    multicast_snooping: bool = False
    forwards: tuple[PortForward, ...] = ()
    access: Access | None = None
    dhcp_options: tuple[tuple[DhcpOption, ...], ...] = ()


def native_element(network: Network) -> Node | None:
    """The element to be put into <metadata>, ``None`` if XML says it all."""
    options = [address.dhcp.options if address.dhcp else () for address in network.addresses]
    part = NativePart(
        host_access=network.host_access,
        multicast_snooping=network.bridge.multicast_snooping,
        forwards=network.forwards,
        access=network.access,
        dhcp_options=tuple(options) if any(options) else (),
    )
    fields = part.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if not fields:
        return None
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return Node("vnetd:native", {}, 0, {"vnetd": NATIVE}, content=[text])


def read_native(metadata: Element | None, fields: dict[str, Any]) -> None:
    """Put what the element in <metadata> says into the fields of the network. Raises ``Invalid`` naming it."""
    for node in metadata.each("native", namespace=NATIVE) if metadata else []:
        try:
            part, dropped = from_json(NativePart, node.text(), lenient=node.reading.lenient)
        except Invalid as error:
            raise node.invalid(str(error)) from None
        node.reading.warnings.extend(f"{node.place()}: {one}" for one in dropped)
        fields |= {"host_access": part.host_access, "forwards": part.forwards, "access": part.access}
        if part.multicast_snooping:  # of a bridge, even where none is mentioned: the model refuses it by its mode
            fields["bridge"] = fields["bridge"] or Fields(node, {})
            fields["bridge"]["multicast_snooping"] = True
        addresses: list[Fields] = fields["addresses"]
        if len(part.dhcp_options) > len(addresses):
            raise node.invalid(f"dhcp_options: there are {len(addresses)} addresses only")
        for address, options in zip(addresses, part.dhcp_options, strict=False):
            if options and "dhcp" in address:
                address["dhcp"]["options"] = options
