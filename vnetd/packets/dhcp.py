"""DHCP for IPv4: the few fields of a message that say who has which address for how long (RFC 2131, RFC 2132)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

ACK, DECLINE, RELEASE = 5, 4, 7
BOOT_REPLY = 2
OPTIONS = 236
COOKIE = 0x63825363
PAD, REQUESTED, LEASE_TIME, KIND, END = 0, 50, 51, 53, 255
FOR_EVER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Message:
    """``given`` is the server's "your address", ``own`` the client's, ``seconds`` the lease (``None``: infinite)."""

    is_reply: bool
    kind: int
    client: str
    given: IPv4Address
    own: IPv4Address
    requested: IPv4Address | None
    seconds: int | None


def parse(data: bytes) -> Message:
    """Read a message. Raises ``ValueError``, ``IndexError`` or ``struct.error`` for what is none.

    A lease without a time is taken for none: BOOTP's are infinite, but BOOTP has no message type either.
    """
    operation, hardware, length = struct.unpack_from("!BBB", data)
    if (hardware, length) != (1, 6) or struct.unpack_from("!I", data, OPTIONS)[0] != COOKIE:
        raise ValueError("no DHCP message for Ethernet")
    options = _options(data, OPTIONS + 4)
    seconds = struct.unpack("!I", options[LEASE_TIME])[0] if LEASE_TIME in options else 0
    return Message(
        is_reply=operation == BOOT_REPLY,
        kind=options[KIND][0] if options.get(KIND) else 0,
        client=data[28:34].hex(":"),
        given=IPv4Address(data[16:20]),
        own=IPv4Address(data[12:16]),
        requested=IPv4Address(options[REQUESTED]) if len(options.get(REQUESTED, b"")) == 4 else None,
        seconds=None if seconds == FOR_EVER else seconds,
    )


def _options(data: bytes, place: int) -> dict[int, bytes]:
    """Options by code; of one given twice the first counts."""
    found: dict[int, bytes] = {}
    while place < len(data) and data[place] != END:
        code = data[place]
        if code == PAD:
            place += 1
            continue
        length = data[place + 1]
        value = data[place + 2 : place + 2 + length]
        if len(value) < length:
            raise ValueError("cut off in an option")
        found.setdefault(code, value)
        place += 2 + length
    return found
