"""IP addresses as libvirt reads and writes them: old forms of IPv4 text, netmask or prefix, family given or not."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from vnetd.model.base import IPAddress, IPInterface, IPNetwork
from vnetd.model.network import default_prefix
from vnetd.model.network_addressing import Mask
from vnetd.xmlcodec.reader import Element


def address(element: Element, name: str) -> str | None:
    """An address in canonical text. What is no address is returned as it stands, for the model to refuse.

    libvirt reads ``10.1`` as 10.0.0.1 and ``010.0.0.1`` as 8.0.0.1, by the rules of inet_aton(3); so does this, with
    a warning, for nobody who writes zeros in front means octal.
    """
    text = element.attribute(name)
    if text is None:
        return None
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    if not text.isascii() or (not text.isalnum() and not text.replace(".", "").isalnum()):
        return text
    try:
        found = str(IPv4Address(socket.inet_aton(text)))
    except OSError:
        return text
    element.warn(f"read as {found}, as libvirt does", name)
    return found


def required_address(element: Element, name: str) -> str:
    """The address in canonical text. Raises ``Invalid`` if the attribute is missing."""
    element.required(name)
    return address(element, name) or ""


@dataclass(frozen=True, slots=True)
class Subnet:
    """An address with the length of its prefix; ``None`` if it was not written. How it was written, if not as usual."""

    address: IPAddress
    prefix: int | None
    family_given: bool
    mask: Mask | None


def read_subnet(element: Element) -> Subnet:
    """The attributes address, family, netmask and prefix of <ip> and <route>."""
    text = required_address(element, "address")
    try:
        found = ip_address(text)
    except ValueError:
        raise element.invalid("an IP address is needed", "address") from None
    family = element.word("family", "ipv4", "ipv6")
    if found.version != (6 if family == "ipv6" else 4):
        rule = f"the address is of the other family than {family}" if family else "family='ipv6' is needed with IPv6"
        raise element.invalid(rule, "address")
    mask, prefix = _prefix(element, found)
    return Subnet(found, prefix, family == "ipv4", mask)


def _prefix(element: Element, address: IPv4Address | IPv6Address) -> tuple[Mask | None, int | None]:
    netmask, prefix = element.attribute("netmask"), element.integer("prefix", 0, address.max_prefixlen)
    if netmask is not None and prefix is not None:
        raise element.invalid("netmask and prefix exclude one another")
    if netmask is not None:
        return None, _netmask_length(element, address)
    if prefix is not None:
        return ("prefix" if address.version == 4 else None), prefix
    return "none", None


def _netmask_length(element: Element, owner: IPv4Address | IPv6Address) -> int:
    if owner.version == 6:
        raise element.invalid("a netmask goes with IPv4 only: IPv6 needs a prefix", "netmask")
    text = address(element, "netmask") or ""
    try:
        bits = f"{int(IPv4Address(text)):032b}"
    except ValueError:
        bits = "01"
    if "01" in bits:
        raise element.invalid("a netmask is needed: bits set without a gap, such as 255.255.255.0", "netmask")
    return bits.count("1")


def interface_text(element: Element, subnet: Subnet) -> tuple[str, Mask | None]:
    """Address and prefix length of an <ip>. A prefix of 0 counts as not written, which means that of the class."""
    length, mask = subnet.prefix, subnet.mask
    if not length and element.attribute("netmask") is None:
        length, mask = default_prefix(subnet.address), "none"
    if length is None:
        raise element.invalid(f"{subnet.address} has no usual prefix length: netmask or prefix is needed", "address")
    return f"{subnet.address}/{length}", mask


def interface_attributes(interface: IPInterface, family: bool, mask: Mask | None) -> Mapping[str, object]:
    """The attributes of an <ip>."""
    return {
        "family": _family(interface.version, family),
        "address": interface.ip,
        **_mask(interface.network, mask),
    }


def network_attributes(network: IPNetwork, family: bool, mask: Mask | None) -> Mapping[str, object]:
    """The attributes of a <route> that say where it leads."""
    return {
        "family": _family(network.version, family),
        "address": network.network_address,
        **_mask(network, mask),
    }


def _family(version: int, given: bool) -> str | None:
    return "ipv6" if version == 6 else "ipv4" if given else None


def _mask(network: IPNetwork, mask: Mask | None) -> Mapping[str, object]:
    if mask == "none":
        return {}
    if network.version == 6 or mask == "prefix":
        return {"prefix": network.prefixlen}
    return {"netmask": network.netmask}
