"""A port of the host led to the guest of one user mode port, as text: ``tcp:8022:22``, ``udp:127.0.0.1:5353:53``."""

import re
from typing import Literal

from vnetd.model.base import IPAddress, PortNumber, Value

_ADDRESS = r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]:|(?P<four>[0-9.]+\.[0-9.]+):)?"
_FORM = re.compile(_ADDRESS + r"(?P<listen>[0-9]{1,5})(?::(?P<port>[0-9]{1,5}))?")


class UserForward(Value):
    """``listen`` on the host, at ``address`` or all of them, leads to ``port`` of the guest."""

    protocol: Literal["tcp", "udp"]
    listen: PortNumber
    port: PortNumber
    address: IPAddress | None = None


def parse_forward(text: object) -> object:
    """The fields of a forward written as text; anything else is left for the model to refuse. Raises ``ValueError``."""
    if not isinstance(text, str):
        return text
    protocol, _, rest = text.partition(":")
    found = _FORM.fullmatch(rest)
    if found is None or protocol not in {"tcp", "udp"}:
        raise ValueError(
            f"{text[:40]!r} is no forward: PROTOCOL:[ADDRESS:]PORT[:PORT OF THE GUEST] is needed, as tcp:8022:22"
        )
    listen = int(found["listen"])
    address = found["six"] or found["four"]
    return {"protocol": protocol, "listen": listen, "port": int(found["port"] or listen), "address": address}
