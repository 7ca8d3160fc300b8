"""A D-Bus client of vnetd, as a program on the host would be one."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

NAME = "org.vnetd1"
ROOT = "/org/vnetd1"
MANAGER = f"{NAME}.Manager"
NETWORK = f"{NAME}.Network"
PORT = f"{NAME}.Port"
BINDING = f"{NAME}.Binding"
PROPERTIES = "org.freedesktop.DBus.Properties"
MOST_UNDER_WAY = 128
"""dbus-next takes a full socket for the end of the connection, and some 270 calls fill one."""


class Refused(AssertionError):
    """The daemon answered with an error; ``name`` is the D-Bus error's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Client:
    """``async with Client(address) as client``. Calls return the reply's values: none, one, or a list of several."""

    def __init__(self, address: str) -> None:
        self._bus = MessageBus(bus_address=address)
        self._listeners: list[Callable[[Message], None]] = []
        self._under_way = asyncio.Semaphore(MOST_UNDER_WAY)

    async def __aenter__(self) -> Self:
        await self._bus.connect()
        self._bus.add_message_handler(self._hear)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bus.disconnect()  # type: ignore[no-untyped-call]
        await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        self._bus._stream.close()  # dbus-next leaves its socket open when it goes
        self._bus._sock.close()

    async def call(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> Any:
        """Call any method. Raises ``Refused``."""
        message = Message(
            destination=NAME, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        async with self._under_way:
            reply = await self._bus.call(message)
        assert reply is not None, "the bus answers"
        if reply.message_type is MessageType.ERROR:
            raise Refused(str(reply.error_name), str(next(iter(reply.body), "")))
        return plain(reply.body[0] if len(reply.body) == 1 else reply.body or None)

    async def get(self, path: str, interface: str, name: str) -> Any:
        """A property's value."""
        return await self.call(path, PROPERTIES, "Get", "ss", interface, name)

    async def define_network(self, document: str) -> str:
        """Define a network and return its path."""
        return str(await self.call(ROOT, MANAGER, "DefineNetwork", "sa{sv}", document, {}))

    async def define_filter(self, document: str) -> str:
        """Define a filter and return its path."""
        return str(await self.call(ROOT, MANAGER, "DefineFilter", "sa{sv}", document, {}))

    async def start(self, network: str) -> None:
        """Start the network at this path."""
        await self.call(network, NETWORK, "Start")

    async def stop(self, network: str) -> None:
        """Stop the network at this path."""
        await self.call(network, NETWORK, "Stop")

    async def attach(self, network: str, spec: Mapping[str, Any]) -> str:
        """Attach to a network by name and return the port's path."""
        values = {key: variant(value) for key, value in spec.items()}
        return str((await self.call(ROOT, MANAGER, "Attach", "sa{sv}", network, values))[0])

    async def bind(self, device: str, filter: str, parameters: Mapping[str, str]) -> str:
        """Bind a filter to a device vnetd did not make; returns the binding's path."""
        values = {key: variant(value) for key, value in parameters.items()}
        return str(await self.call(ROOT, MANAGER, "BindFilter", "ssa{sv}", device, filter, values))

    async def listen(self, member: str, path: str = "") -> "asyncio.Queue[list[Any]]":
        """A queue of the values of every signal of this name from now on."""
        heard: asyncio.Queue[list[Any]] = asyncio.Queue()

        def take(message: Message) -> None:
            if message.member == member and (not path or message.path == path):
                heard.put_nowait(plain(message.body))

        self._listeners.append(take)
        await self._bus.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=[f"type='signal',sender='{NAME}',member='{member}'"],
            )
        )
        return heard

    def _hear(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL:
            for listener in self._listeners:
                listener(message)


def variant(value: Any) -> Variant:
    """A value as a D-Bus variant of the type the contracts expect."""
    match value:
        case bool():
            return Variant("b", value)
        case int():
            return Variant("i", value)
        case str():
            return Variant("s", value)
        case _:
            return Variant("as", list(value))


def plain(value: Any) -> Any:
    """The value without its variants."""
    match value:
        case Variant():
            return plain(value.value)
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list():
            return [plain(one) for one in value]
        case _:
            return value
