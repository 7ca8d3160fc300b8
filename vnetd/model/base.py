"""What all model values share: frozen, no unknown fields, and the field types used throughout."""

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Value(BaseModel):
    """A frozen value without unknown fields; compare with ``==``, change with ``model_copy(update=…)``."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=65536)


def _no_control(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError(f"{text!r} contains a control character: none is allowed here")
    return text


def _object_name(text: str) -> str:
    _no_control(text)
    if "/" in text or text in {".", ".."} or text.startswith("."):
        raise ValueError(f"{text!r} is no usable name: it may not contain '/' nor begin with '.'")
    if len(text.encode()) > 200:
        raise ValueError(f"{text[:40]!r}… is too long: a name has at most 200 bytes")
    return text


def _interface_name(text: str) -> str:
    if not 1 <= len(text.encode()) <= 15:
        raise ValueError(f"{text!r} is no interface name: the kernel takes 1 to 15 bytes")
    if text in {".", ".."} or not re.fullmatch(r"[A-Za-z0-9_.\-]+", text):
        raise ValueError(f"{text!r} is no interface name: letters, digits, '_', '-' and '.' are allowed")
    return text


def _mac(text: str) -> str:
    groups = text.split(":")
    if len(groups) != 6 or not all(re.fullmatch(r"[0-9A-Fa-f]{1,2}", group) for group in groups):
        raise ValueError(f"{text!r} is no MAC address: six hexadecimal groups separated by ':' are needed")
    return ":".join(f"{int(group, 16):02x}" for group in groups)


def _unicast(mac: str) -> str:
    if int(mac[:2], 16) & 1:
        raise ValueError(f"{mac!r} is a multicast MAC address: a unicast one is needed")
    return mac


Text = Annotated[str, AfterValidator(_no_control)]
"""One line of text without control characters."""
ObjectName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_object_name)]
"""Name of a network, switch or filter: usable as a file name."""
IfName = Annotated[str, AfterValidator(_interface_name)]
"""Name of a network interface as the kernel takes it."""
Mac = Annotated[str, AfterValidator(_mac)]
"""MAC address, canonical: lower case, two digits a group."""
UnicastMac = Annotated[str, AfterValidator(_mac), AfterValidator(_unicast)]
Mtu = Annotated[int, Field(ge=68, le=65535)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
