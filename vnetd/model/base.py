"""What all model values share: frozen, no unknown fields, and the field types used throughout."""

import re
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What XML 1.0 cannot say even by reference: a definition must be printable as XML.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Value(BaseModel):
    """A frozen value without unknown fields; compare with ``==``, change with ``model_copy(update=…)``."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=65536)


def _no_control(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError(f"{_shown(text)} contains a control character: none is allowed here")
    return _lines(text)


def _lines(text: str) -> str:
    if found := _NO_TEXT.search(text):
        raise ValueError(f"{_shown(text)} contains {found.group()!r}, which is no character of a text")
    return text


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _object_name(text: str) -> str:
    _no_control(text)
    if "/" in text or text.startswith("."):
        raise ValueError(f"{_shown(text)} is no usable name: it may not contain '/' nor begin with '.'")
    if len(text.encode()) > 200:
        raise ValueError(f"{text[:40]!r}… is too long: a name has at most 200 bytes")
    return text


def _interface_name(text: str) -> str:
    if not 1 <= len(text.encode()) <= 15:
        raise ValueError(f"{_shown(text)} is no interface name: the kernel takes 1 to 15 bytes")
    # "all" and "default" are directories of their own among the sysctls: the kernel refuses such devices.
    if text in {".", "..", "all", "default"} or not re.fullmatch(r"[A-Za-z0-9_.\-]+", text):
        raise ValueError(
            f"{text!r} is no interface name: letters, digits, '_', '-' and '.' are allowed, but not 'all' and 'default'"
        )
    return text


def _interface_template(value: str) -> str:
    _interface_name(value.replace("%d", "0", 1))
    return value


@lru_cache(maxsize=4096)
def _mac(text: str) -> str:
    groups = text.split(":")
    if len(groups) != 6 or not all(re.fullmatch(r"[0-9A-Fa-f]{1,2}", group) for group in groups):
        raise ValueError(f"{_shown(text)} is no MAC address: six hexadecimal groups separated by ':' are needed")
    return ":".join(f"{int(group, 16):02x}" for group in groups)


def _unicast(mac: str) -> str:
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{mac!r} is a multicast MAC address: a unicast one is needed")
    return mac


def _no_zone(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{_shown(str(address))} has a zone: an address with a zone cannot be used here")


def _zoned_address(value: object) -> object:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str):
        raise ValueError("an IP address is needed, as text")
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError(f"{_shown(value)} is no IP address") from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        _interface_name(address.scope_id)
    return address


def _address(value: object) -> object:
    address = _zoned_address(value)
    assert isinstance(address, IPv4Address | IPv6Address)
    _no_zone(address)
    return address


def _ipv4(value: object) -> object:
    address = _address(value)
    if not isinstance(address, IPv4Address):
        raise ValueError(f"'{address}' is no IPv4 address")
    return address


def _interface(value: object) -> object:
    """An address with its prefix length, which must be said: pydantic would take a bare address for a /32."""
    if isinstance(value, str):
        try:
            value = ip_interface(value) if "/" in value else None
        except ValueError:
            raise ValueError(f"{_shown(str(value))} is no IP address with prefix length") from None
    if not isinstance(value, IPv4Interface | IPv6Interface):
        raise ValueError("an IP address with prefix length is needed, such as '192.168.77.1/24'")
    _no_zone(value)
    if value.network.prefixlen == 0 or value.ip.is_multicast or value.ip.is_unspecified:
        raise ValueError(f"'{value}' cannot be an interface's address: a unicast address in a subnet is needed")
    return value


def _network(value: object) -> object:
    if isinstance(value, str):
        try:
            value = ip_network(value) if "/" in value else None
        except ValueError as error:
            reason = "it has bits set outside its prefix" if "host bits" in str(error) else "it is not written so"
            raise ValueError(f"{_shown(str(value))} is no IP network: {reason}") from None
    if not isinstance(value, IPv4Network | IPv6Network):
        raise ValueError("an IP network with prefix length is needed, such as '192.168.77.0/24'")
    return value


def _uuid(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}", value):
        raise ValueError(f"{_shown(value)} is no UUID: 32 hexadecimal digits are needed, with or without '-'")
    return value


_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json")


def _text_of(*formats: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "string", "format": one} for one in formats]})


# Plain validators, for pydantic's own would refuse in strict JSON what a validator before it has parsed already.
IPAddress = Annotated[IPv4Address | IPv6Address, PlainValidator(_address), _AS_TEXT, _text_of("ipv4", "ipv6")]
"""An address without zone."""
ZonedAddress = Annotated[IPv4Address | IPv6Address, PlainValidator(_zoned_address), _AS_TEXT, _text_of("ipv4", "ipv6")]
"""An address; a link-local one may name its interface (``fe80::1%eth0``)."""
IPv4 = Annotated[IPv4Address, PlainValidator(_ipv4), _AS_TEXT, _text_of("ipv4")]
"""An IPv4 address."""
IPInterface = Annotated[
    IPv4Interface | IPv6Interface, PlainValidator(_interface), _AS_TEXT, _text_of("ipv4interface", "ipv6interface")
]
"""A host's address with the prefix length of its subnet."""
IPNetwork = Annotated[
    IPv4Network | IPv6Network, PlainValidator(_network), _AS_TEXT, _text_of("ipv4network", "ipv6network")
]
"""A network: no bits set outside the prefix."""
Uuid = Annotated[UUID, BeforeValidator(_uuid)]
Text = Annotated[str, AfterValidator(_no_control)]
"""One line of text without control characters."""
Word = Annotated[str, Field(min_length=1), AfterValidator(_no_control)]
"""One line of text that is not empty."""
Lines = Annotated[str, AfterValidator(_lines)]
"""Any text that XML can hold, line ends and tabs included."""
ObjectName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_object_name)]
"""Name of a network, switch or filter: usable as a file name."""
IfTemplate = Annotated[str, AfterValidator(_interface_template)]
"""An interface name; one ``%d`` in it stands for a number."""
IfName = Annotated[str, AfterValidator(_interface_name)]
"""Name of a network interface as the kernel takes it."""
Mac = Annotated[str, AfterValidator(_mac)]
"""MAC address, canonical: lower case, two digits a group."""
UnicastMac = Annotated[str, AfterValidator(_mac), AfterValidator(_unicast)]
Mtu = Annotated[int, Field(ge=68, le=65535)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
