"""What goes wrong is told as a D-Bus error with one sentence, and nothing that a client sends ends the daemon."""

import asyncio
import logging
import os

import pytest
from dbus_next.constants import MessageFlag
from dbus_next.message import Message
from dbus_next.signature import Variant
from support.fake_services import FakeServices, one_of_each
from support.fake_world import network_view
from support.private_bus import NOBODY, PrivateBus, RawClient, method_call
from support.waiting import eventually

from vnetd.bus import contracts
from vnetd.bus.frames import LARGEST_BODY, MOST_VALUES
from vnetd.bus.objects import object_path
from vnetd.bus.server import BusServer
from vnetd.model import errors

ROOT = "/org/vnetd1"
MANAGER = contracts.MANAGER
LAB = object_path("network", network_view("lab").uuid)
STANDARD = "org.freedesktop.DBus.Error."


async def ask(raw: RawClient, call: Message) -> Message:
    return await asyncio.to_thread(raw.call, call)


async def still_answers(raw: RawClient) -> bool:
    answer = await ask(raw, method_call(ROOT, contracts.PEER, "Ping"))
    return answer.error_name is None


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("there is no network 'lab'"),
        errors.Exists("network 'lab' exists"),
        errors.Invalid("mode 'x' is none of nat, route"),
        errors.InUse("192.0.2.0/24 is used by eth0"),
        errors.Denied("no"),
        errors.Busy("the network is stopping"),
        errors.Unsupported("mode 'hostdev' is not realised yet"),
        errors.NotConfirmed("nobody confirmed in 30 s"),
        errors.HostError("add address", "192.0.2.1/24 on virbr0", 17),
    ],
)
async def test_typed_error_keeps_its_name_and_sentence(
    raw: RawClient, services: FakeServices, error: errors.VnetError
) -> None:
    services.world.failure = error
    answer = await ask(raw, method_call(ROOT, MANAGER, "Plan", "sa{sv}", "{}", {}))
    assert answer.error_name == f"org.vnetd1.Error.{type(error).wire}"
    assert answer.body == [str(error)]


async def test_unforeseen_error_shows_no_traceback_and_is_logged(
    raw: RawClient, services: FakeServices, caplog: pytest.LogCaptureFixture
) -> None:
    services.world.failure = ZeroDivisionError("secret detail")
    answer = await ask(raw, method_call(ROOT, MANAGER, "Reconcile"))
    assert answer.error_name == "org.vnetd1.Error.Host"
    assert answer.body == ["Manager.Reconcile failed for a reason vnetd did not foresee; its log has the details"]
    assert "ZeroDivisionError: secret detail" in caplog.text


NOWHERE = LAB[:-1] + ("0" if LAB[-1] != "0" else "1")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (method_call("/org/vnetd1/network/x", contracts.NETWORK, "Describe"), "UnknownObject"),
        (method_call("/nowhere", MANAGER, "GetNetwork", "s", "x"), "UnknownObject"),
        (method_call(LAB.upper(), contracts.NETWORK, "Start"), "UnknownObject"),
        (method_call("/org/vnetd1/bridge", contracts.INTROSPECTABLE, "Introspect"), "UnknownObject"),
        (method_call(NOWHERE, contracts.NETWORK, "Describe", "sa{sv}", "xml", {}), "UnknownObject"),
        (method_call(NOWHERE, contracts.INTROSPECTABLE, "Introspect"), "UnknownObject"),
        (method_call(NOWHERE, contracts.PROPERTIES, "GetAll", "s", contracts.NETWORK), "UnknownObject"),
        (method_call(ROOT, contracts.NETWORK, "Start"), "UnknownInterface"),
        (method_call(ROOT, "org.example.Nothing", "Start"), "UnknownInterface"),
        (method_call(LAB, contracts.OBJECT_MANAGER, "GetManagedObjects"), "UnknownInterface"),
        (method_call("/org/vnetd1/network", contracts.PROPERTIES, "GetAll", "s", ""), "UnknownInterface"),
        (method_call(ROOT, MANAGER, "Nonsense"), "UnknownMethod"),
        (method_call(ROOT, MANAGER, "getnetwork", "s", "lab"), "UnknownMethod"),
        (method_call(LAB, contracts.PROPERTIES, "Get", "ss", contracts.NETWORK, "Nonsense"), "UnknownProperty"),
        (method_call(LAB, contracts.PROPERTIES, "Get", "ss", contracts.PEER, "Name"), "UnknownProperty"),
        (method_call(LAB, contracts.PROPERTIES, "Get", "ss", contracts.PORT, "Name"), "UnknownInterface"),
        (method_call(LAB, contracts.PROPERTIES, "GetAll", "s", contracts.PORT), "UnknownInterface"),
        (method_call(ROOT, MANAGER, "GetNetwork"), "InvalidArgs"),
        (method_call(ROOT, MANAGER, "GetNetwork", "ss", "lab", "x"), "InvalidArgs"),
        (method_call(ROOT, MANAGER, "ListNetworks", "a{ss}", {}), "InvalidArgs"),
        (method_call(ROOT, MANAGER, "Plan", "sa{sv}", "{}", {"a": Variant("d", 1.5)}), "InvalidArgs"),
        (method_call(ROOT, MANAGER, "Plan", "sa{sv}", "{}", {"a": Variant("v", Variant("s", ""))}), "InvalidArgs"),
        (method_call(ROOT, MANAGER, "Plan", "sa{sv}", "{}", {"a": Variant("a{sv}", {})}), "InvalidArgs"),
    ],
)
async def test_call_that_is_no_call_of_ours_gets_the_standard_error(
    raw: RawClient, services: FakeServices, call: Message, name: str
) -> None:
    services.world.add("network", network_view("lab"))
    answer = await ask(raw, call)
    assert answer.error_name == STANDARD + name
    assert "Traceback" not in answer.body[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            method_call(ROOT, MANAGER, "Plan", "sa{sv}", "", {"x": Variant("b", True), "y": Variant("s", "")}),
            "'x', 'y'",
        ),
        (method_call(ROOT, MANAGER, "ListNetworks", "a{sv}", {"all": Variant("b", True)}), "'all'; none is known"),
        (method_call(ROOT, MANAGER, "Plan", "sa{sv}", "", {"lenient": Variant("s", "yes")}), "must be a boolean (b)"),
        (
            method_call(LAB, contracts.NETWORK, "Describe", "sa{sv}", "xml", {"lenient": Variant("b", True)}),
            "'lenient'",
        ),
        (method_call(LAB, contracts.NETWORK, "GetLeases", "a{sv}", {"mac": Variant("s", "")}), "unknown option 'mac'"),
        (
            method_call(LAB, contracts.NETWORK, "Update", "sssa{sv}", "", "", "", {"parent_index": Variant("b", True)}),
            "must be an integer",
        ),
        (method_call(ROOT, MANAGER, "BindFilter", "ssa{sv}", "d", "f", {"IP": Variant("u", 1)}), "parameter 'IP' must"),
    ],
)
async def test_options_that_are_not_known_are_refused_by_name(
    raw: RawClient, services: FakeServices, call: Message, words: str
) -> None:
    services.world.add("network", network_view("lab"))
    answer = await ask(raw, call)
    assert answer.error_name == "org.vnetd1.Error.Invalid"
    assert words in answer.body[0]
    assert services.world.calls == []


async def test_what_a_sentence_quotes_cannot_break_the_connection(raw: RawClient, services: FakeServices) -> None:
    """The bus disconnects who sends a NUL or a lone surrogate, and JSON has escapes for both."""
    services.world.failure = errors.Invalid("name 'a\0b\ud800\n' is no name")
    answer = await ask(raw, method_call(ROOT, MANAGER, "Plan", "sa{sv}", "{}", {}))
    assert answer.body == ["name 'a\N{REPLACEMENT CHARACTER}b?\n' is no name"]
    services.world.failure = None
    services.cannot["reason\0"] = "\udcff"
    answer = await ask(raw, method_call(ROOT, contracts.PROPERTIES, "GetAll", "s", MANAGER))
    assert answer.body[0]["Capabilities"].value["reason\N{REPLACEMENT CHARACTER}"].value == [False, "?"]


async def test_long_sentence_is_cut(raw: RawClient, services: FakeServices) -> None:
    answer = await ask(raw, method_call(ROOT, MANAGER, "GetNetwork", "s", "x" * (1 << 20)))
    assert answer.error_name == "org.vnetd1.Error.NotFound"
    assert len(answer.body[0]) < 2100


async def test_document_larger_than_any_may_be_reaches_the_codec(raw: RawClient, services: FakeServices) -> None:
    """The codec has the better words for a document that is too large: 1 MiB and a little must get there."""
    answer = await ask(raw, method_call(ROOT, MANAGER, "Plan", "sa{sv}", "x" * ((1 << 20) + 1), {}))
    assert answer.error_name is None
    assert len(services.world.calls[0][2]) == (1 << 20) + 1


async def test_huge_call_is_refused_unread_and_the_next_one_answered(raw: RawClient, services: FakeServices) -> None:
    call = method_call(ROOT, MANAGER, "Plan", "sa{sv}", "x" * (30 << 20), {})
    answer = await ask(raw, call)
    assert answer.error_name == STANDARD + "LimitsExceeded"
    assert f"at most {LARGEST_BODY} bytes" in answer.body[0]
    assert services.world.calls == []
    assert await still_answers(raw)


async def test_call_of_very_many_values_is_refused(raw: RawClient, services: FakeServices) -> None:
    many = {str(number): Variant("b", True) for number in range(MOST_VALUES)}
    answer = await ask(raw, method_call(ROOT, MANAGER, "ListNetworks", "a{sv}", many))
    assert answer.error_name == STANDARD + "LimitsExceeded"
    long = {"IP": Variant("as", [""] * MOST_VALUES)}
    answer = await ask(raw, method_call(ROOT, MANAGER, "BindFilter", "ssa{sv}", "d", "f", long))
    assert answer.error_name == STANDARD + "LimitsExceeded"


async def test_very_long_path_is_thrown_away_and_the_next_call_answered(raw: RawClient) -> None:
    await asyncio.to_thread(raw.send, method_call("/a" * (1 << 20), contracts.PEER, "Ping"))
    assert await still_answers(raw)


async def test_text_that_is_not_utf_8_costs_only_its_sender_the_connection(
    bus: PrivateBus, raw: RawClient, services: FakeServices
) -> None:
    rude = RawClient(bus)
    data = rude.encode(method_call(ROOT, MANAGER, "GetNetwork", "s", "@@@@"))
    await asyncio.to_thread(rude.socket.sendall, data.replace(b"@@@@", b"\xff\xfe\x80@"))
    with pytest.raises(EOFError):
        await asyncio.to_thread(rude.answer_to, rude.serial)
    rude.close()
    assert await still_answers(raw)


async def test_replies_and_signals_out_of_the_blue_are_ignored(bus: PrivateBus, raw: RawClient) -> None:
    """Such as a message that claims that a client has left the bus."""
    signal = Message.new_signal(
        "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", "sss", [":1.0", ":1.0", ""]
    )
    signal.destination = "org.vnetd1"
    await asyncio.to_thread(raw.send, signal)
    for serial in range(1, 20):
        reply = Message.new_method_return(Message(path="/", member="M", serial=serial, sender="org.vnetd1"), "s", ["x"])
        await asyncio.to_thread(raw.send, reply)
    assert await still_answers(raw)


async def test_call_that_wants_no_reply_gets_none(raw: RawClient, services: FakeServices) -> None:
    for call in (
        method_call(ROOT, contracts.PEER, "Ping"),
        method_call(ROOT, MANAGER, "Reconcile"),
        method_call(ROOT, MANAGER, "Nonsense"),
    ):
        call.flags = MessageFlag.NO_REPLY_EXPECTED
        await asyncio.to_thread(raw.send, call)
    serial = await asyncio.to_thread(raw.send, method_call(ROOT, MANAGER, "Reconcile"))
    first = await asyncio.to_thread(raw.receive)
    while first.reply_serial == 0 or first.sender == "org.freedesktop.DBus":
        first = await asyncio.to_thread(raw.receive)
    assert first.reply_serial == serial
    assert [call[0] for call in services.world.calls] == ["reconcile", "reconcile"]


async def test_change_that_began_is_finished_when_its_caller_leaves(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    services.world.add("network", network_view("lab"))
    services.world.gate.clear()
    leaver = RawClient(bus)
    await asyncio.to_thread(leaver.send, method_call(LAB, contracts.NETWORK, "Start"))
    await eventually(lambda: services.world.calls, "the start began")
    leaver.close()
    services.world.gate.set()
    await eventually(lambda: services.world.finished == ["start"], "the start is finished")


async def test_slow_change_holds_nobody_up(raw: RawClient, services: FakeServices) -> None:
    services.world.add("network", network_view("lab"))
    services.world.gate.clear()
    started = await asyncio.to_thread(raw.send, method_call(LAB, contracts.NETWORK, "Start"))
    assert await still_answers(raw)
    services.world.gate.set()
    answer = await asyncio.to_thread(raw.answer_to, started)
    assert answer.error_name is None


async def test_descriptors_sent_to_vnetd_are_closed(raw: RawClient, services: FakeServices) -> None:
    read, write = os.pipe()
    call = method_call(ROOT, MANAGER, "Attach", "sh", "lab", 0)
    answer = await asyncio.to_thread(raw.call, call, [write])
    assert answer.error_name == STANDARD + "InvalidArgs"
    os.close(write)
    os.set_blocking(read, False)
    await eventually(lambda: at_end(read), "the last copy of the pipe's write end is closed")
    os.close(read)


def at_end(fd: int) -> bool:
    """Whether nobody holds the other end of a pipe any more."""
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False


async def test_uncommon_byte_order_is_understood(raw: RawClient, services: FakeServices) -> None:
    """busctl and dbus-next send little-endian messages; a client may send the other."""
    services.world.add("network", network_view("lab"))
    await asyncio.to_thread(raw.socket.sendall, big_endian_call(77, "GetNetwork", "lab"))
    answer = await asyncio.to_thread(raw.answer_to, 77)
    assert answer.body == [LAB]


def big_endian_call(serial: int, member: str, argument: str) -> bytes:
    """A call of the manager with one string."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(4, "big") + value.encode() + b"\0"

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 8)

    body = text(argument)
    fields = b"".join(
        padded(bytes([code]) + b"\x01" + kind + b"\0" + text(value))
        for code, kind, value in ((1, b"o", ROOT), (2, b"s", MANAGER), (3, b"s", member), (6, b"s", "org.vnetd1"))
    )
    fields += b"\x08\x01g\0\x01s\0"
    head = b"B\x01\0\x01" + len(body).to_bytes(4, "big") + serial.to_bytes(4, "big") + len(fields).to_bytes(4, "big")
    return padded(head + fields) + body


async def test_strangers_can_read_with_gdbus_and_busctl(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    await one_of_each(services)
    listed = await bus.acall("call", "org.vnetd1", ROOT, MANAGER, "ListNetworks", "a{sv}", "0", uid=NOBODY)
    assert '"name" s "lab"' in listed


async def test_log_cannot_be_flooded_with_a_traceback_by_a_wrong_call(
    raw: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await ask(raw, method_call(ROOT, MANAGER, "GetNetwork", "u", 1))
        await ask(raw, method_call(ROOT, MANAGER, "GetNetwork", "s", "nothing"))
    assert not [record for record in caplog.records if record.name.startswith("vnetd")]
