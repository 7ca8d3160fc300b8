"""What changes is signalled, once, with what changed."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant
from support.fake_services import FakeServices, one_of_each
from support.fake_world import network_view
from support.private_bus import client_of
from support.waiting import eventually

from vnetd.bus import contracts
from vnetd.bus.objects import object_path
from vnetd.bus.server import BusServer
from vnetd.service.views import (
    AddressesChanged,
    AddressView,
    Caller,
    Changed,
    Healed,
    LeaseChange,
    LeaseView,
    LifecycleEvent,
    Notice,
)

LAB = object_path("network", network_view("lab").uuid)
Signal = tuple[str, str, list[Any]]


@pytest.fixture
async def signals(client: MessageBus) -> AsyncIterator[list[Signal]]:
    """All signals of vnetd as path, member and plain body."""
    seen: list[Signal] = []

    def note(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path.startswith("/org/vnetd1"):
            seen.append((message.path, f"{message.interface}.{message.member}", plain(message.body)))

    client.add_message_handler(note)
    match = Message(
        destination="org.freedesktop.DBus",
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus",
        member="AddMatch",
        signature="s",
        body=["type='signal',sender='org.vnetd1'"],
    )
    await client.call(match)
    yield seen


def plain(value: Any) -> Any:
    """Without variants."""
    match value:
        case Variant():
            return plain(value.value)
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


async def one(signals: list[Signal]) -> Signal:
    """The only signal since the last look."""
    await eventually(lambda: signals, "a signal")
    (signal,) = signals
    signals.clear()
    return signal


def tell(services: FakeServices, notice: Notice) -> None:
    services.world.tell(notice)


async def test_objects_come_and_go_with_their_properties(services: FakeServices, signals: list[Signal]) -> None:
    services.world.add("network", network_view("lab", autostart=True))
    path, member, (subject, interfaces) = await one(signals)
    assert (path, member, subject) == ("/org/vnetd1", "org.freedesktop.DBus.ObjectManager.InterfacesAdded", LAB)
    assert list(interfaces) == [contracts.NETWORK]
    assert interfaces[contracts.NETWORK]["Name"] == "lab" and interfaces[contracts.NETWORK]["Autostart"] is True
    services.world.remove("network", network_view("lab").uuid)
    assert await one(signals) == (
        "/org/vnetd1",
        "org.freedesktop.DBus.ObjectManager.InterfacesRemoved",
        [LAB, [contracts.NETWORK]],
    )


async def test_only_what_changed_is_announced(services: FakeServices, signals: list[Signal]) -> None:
    services.world.add("network", network_view("lab"))
    await one(signals)
    services.world.change("network", network_view("lab").uuid, state="active", active=True, healed_count=0)
    assert await one(signals) == (
        LAB,
        "org.freedesktop.DBus.Properties.PropertiesChanged",
        [contracts.NETWORK, {"State": "active", "Active": True}, []],
    )


async def test_other_ports_are_announced_without_a_list_of_all_of_them(
    services: FakeServices, signals: list[Signal]
) -> None:
    view = services.world.add("network", network_view("lab"))
    await one(signals)
    services.world.change("network", view.uuid, ports=(UUID(int=7),))
    assert (await one(signals))[2] == [contracts.NETWORK, {}, ["Ports"]]
    services.world.change("network", view.uuid, ports=(UUID(int=7), UUID(int=8)), healed_count=3)
    assert (await one(signals))[2] == [contracts.NETWORK, {"HealedCount": 3}, ["Ports"]]


async def test_nothing_is_said_when_nothing_changed(services: FakeServices, signals: list[Signal]) -> None:
    view = services.world.add("network", network_view("lab"))
    await one(signals)
    tell(services, Changed("network", view))
    services.world.change("network", view.uuid, healed_count=1)
    assert (await one(signals))[2][1] == {"HealedCount": 1}


async def test_change_of_an_object_from_before_the_start_is_announced_as_a_change(
    services: FakeServices, bus: Any, server_with: Any
) -> None:
    services.world.add("network", network_view("lab"))
    await server_with()
    async with client_of(bus) as connection:
        seen: list[Message] = []
        connection.add_message_handler(seen.append)
        rule = "type='signal',sender='org.vnetd1'"
        call = Message("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "AddMatch", signature="s", body=[rule])
        await connection.call(call)
        services.world.change("network", network_view("lab").uuid, bridge="virbr7")
        await eventually(lambda: [m for m in seen if m.member == "PropertiesChanged"], "the change is announced")
        assert not [m for m in seen if m.member == "InterfacesAdded"]


async def test_every_kind_of_object_is_announced(services: FakeServices, signals: list[Signal]) -> None:
    paths = await one_of_each(services)
    await eventually(lambda: len(signals) == 5, "five objects were announced")
    assert {body[0] for _, _, body in signals} == set(paths.values()) - {"/org/vnetd1"}
    signals.clear()
    binding = services.filters.bindings()[0]
    services.world.change("binding", binding.uuid, parameters={"IP": ("192.0.2.2",)})
    assert (await one(signals))[2][1] == {"Parameters": {"IP": ["192.0.2.2"]}}


async def test_leases_and_healing_are_signals_of_the_network(services: FakeServices, signals: list[Signal]) -> None:
    lab = services.world.add("network", network_view("lab"))
    await one(signals)
    lease = LeaseView("192.168.122.7", 24, "ipv4", "52:54:00:00:00:07", "web", "01:52", 1_700_000_000)
    tell(services, LeaseChange(lab.uuid, "lab", True, lease))
    path, member, (shown,) = await one(signals)
    assert (path, member) == (LAB, "org.vnetd1.Network.LeaseAdded")
    assert (shown["address"], shown["expiry"], shown["hostname"]) == ("192.168.122.7", 1_700_000_000, "web")
    tell(services, LeaseChange(lab.uuid, "lab", False, lease))
    assert (await one(signals))[1] == "org.vnetd1.Network.LeaseRemoved"
    tell(services, Healed("network", lab.uuid, "lab", "address 192.168.122.1/24", {"cause": "ip", "pid": 7}))
    assert await one(signals) == (
        LAB,
        "org.vnetd1.Network.Healed",
        ["address 192.168.122.1/24", {"cause": "ip", "pid": 7}],
    )


async def test_other_addresses_are_a_signal_of_the_port_and_an_event(
    services: FakeServices, signals: list[Signal]
) -> None:
    services.world.add("network", network_view("lab"))
    await one(signals)
    port = (await services.ports.attach(Caller(0), "lab", {"device": "eth7"})).port
    await one(signals)
    found = (
        AddressView("192.168.122.7", "ipv4", "lease", 7),
        AddressView("192.168.122.7", "ipv4", "neighbour", 1),
        AddressView("fd77::7", "ipv6", "neighbour", 90),
    )
    path = object_path("port", port.uuid)
    tell(services, AddressesChanged(port.uuid, "eth7", found))
    await eventually(lambda: len(signals) == 2, "both are sent")
    (where, member, (shown,)), event = signals
    assert (where, member) == (path, "org.vnetd1.Port.AddressesChanged")
    assert shown[0] == {"address": "192.168.122.7", "family": "ipv4", "source": "lease", "age": 7}
    assert [(row["address"], row["source"], row["age"]) for row in shown[1:]] == [
        ("192.168.122.7", "neighbour", 1), ("fd77::7", "neighbour", 90),
    ]  # fmt: skip
    details = {"addresses": "192.168.122.7 fd77::7"}
    assert event == ("/org/vnetd1", "org.vnetd1.Manager.Event", ["addresses", path, "eth7", details])
    signals.clear()
    tell(services, AddressesChanged(port.uuid, "eth7", ()))
    await eventually(lambda: len(signals) == 2, "none is told, too")
    assert [body for _, _, body in signals] == [[[]], ["addresses", path, "eth7", {"addresses": ""}]]


async def test_what_has_no_signal_of_its_own_is_an_event(services: FakeServices, signals: list[Signal]) -> None:
    lab = services.world.add("network", network_view("lab"))
    await one(signals)
    tell(services, LifecycleEvent("started", "network", lab.uuid, "lab", {"uid": 0}))
    assert await one(signals) == ("/org/vnetd1", "org.vnetd1.Manager.Event", ["started", LAB, "lab", {"uid": 0}])
    port = (await services.ports.attach(Caller(0), "lab", {"device": "eth7"})).port
    await one(signals)
    tell(services, Healed("port", port.uuid, "eth7", "mac", {}))
    expected = ["healed", object_path("port", port.uuid), "eth7", {"what": "mac"}]
    assert await one(signals) == ("/org/vnetd1", "org.vnetd1.Manager.Event", expected)


async def test_capabilities_that_changed_are_announced_by_the_next_pass(
    services: FakeServices, signals: list[Signal], client: MessageBus
) -> None:
    call = {"destination": "org.vnetd1", "path": "/org/vnetd1", "interface": contracts.MANAGER, "member": "Reconcile"}
    await client.call(Message(**call))
    assert signals == [], "nobody asked yet"
    read = {**call, "interface": contracts.PROPERTIES, "member": "Get", "signature": "ss"}
    await client.call(Message(**read, body=[contracts.MANAGER, "Capabilities"]))
    services.cannot["nat"] = services.can.pop("nat") + "none"
    await client.call(Message(**call))
    path, _, (interface, changed, _) = await one(signals)
    assert (path, interface, changed["Capabilities"]["nat"]) == ("/org/vnetd1", contracts.MANAGER, [False, "none"])
    await client.call(Message(**call))
    assert signals == []


async def test_notice_that_cannot_be_announced_does_not_hurt_who_gives_it(
    services: FakeServices, server: BusServer, signals: list[Signal], caplog: pytest.LogCaptureFixture
) -> None:
    lab = network_view("lab", healed_count=-1)
    services.world.add("network", lab)
    services.world.change("network", lab.uuid, healed_count=1)
    await one(signals)
    assert "could not announce" in caplog.text


@pytest.fixture
async def heard(client: MessageBus, signals: list[Signal]) -> list[MessageType]:
    """Answers to ``client`` and signals, in the order they came."""
    order: list[MessageType] = []
    client.add_message_handler(lambda message: order.append(message.message_type))
    return order


async def test_who_caused_a_change_knows_it_when_the_answer_comes(
    client: MessageBus, services: FakeServices, heard: list[MessageType]
) -> None:
    lab = services.world.add("network", network_view("lab", active=True))
    await eventually(lambda: heard == [MessageType.SIGNAL], "it is announced")
    heard.clear()
    await client.call(Message("org.vnetd1", object_path("network", lab.uuid), contracts.NETWORK, "Stop"))
    await eventually(lambda: len(heard) == 2, "the answer and the signal are there")
    assert heard == [MessageType.SIGNAL, MessageType.METHOD_RETURN]


async def test_calls_are_answered_in_the_middle_of_much_news(
    client: MessageBus, services: FakeServices, heard: list[MessageType]
) -> None:
    ping = Message("org.vnetd1", "/org/vnetd1", "org.freedesktop.DBus.Peer", "Ping")
    lab = services.world.add("network", network_view("lab"))
    await eventually(lambda: heard == [MessageType.SIGNAL], "it is announced")
    for count in range(1, 501):
        services.world.change("network", lab.uuid, healed_count=count)
    await client.call(ping)
    await eventually(lambda: len(heard) == 502, "all of it is there")
    assert heard.index(MessageType.METHOD_RETURN) < 500
