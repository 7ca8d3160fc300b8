"""<vlan>, <bandwidth>, <virtualport> and <portgroup>."""

from typing import Any

from vnetd.xmlcodec.reader import Element, Fields

_NUMBERS = {"managerid": 0xFF, "typeid": 0xFFFFFF, "typeidversion": 0xFF}
_TEXTS = ("instanceid", "profileid", "interfaceid")


def read_vlan(vlan: Element) -> Fields:
    """VLAN tags; ``trunk='no'`` says nothing, and more than yes and no is refused here too."""
    trunk = vlan.attribute("trunk")
    if trunk is not None and trunk.lower() not in {"yes", "no"}:
        raise vlan.invalid("yes or no is needed", "trunk")
    fields = {
        "tags": [_tag(one) for one in vlan.each("tag")],
        "trunk": None if trunk is None else trunk.lower() == "yes",
    }
    return Fields(vlan, fields, {"tags": "tag"})


def _tag(tag: Element) -> Fields:
    fields = {"id": tag.integer("id", 0, 4095), "native": tag.word("nativeMode", "tagged", "untagged")}
    return Fields(tag, fields, {"native": "nativeMode"})


def read_bandwidth(bandwidth: Element) -> Fields | None:
    """Limits of both directions, ``None`` if there are none."""
    directions = {name: bandwidth.child(name) for name in ("inbound", "outbound")}
    fields = {name: _rate(child) for name, child in directions.items() if child}
    return Fields(bandwidth, fields) or None


def _rate(rate: Element) -> Fields | None:
    """Limits of one direction; 0 is no limit."""
    fields: dict[str, Any] = {name: rate.integer(name) for name in ("average", "peak", "burst", "floor")}
    if fields["average"] == 0 and not fields["floor"]:
        rate.warn("an average of 0 limits nothing: dropped", "average")
        return None
    return Fields(rate, {name: value or None for name, value in fields.items()})


def read_virtualport(virtualport: Element) -> Fields:
    """Type and parameters of a virtual port."""
    fields: dict[str, Any] = {"type": virtualport.attribute("type")}
    parameters = virtualport.child("parameters")
    if parameters:
        fields |= {name: parameters.integer(name, 0, limit, hexadecimal=True) for name, limit in _NUMBERS.items()}
        fields |= {name: parameters.attribute(name) for name in _TEXTS}
    names = dict.fromkeys((*_NUMBERS, *_TEXTS), "parameters")
    return Fields(virtualport, fields, names)


def read_portgroup(group: Element) -> Fields:
    """A port group."""
    vlan, bandwidth, virtualport = (group.child(name) for name in ("vlan", "bandwidth", "virtualport"))
    fields = {
        "name": group.required("name"),
        "default": (group.attribute("default") or "").lower() == "yes",
        "trust_guest_rx_filters": group.boolean("trustGuestRxFilters"),
        "vlan": read_vlan(vlan) if vlan else None,
        "bandwidth": read_bandwidth(bandwidth) if bandwidth else None,
        "virtualport": read_virtualport(virtualport) if virtualport else None,
    }
    return Fields(group, fields, {"trust_guest_rx_filters": "trustGuestRxFilters"})
