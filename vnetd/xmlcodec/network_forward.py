"""<forward>: where a network leads, and over which devices."""

from typing import Any

from vnetd.model.network_modes import Mode
from vnetd.xmlcodec.addresses import required_address
from vnetd.xmlcodec.reader import Element, Fields

_PCI_LIMITS = {"domain": 0xFFFFFFFF, "bus": 0xFF, "slot": 0x1F, "function": 7}


def read_devices(forward: Element, mode: Mode) -> Fields:
    """Devices, driver and ``managed``.

    Of several kinds of devices one remains, as with libvirt: interfaces before PCI addresses before functions.
    """
    driver = forward.child("driver")
    fields: dict[str, Any] = {
        "interfaces": _interfaces(forward),
        "pci": [_pci(one) for one in forward.each("address")],
        "pf": _function(forward),
        "managed": _managed(forward, mode),
        "driver": driver.required("name") if driver else None,
        "driver_model": driver.attribute("model") if driver else None,
    }
    if mode is Mode.ISOLATED:
        for name in ("interfaces", "pci", "pf"):
            _drop(forward, fields, name, "an isolated network forwards nowhere")
    for winner, losers in (("interfaces", ("pci", "pf")), ("pci", ("pf",))):
        if fields[winner]:
            for name in losers:
                _drop(forward, fields, name, "other devices are given, which come first")
    names = {"interfaces": "interface", "pci": "address", "driver_model": "driver"}
    return Fields(forward, fields, names)


def read_nat(forward: Element, mode: Mode) -> Fields | None:
    """<nat>, ``None`` if it says nothing; even so it goes with mode nat only."""
    nat = _only(forward, "nat")
    if nat is None:
        return None
    if mode is not Mode.NAT:
        raise nat.invalid(f"source translation (nat) goes with mode nat only, this network has mode {mode}")
    address, port = _only(nat, "address"), _only(nat, "port")
    fields: dict[str, Any] = {"ipv6": nat.boolean("ipv6")}
    if address:
        fields["address"] = Fields(address, {name: required_address(address, name) for name in ("start", "end")})
    if port:
        numbers = {name: port.integer(name, 0, 65535) for name in ("start", "end")}
        if any(number is None for number in numbers.values()):
            raise port.invalid("start and end are needed")
        fields["ports"] = Fields(port, numbers) if any(numbers.values()) else None
    return Fields(nat, fields, {"ports": "port"}) or None


def _interfaces(forward: Element) -> list[str]:
    """Names of the interfaces; ``dev`` is a short form of the first."""
    dev, others = forward.attribute("dev"), forward.each("interface")
    for one in others:
        one.ignore("connections")
    names = [one.required("dev") for one in others]
    if dev and names and names[0] != dev:
        raise forward.invalid(f"dev must be the first interface, which is {names[0]!r}", "dev")
    if dev and forward.each("address", "pf"):
        raise forward.invalid("dev goes with neither <address> nor <pf>", "dev")
    return names or ([dev] if dev else [])


def _function(forward: Element) -> str | None:
    function = _only(forward, "pf")
    return function.required("dev") if function else None


def _pci(address: Element) -> Fields:
    address.required("type")
    address.ignore("connections")
    return read_pci(address)


def read_pci(address: Element) -> Fields:
    """A PCI address, with its type or without."""
    if address.attribute("type") not in {None, "pci"}:
        raise address.invalid("a PCI address is needed", "type")
    numbers = {name: address.integer(name, 0, limit, hexadecimal=True) for name, limit in _PCI_LIMITS.items()}
    return Fields(address, numbers)


def _managed(forward: Element, mode: Mode) -> bool | None:
    value = forward.attribute("managed")
    if value is None:
        return None
    if mode is not Mode.HOSTDEV:
        forward.warn("has a meaning for mode hostdev only: dropped", "managed")
        return None
    return value.lower() == "yes"


def _drop(forward: Element, fields: dict[str, Any], name: str, why: str) -> None:
    if fields[name]:
        forward.warn(f"{why}: {name} dropped")
        fields[name] = None


def _only(parent: Element, name: str) -> Element | None:
    """A child that may be there once, also by libvirt's rules."""
    found = parent.each(name)
    if len(found) > 1:
        raise found[1].invalid(f"only one <{name}> is possible in <{parent.node.tag}>")
    return found[0] if found else None
