"""Changes of one section of a network, as ``virsh net-update`` makes them: pure, from one network to the next.

Unlike libvirt, everything defining a network checks is checked again afterwards, so that an update never makes a
network that could not have been defined.
"""

from collections.abc import Callable
from typing import Final

from pydantic import ValidationError

from vnetd.model.breach import first_breach
from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.network import Devices, Network, PortGroup
from vnetd.xmlcodec.network_ports import read_portgroup
from vnetd.xmlcodec.reader import build, open_document
from vnetd.xmlcodec.update_dhcp import change_hosts, change_ranges
from vnetd.xmlcodec.update_dns import change_dns_hosts, change_services, change_texts
from vnetd.xmlcodec.update_items import Change, removed, replaced

_COMMANDS: Final = {name: name for name in ("modify", "delete", "add-last", "add-first")} | {"add": "add-last"}
_NEVER: Final = ("bridge", "domain", "ip", "forward", "forward-pf")
"""Sections libvirt knows and has never been able to change."""
_WITHOUT_MODIFY: Final = ("ip-dhcp-range", "forward-interface", "dns-srv")


def apply_update(network: Network, command: str, section: str, snippet: str, *, parent_index: int = -1) -> Network:
    """``network`` with one section changed by the XML element ``snippet``.

    Commands: modify, delete, add-last (or add), add-first. ``parent_index`` says which <ip> a DHCP entry is for,
    counted over all from 0; negative: the first with DHCP, else the first of IPv4, else the first. Raises
    ``Unsupported`` for a section or command that cannot be, ``Exists``, ``NotFound`` and ``Invalid``.
    """
    if command not in _COMMANDS:
        raise Unsupported(f"update command {command!r} is unknown: {', '.join(_COMMANDS)} are possible")
    if section not in _SECTIONS:
        why = "cannot be updated" if section in _NEVER else "is unknown"
        raise Unsupported(f"section {section!r} {why}: {', '.join(_SECTIONS)} can be")
    if command == "modify" and section in _WITHOUT_MODIFY:
        raise Unsupported(f"an entry of section {section!r} cannot be modified: delete it and add another")
    tag, change_section = _SECTIONS[section]
    change = Change(_COMMANDS[command], open_document(snippet, tag))
    try:
        updates = change_section(network, change, parent_index)
        change.element.finish()
        parts = {name: getattr(network, name) for name in Network.model_fields}
        return Network.model_validate(parts | updates)
    except ValidationError as error:
        raise Invalid(f"{change.element.place()}: {first_breach(error).rule}") from None


def _change_interfaces(network: Network, change: Change, parent_index: int) -> dict[str, object]:
    """Add or remove a device of the pool, told by its name."""
    change.element.ignore("connections")
    name, names = change.element.required("dev"), network.devices.interfaces
    if change.adds:
        if name in names:
            change.exists(f"interface {name}")
        names = change.insert(names, name)
    else:
        names = removed(names, change.one([at for at, one in enumerate(names) if one == name], "interface"))
    parts = {field: getattr(network.devices, field) for field in Devices.model_fields}
    return {"devices": Devices.model_validate(parts | {"interfaces": names})}


def _change_portgroups(network: Network, change: Change, parent_index: int) -> dict[str, object]:
    """Add, replace or remove a port group, told by its name."""
    group, groups = build(PortGroup, read_portgroup(change.element)), network.portgroups
    same = [at for at, other in enumerate(groups) if other.name == group.name]
    if change.command == "delete":
        return {"portgroups": removed(groups, change.one(same, "port group"))}
    if change.adds and same:
        change.exists(f"port group {group.name}")
    at = None if change.adds else change.one(same, "port group")
    for index, other in enumerate(groups):
        if group.default and other.default and index != at:
            change.exists(f"a default port group, {other.name},")
    return {"portgroups": change.insert(groups, group) if at is None else replaced(groups, at, group)}


_SECTIONS: Final[dict[str, tuple[str, Callable[[Network, Change, int], dict[str, object]]]]] = {
    "ip-dhcp-host": ("host", change_hosts),
    "ip-dhcp-range": ("range", change_ranges),
    "forward-interface": ("interface", _change_interfaces),
    "portgroup": ("portgroup", _change_portgroups),
    "dns-host": ("host", change_dns_hosts),
    "dns-txt": ("txt", change_texts),
    "dns-srv": ("srv", change_services),
}
