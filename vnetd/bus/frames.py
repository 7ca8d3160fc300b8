"""Incoming bytes to messages, without decoding a body before somebody has decided that it may be looked at.

dbus-next's reader decodes every message whole and on the spot, up to the protocol's 128 MiB, keeps every signature it
ever saw, and ends the connection when one of them surprises it. This one reads the header only, throws away what is
too big while it arrives, and leaves the body for ``decode_body``.
"""

import io
import logging
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.signature import SignatureTree, SignatureType, Variant

from vnetd.bus.errors import BusLost, ProtocolError

LARGEST_BODY = 4 << 20  # bytes; the codec refuses a document above 1 MiB with a better sentence than this limit has
LARGEST_HEADER = 64 << 10  # bytes; an object path may be of any length, ours are short
SHORT_HEADER = 512  # bytes of fields up to which they are remembered
MOST_VALUES = 2048  # single values in a body: about 2 ms of decoding

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
NO_REPLY_EXPECTED = 1

# What options, specs, parameters and property values are made of. A fixed set also bounds nesting and the
# signature cache of dbus-next.
PLAIN_VARIANTS = {signature: SignatureTree(signature).types[0] for signature in ("s", "b", *"ynqiuxt", "as")}
_tree = lru_cache(maxsize=128)(SignatureTree)
_FIELDS = {1: "path", 2: "interface", 3: "member", 4: "error_name", 5: "reply_serial", 7: "sender", 8: "signature"}
_FIXED = 16  # bytes before the header fields

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: its header, and its body as bytes. ``oversized`` means that the body was thrown away."""

    type: int
    flags: int
    serial: int
    little_endian: bool
    path: str = ""
    interface: str = ""
    member: str = ""
    error_name: str = ""
    reply_serial: int = 0
    sender: str = ""
    signature: str = ""
    body: bytes = b""
    oversized: bool = False

    @property
    def wants_reply(self) -> bool:
        """Whether the sender waits for an answer."""
        return self.type == METHOD_CALL and not self.flags & NO_REPLY_EXPECTED


class FrameReader:
    """Cuts a stream into messages; holds at most one message of ``LARGEST_BODY`` and one read."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> None:
        """Take in what the socket gave."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data

    def take(self) -> Frame | None:
        """The next message, None if it is not complete. Raises ``BusLost`` if this is not the D-Bus protocol."""
        buffer = self._buffer
        while len(buffer) >= _FIXED and not self._skip:
            order = _byte_order(buffer[0])
            body, _, fields = struct.unpack_from(order + "III", buffer, 4)
            start = _FIXED + fields + (-fields % 8)
            if fields > LARGEST_HEADER:
                log.warning("threw away a message with a header of %d bytes", fields)
                self._drop(start + body)
                continue
            oversized = body > LARGEST_BODY
            if len(buffer) < (start if oversized else start + body):
                return None  # of a message that is too big, wait for no more than the header, which says whom to tell
            with memoryview(buffer) as view:  # slices of the buffer itself would be copied twice
                head, content = bytes(view[:start]), b"" if oversized else bytes(view[start : start + body])
            self._drop(start + body)
            frame = _parse(head, order, content, oversized)
            if frame is not None:
                return frame
        return None

    def _drop(self, length: int) -> None:
        self._skip = max(0, length - len(self._buffer))
        del self._buffer[:length]


def _byte_order(mark: int) -> str:
    match mark:
        case 0x6C:
            return "<"
        case 0x42:
            return ">"
    raise BusLost(f"the message bus sent a message that begins with byte {mark:#x}")


def _parse(head: bytes, order: str, body: bytes, oversized: bool) -> Frame | None:
    """The frame, or None if its header has a form that this protocol version does not know (it says: ignore)."""
    _, kind, flags, version, _, serial, length = struct.unpack_from(order + "BBBBIII", head)
    if version != 1 or kind not in (METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL):
        return None
    try:
        fields = head[_FIXED : _FIXED + length]
        known = (_repeated if length <= SHORT_HEADER else _known)(fields, order)
    except (ValueError, IndexError, struct.error) as error:
        log.warning("threw away a message with an unreadable header: %s", error)
        return None
    return Frame(kind, flags, serial, order == "<", body=body, oversized=oversized, **known)


def _known(fields: bytes, order: str) -> Mapping[str, Any]:
    """Those of the header fields we know, by name."""
    found = dict(_header_fields(fields, order))
    return {name: found[code] for code, name in _FIELDS.items() if code in found}


_repeated = lru_cache(maxsize=256)(_known)
"""Calls of one client for one member have the same fields; only what precedes them is each call's own."""


def _header_fields(head: bytes, order: str) -> Iterator[tuple[int, Any]]:
    """Code and value of each; they begin at a multiple of 8 in the message, as here."""
    at = 0
    while at < len(head):
        at += -at % 8
        code, length = head[at], head[at + 1]
        signature = head[at + 2 : at + 2 + length]
        at += length + 3
        if signature == b"g":
            yield code, head[at + 1 : at + 1 + head[at]].decode()
            at += head[at] + 2
        elif signature in (b"s", b"o", b"u"):
            at += -at % 4
            (number,) = struct.unpack_from(order + "I", head, at)
            at += 4
            if signature == b"u":
                yield code, number
            else:
                yield code, head[at : at + number].decode()
                at += number + 1
        else:
            raise ValueError(f"field {code} has type {signature!r}")


class _Body(Unmarshaller):
    """dbus-next's decoder on bytes that are all there."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(io.BytesIO())  # type: ignore[no-untyped-call]
        self.buf = cast(bytearray, frame.body)  # it is only read from
        self.endian = ord("l" if frame.little_endian else "B")

    def values(self, signature: str) -> list[Any]:
        return [self.read_argument(kind) for kind in _tree(signature).types]  # type: ignore[no-untyped-call]


class _BoundedBody(_Body):
    """The decoder for what callers send: few values, plain ones."""

    left = MOST_VALUES

    def read_argument(self, type_: SignatureType) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ProtocolError("LimitsExceeded", f"this call has more than {MOST_VALUES} values")
        return super().read_argument(type_)  # type: ignore[no-untyped-call]

    def read_variant(self, _: object = None) -> Variant:
        signature = self.read_signature()  # type: ignore[no-untyped-call]
        kind = PLAIN_VARIANTS.get(signature)
        if kind is None:
            raise ProtocolError(
                "InvalidArgs",
                f"a variant of type '{signature}' is not taken here: use a string (s), a boolean (b), an integer or "
                "a list of strings (as)",
            )
        return Variant(kind, self.read_argument(kind))


def decode_body(frame: Frame) -> list[Any]:
    """The values of a caller's message, whose signature was already found to be one we expect.

    Raises ``ProtocolError`` (InvalidArgs, LimitsExceeded) for too many values, or values of other types than
    strings, booleans, integers and lists of strings in a variant.
    """
    try:
        return _BoundedBody(frame).values(frame.signature)
    except ProtocolError:
        raise
    except Exception as error:  # the bus checks messages, but nothing that a caller sent may pass as our own failure
        raise ProtocolError("InvalidArgs", f"the arguments do not have the form '{frame.signature}'") from error


def decode_trusted(frame: Frame) -> list[Any]:
    """The values of a message from the bus itself."""
    return _Body(frame).values(frame.signature)
