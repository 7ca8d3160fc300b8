"""Outgoing messages to bytes.

The bus disconnects whoever sends it a string with a NUL or half a surrogate pair, and both can get here inside a
message that quotes a document. ``Encoder`` therefore replaces them, at the last place they pass.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from dbus_next._private.marshaller import Marshaller
from dbus_next.signature import Variant

from vnetd.bus.errors import ProtocolError
from vnetd.bus.frames import ERROR, METHOD_RETURN, SIGNAL, Frame

LARGEST_ARRAY = 64 << 20  # bytes; D-Bus specification, "Marshaling", arrays
_NO_FLAGS, _PROTOCOL = 0, 1


class Encoder(Marshaller):
    """dbus-next's encoder, with strings that are always valid on the wire."""

    def write_string(self, value: str, _: object = None) -> int:
        try:
            raw = value.encode()
        except UnicodeEncodeError:
            raw = value.encode("utf-8", "replace")
        if b"\0" in raw:
            raw = raw.replace(b"\0", "\N{REPLACEMENT CHARACTER}".encode())
        written: int = self.write_uint32(len(raw))  # type: ignore[no-untyped-call]
        self.buffer += raw + b"\0"
        return written + len(raw) + 1


def encode_values(signature: str, values: Sequence[Any]) -> bytes:
    """A message body."""
    return bytes(Encoder(signature, list(values)).marshall())  # type: ignore[no-untyped-call]


def join_array(chunks: Iterable[bytes]) -> bytes:
    """The body ``aa{sv}`` from dictionaries encoded one by one with ``encode_entries``."""
    out = bytearray(4)
    for chunk in chunks:
        out += bytes(-len(out) % 4)
        out += struct.pack("<I", len(chunk))
        out += bytes(-len(out) % 8)
        out += chunk
    return _with_length(out, len(out) - 4)


def join_dict(chunks: Iterable[bytes]) -> bytes:
    """The body ``a{…}`` from its entries encoded one by one, or in groups, with ``encode_entries``."""
    out = bytearray(8)
    for chunk in chunks:
        out += bytes(-len(out) % 8)
        out += chunk
    return _with_length(out, len(out) - 8)


def encode_entries(signature: str, entries: dict[Any, Any]) -> bytes:
    """The entries of a dictionary without its length: they align to 8, so they fit wherever an entry may stand."""
    return encode_values(signature, [entries])[8:]


def _with_length(out: bytearray, length: int) -> bytes:
    if length > LARGEST_ARRAY:
        raise ProtocolError("LimitsExceeded", f"the answer has {length} bytes, more than a D-Bus array may have")
    struct.pack_into("<I", out, 0, length)
    return bytes(out)


def _message(kind: int, serial: int, fields: Sequence[tuple[int, Variant]], body: bytes) -> bytes:
    values = [ord("l"), kind, _NO_FLAGS, _PROTOCOL, len(body), serial, [list(field) for field in fields]]
    header = encode_values("yyyyuua(yv)", values)
    return header + bytes(-len(header) % 8) + body


def encode_return(call: Frame, serial: int, signature: str, body: bytes, fds: int) -> bytes:
    """The answer to ``call``; ``fds`` is the number of descriptors that go along."""
    fields = [(5, Variant("u", call.serial)), (6, Variant("s", call.sender))]
    if signature:
        fields.append((8, Variant("g", signature)))
    if fds:
        fields.append((9, Variant("u", fds)))
    return _message(METHOD_RETURN, serial, fields, body)


def encode_error(call: Frame, serial: int, name: str, sentence: str) -> bytes:
    """The refusal of ``call``."""
    fields = [
        (4, Variant("s", name)),
        (5, Variant("u", call.serial)),
        (6, Variant("s", call.sender)),
        (8, Variant("g", "s")),
    ]
    return _message(ERROR, serial, fields, encode_values("s", [sentence]))


def encode_signal(serial: int, path: str, interface: str, member: str, signature: str, values: Sequence[Any]) -> bytes:
    """A broadcast signal."""
    fields = [
        (1, Variant("o", path)),
        (2, Variant("s", interface)),
        (3, Variant("s", member)),
        (8, Variant("g", signature)),
    ]
    return _message(SIGNAL, serial, fields, encode_values(signature, values))
