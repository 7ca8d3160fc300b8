"""Cutting a stream into messages: any split, any size, any surprise."""

import struct

import pytest
from dbus_next.message import Message
from dbus_next.signature import Variant
from hypothesis import given
from hypothesis import strategies as st

from vnetd.bus.errors import BusLost, ProtocolError
from vnetd.bus.frames import (
    LARGEST_BODY,
    LARGEST_HEADER,
    SHORT_HEADER,
    Frame,
    FrameReader,
    _repeated,
    decode_body,
)


def encoded(member: str, signature: str = "", *body: object, path: str = "/org/vnetd1", serial: int = 7) -> bytes:
    message = Message("org.vnetd1", path, "org.vnetd1.Manager", member, signature=signature, body=list(body))
    message.serial = serial
    return bytes(message._marshall())


def fed(reader: FrameReader, data: bytes) -> list[Frame]:
    """The messages that these bytes complete."""
    reader.feed(data)
    return list(iter(reader.take, None))


MESSAGES = [
    encoded("GetNetwork", "s", "lab"),
    encoded("Reconcile"),
    encoded("Plan", "sa{sv}", "ü" * 1000, {"lenient": Variant("b", True), "n": Variant("q", 3)}),
    encoded("Ping", path="/"),
]
STREAM = b"".join(MESSAGES)


@given(st.lists(st.integers(1, 400), max_size=60))
def test_split_of_the_stream_does_not_matter(sizes: list[int]) -> None:
    reader = FrameReader()
    frames = []
    rest = STREAM
    for size in sizes:
        frames += fed(reader, rest[:size])
        rest = rest[size:]
    frames += fed(reader, rest)
    assert [frame.member for frame in frames] == ["GetNetwork", "Reconcile", "Plan", "Ping"]
    assert decode_body(frames[0]) == ["lab"]
    assert decode_body(frames[2]) == ["ü" * 1000, {"lenient": Variant("b", True), "n": Variant("q", 3)}]


def test_calls_with_the_same_fields_are_read_once_and_told_apart() -> None:
    fed(FrameReader(), encoded("GetPort", "s", "first"))
    known = _repeated.cache_info()
    calls = b"".join(encoded("GetPort", "s", name, serial=serial) for serial, name in ((8, "tap7"), (9, "tap8")))
    one, other = fed(FrameReader(), calls)
    assert [(frame.serial, decode_body(frame)) for frame in (one, other)] == [(8, ["tap7"]), (9, ["tap8"])]
    assert (
        (one.member, one.path, one.signature)
        == (other.member, other.path, other.signature)
        == ("GetPort", "/org/vnetd1", "s")
    )
    assert _repeated.cache_info() == known._replace(hits=known.hits + 2)


def test_calls_that_differ_in_a_field_or_in_the_order_of_bytes_are_told_apart() -> None:
    little = encoded("Ping", path="/a")
    assert [frame.path for frame in fed(FrameReader(), little + encoded("Ping", path="/b") + little)] == [
        "/a",
        "/b",
        "/a",
    ]
    big = bytearray(little)
    big[:1], big[4:16] = b"B", struct.pack(">III", *struct.unpack("<III", little[4:16]))
    assert not [frame for frame in fed(FrameReader(), bytes(big)) if frame.path == "/a"], "its fields are not turned"


def test_long_fields_are_not_kept() -> None:
    long = "/" + "x" * SHORT_HEADER
    known = _repeated.cache_info()
    for serial in (1, 2):
        (frame,) = fed(FrameReader(), encoded("Ping", path=long, serial=serial))
        assert (frame.path, frame.serial) == (long, serial)
    assert _repeated.cache_info() == known


def oversized(body: int, fields: int) -> bytes:
    """The beginning of a message that announces so many bytes."""
    return struct.pack("<BBBBIII", ord("l"), 1, 0, 1, body, 1, fields)


def test_body_that_is_too_big_is_never_held() -> None:
    huge = encoded("Plan", "sa{sv}", "x" * (LARGEST_BODY + 1), {})
    reader = FrameReader()
    frames = []
    for start in range(0, len(huge), 1 << 16):
        frames += fed(reader, huge[start : start + (1 << 16)])
        assert len(reader._buffer) <= 1 << 16
    frames += fed(reader, MESSAGES[0])
    assert [(frame.member, frame.oversized, frame.body[:0]) for frame in frames] == [
        ("Plan", True, b""),
        ("GetNetwork", False, b""),
    ]


def test_header_that_is_too_big_is_skipped_with_its_body() -> None:
    reader = FrameReader()
    assert fed(reader, oversized(100, LARGEST_HEADER + 1)) == []
    assert fed(reader, bytes(LARGEST_HEADER + 1 + 7 + 100) + MESSAGES[1])[0].member == "Reconcile"


def test_unknown_kinds_of_message_and_of_field_are_ignored() -> None:
    unknown_type = bytearray(MESSAGES[1])
    unknown_type[1] = 9
    unknown_field = struct.pack("<BBBBIII", ord("l"), 1, 0, 1, 0, 5, 14) + b"\x63\x04a(y)\0" + bytes(9)
    reader = FrameReader()
    frames = fed(reader, bytes(unknown_type) + unknown_field + MESSAGES[1])
    assert [frame.member for frame in frames] == ["Reconcile"]


def test_what_is_not_the_protocol_ends_the_connection() -> None:
    with pytest.raises(BusLost):
        fed(FrameReader(), b"HTTP/1.1 200 OK\r\n\r\n")


@given(st.binary(max_size=300))
def test_rubbish_in_a_header_is_ignored_or_ends_the_connection(rubbish: bytes) -> None:
    reader = FrameReader()
    head = struct.pack("<BBBBIII", ord("l"), 1, 0, 1, 0, 5, len(rubbish))
    fed(reader, head + rubbish + bytes(-len(rubbish) % 8))
    assert [frame.member for frame in fed(reader, MESSAGES[1])] == ["Reconcile"]


@given(st.binary(max_size=200), st.sampled_from(["s", "sa{sv}", "ssv", "a{sv}", "sssa{sv}"]))
def test_rubbish_in_a_body_is_an_error_of_the_caller(rubbish: bytes, signature: str) -> None:
    (frame,) = fed(FrameReader(), encoded("Plan", "ay", rubbish))
    rewritten = type(frame)(1, 0, 7, True, signature=signature, body=frame.body)
    try:
        decode_body(rewritten)
    except ProtocolError as error:
        assert error.name.rpartition(".")[2] in ("InvalidArgs", "LimitsExceeded")
