"""Names and addresses vnetd makes up: bridges, ports, MAC addresses."""

import secrets
from collections.abc import Callable, Iterable

from vnetd.model.errors import Invalid

BRIDGE_TEMPLATE = "virbr%d"
MAX_NAME = 15


def free_name(template: str, names: Iterable[str], on_host: Callable[[str], bool]) -> str:
    """The first of ``names``, those of ``template`` that nobody has here, that nobody has on the host.

    Raises ``Invalid`` if such a name is longer than an interface name may be (15 bytes).
    """
    for name in names:
        if len(name.encode()) > MAX_NAME:
            raise Invalid(f"name {template!r} leaves no free interface name of at most {MAX_NAME} bytes")
        if not on_host(name):
            return name
    raise AssertionError("numbers do not end")


def random_mac() -> str:
    """A MAC address with the prefix virtual machines use, 52:54:00."""
    return "52:54:00:" + ":".join(f"{octet:02x}" for octet in secrets.token_bytes(3))


def host_side_mac(mac: str) -> str:
    """A port's MAC on the host side: high enough that the bridge never takes it for its own."""
    return "fe" + mac[2:]
