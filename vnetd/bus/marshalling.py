"""Outgoing messages to bytes.

The bus disconnects whoever sends it a string with a NUL or half a surrogate pair, and both can get here inside a
message that quotes a document. They are therefore replaced here, at the last place they pass.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dbus_next._private.marshaller import Marshaller
from dbus_next.signature import SignatureTree

from vnetd.bus.errors import ProtocolError
from vnetd.bus.frames import ERROR, METHOD_RETURN, SIGNAL, Frame

LARGEST_ARRAY = 64 << 20  # bytes; D-Bus specification, "Marshaling", arrays
_NO_FLAGS, _PROTOCOL = 0, 1
_FIXED = struct.Struct("<BBBBIII")  # the header up to its fields, the last number their length
_U32 = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Entries:
    """A dictionary whose entries are encoded already, as ``encode_entries`` does; it stands for it among values."""

    encoded: bytes


class Encoder(Marshaller):
    """dbus-next's encoder, with strings that are always valid on the wire.

    One serves all messages, on the loop's thread: to make one costs more than to encode a short message. Values are
    not compared with the signature once more: it is the contract's, and a ``Variant`` was when it was made.
    """

    def __init__(self) -> None:
        super().__init__("", [])  # type: ignore[no-untyped-call]

    def encode(self, signature: str, values: Sequence[Any]) -> bytes:
        """A message body."""
        self.buffer = bytearray()
        for kind, value in zip(SignatureTree._get(signature).types, values, strict=True):
            self.write_single(kind, value)  # type: ignore[no-untyped-call]
        return bytes(self.buffer)

    def write_string(self, value: str, _: object = None) -> int:
        raw = _valid(value)
        written: int = self.write_uint32(len(raw))  # type: ignore[no-untyped-call]
        self.buffer += raw + b"\0"
        return written + len(raw) + 1

    def write_array(self, array: Any, kind: Any) -> int:
        if not isinstance(array, Entries):
            return super().write_array(array, kind)  # type: ignore[no-any-return, no-untyped-call]
        before = len(self.buffer)
        self.align(4)  # type: ignore[no-untyped-call]
        self.write_uint32(len(array.encoded))  # type: ignore[no-untyped-call]
        self.align(8)  # type: ignore[no-untyped-call]
        self.buffer += array.encoded
        return len(self.buffer) - before


_encoder = Encoder()


def encode_values(signature: str, values: Sequence[Any]) -> bytes:
    """A message body."""
    return _encoder.encode(signature, values)


def _valid(text: str) -> bytes:
    """UTF-8 without NUL."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "replace")
    return raw.replace(b"\0", "\N{REPLACEMENT CHARACTER}".encode()) if b"\0" in raw else raw


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
    out = bytearray(8) + join_entries(chunks)
    return _with_length(out, len(out) - 8)


def join_entries(chunks: Iterable[bytes]) -> bytes:
    """Entries encoded one by one, or in groups, with ``encode_entries``, as it encodes them together."""
    out = bytearray()
    for chunk in chunks:
        out += bytes(-len(out) % 8)
        out += chunk
    return bytes(out)


def encode_entries(signature: str, entries: dict[Any, Any]) -> bytes:
    """The entries of a dictionary without its length: they align to 8, so they fit wherever an entry may stand."""
    return encode_values(signature, [entries])[8:]


def encode_text_entry(name: str, signature: str, text: str) -> bytes:
    """What ``encode_entries`` makes of one text (``s``, ``o``) in an ``a{sv}``: most of what is told are such."""
    raw = _valid(text)
    return _text_key(name, signature) + _U32.pack(len(raw)) + raw + b"\0"


@lru_cache(maxsize=256)
def _text_key(name: str, signature: str) -> bytes:
    key = _U32.pack(len(name)) + name.encode("ascii") + b"\0" + bytes((1, ord(signature), 0))
    return key + bytes(-len(key) % 4)


def _with_length(out: bytearray, length: int) -> bytes:
    if length > LARGEST_ARRAY:
        raise ProtocolError("LimitsExceeded", f"the answer has {length} bytes, more than a D-Bus array may have")
    struct.pack_into("<I", out, 0, length)
    return bytes(out)


def _message(kind: int, serial: int, fields: Sequence[tuple[int, str, str | int]], body: bytes) -> bytes:
    """A whole message; ``fields`` are code, type and value (D-Bus specification, "Message Format")."""
    out = bytearray(_FIXED.pack(ord("l"), kind, _NO_FLAGS, _PROTOCOL, len(body), serial, 0))
    for code, signature, value in fields:
        out += bytes(-len(out) % 8)
        out += bytes((code, 1, ord(signature), 0))  # each value is a variant, which begins with its signature
        out += _field(signature, value)
    struct.pack_into("<I", out, _FIXED.size - 4, len(out) - _FIXED.size)
    return bytes(out) + bytes(-len(out) % 8) + body


def _field(signature: str, value: str | int) -> bytes:
    if isinstance(value, int):
        return _U32.pack(value)
    raw = _valid(value)
    length = bytes((len(raw),)) if signature == "g" else _U32.pack(len(raw))
    return length + raw + b"\0"


def encode_return(call: Frame, serial: int, signature: str, body: bytes, fds: int) -> bytes:
    """The answer to ``call``; ``fds`` is the number of descriptors that go along."""
    fields: list[tuple[int, str, str | int]] = [(5, "u", call.serial), (6, "s", call.sender)]
    if signature:
        fields.append((8, "g", signature))
    if fds:
        fields.append((9, "u", fds))
    return _message(METHOD_RETURN, serial, fields, body)


def encode_error(call: Frame, serial: int, name: str, sentence: str) -> bytes:
    """The refusal of ``call``."""
    fields = ((4, "s", name), (5, "u", call.serial), (6, "s", call.sender), (8, "g", "s"))
    return _message(ERROR, serial, fields, encode_values("s", [sentence]))


def encode_signal(serial: int, path: str, interface: str, member: str, signature: str, values: Sequence[Any]) -> bytes:
    """A broadcast signal."""
    fields = ((1, "o", path), (2, "s", interface), (3, "s", member), (8, "g", signature))
    return _message(SIGNAL, serial, fields, encode_values(signature, values))
