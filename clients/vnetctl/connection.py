"""The connection to vnetd on a message bus. dbus-next and asyncio are imported when one is made, not before."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageType
from dbus_next.errors import AuthError, InvalidAddressError
from dbus_next.message import Message
from dbus_next.signature import Variant

from vnetctl.errors import CommandError, Exit, NoAnswer, from_bus
from vnetctl.text import printable

NAME, ROOT = "org.vnetd1", "/org/vnetd1"
MANAGER, PROPERTIES = "org.vnetd1.Manager", "org.freedesktop.DBus.Properties"
BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
TIMEOUT = 120.0
"""Seconds to wait for a reply: longer than any single operation of the daemon, for one that hangs."""


class _Bus(MessageBus):
    async def _auth_readline(self) -> str:
        """A line of the handshake; dbus-next's own spins for ever if the bus closes the connection in it."""
        line = b""
        while not line.endswith(b"\r\n"):
            byte = await self._loop.sock_recv(self._sock, 1)
            if not byte:
                raise ConnectionResetError("the bus closed the connection while it was being opened")
            line += byte
        return line[:-2].decode()


class Daemon:
    """vnetd, to be called. Every method raises ``CommandError``, ``NoAnswer`` if nobody is there."""

    def __init__(self, bus: Any, label: str) -> None:
        self._bus = bus  # a MessageBus, half of whose methods lack types
        self.label = label

    async def manager(self, member: str, signature: str = "", *body: object) -> Any:
        """Call a method of ``org.vnetd1.Manager``."""
        return await self.call(ROOT, MANAGER, member, signature, *body)

    async def get(self, path: str, interface: str, name: str) -> Any:
        """One property."""
        return await self.call(path, PROPERTIES, "Get", "ss", interface, name)

    async def get_all(self, path: str, interface: str) -> dict[str, Any]:
        """All properties, by their D-Bus names."""
        return cast("dict[str, Any]", await self.call(path, PROPERTIES, "GetAll", "s", interface))

    async def set(self, path: str, interface: str, name: str, value: object) -> None:
        """Change a property; a ``bool`` or text."""
        await self.call(path, PROPERTIES, "Set", "ssv", interface, name, variant(value))

    async def call(self, path: str, interface: str, member: str, signature: str = "", *body: object) -> Any:
        """Call a method of vnetd: its one result without variants, a list of several, or None."""
        return await self._call(NAME, path, interface, member, signature, body)

    async def open_tap(self, network: str, spec: Mapping[str, Variant]) -> int:
        """A tap with one queue in this network; the caller owns the descriptor.

        Needs a connection that was made with ``descriptors``.
        """
        reply = await self._message(NAME, ROOT, MANAGER, "OpenTap", "sa{sv}", (network, spec))
        (tap,) = reply.unix_fds
        return int(tap)

    async def call_bus(self, member: str, signature: str = "", *body: object) -> Any:
        """Call a method of the message bus itself."""
        return await self._call(BUS, BUS_PATH, BUS, member, signature, body)

    def on_signal(self, listener: Callable[[Message], None]) -> None:
        """Call ``listener`` for every signal the connection receives; which it does say the bus's match rules."""

        def handler(message: Message) -> None:
            if message.message_type is MessageType.SIGNAL:
                listener(message)

        self._bus.add_message_handler(handler)

    async def disconnected(self) -> None:
        """Return when the bus itself has gone."""
        # Whatever ended it, the connection is over.
        await asyncio.wait([asyncio.ensure_future(self._bus.wait_for_disconnect())])

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: tuple[object, ...]
    ) -> Any:
        reply = await self._message(destination, path, interface, member, signature, body)
        values = [plain(value) for value in reply.body]
        return values[0] if len(values) == 1 else values or None

    async def _message(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: tuple[object, ...]
    ) -> Message:
        """The reply to a call, if it is no error."""
        _refuse_unsendable(body)
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            reply: Message | None = await asyncio.wait_for(self._bus.call(message), TIMEOUT)
        except TimeoutError:
            raise NoAnswer(f"vnetd did not answer {member} within {TIMEOUT:.0f} s") from None
        except (OSError, EOFError):
            raise NoAnswer(f"the {self.label} went away before vnetd answered") from None
        assert reply is not None, "a reply was asked for"
        if reply.message_type is MessageType.ERROR:
            text = reply.body[0] if reply.signature.startswith("s") else ""
            raise from_bus(reply.error_name, text, self.label)
        return reply


@asynccontextmanager
async def connected(bus: str, *, descriptors: bool = False) -> AsyncIterator[Daemon]:
    """A connection to ``system``, ``session`` or the bus at a D-Bus address. Raises ``NoAnswer``.

    With ``descriptors`` replies may carry file descriptors.
    """
    # The library logs what it then also raises; the user gets one line.
    logging.getLogger().addHandler(logging.NullHandler())
    label = f"{bus} bus" if bus in {"system", "session"} else f"bus at {bus}"
    try:
        connection: Any = _bus(bus, descriptors)
        await asyncio.wait_for(connection.connect(), TIMEOUT)
    except (OSError, EOFError, TimeoutError, AuthError) as error:
        raise NoAnswer(f"cannot reach the {label}: {_reason(error)}") from None
    except (InvalidAddressError, KeyError, ValueError) as error:
        code = Exit.UNREACHABLE if bus in {"system", "session"} else Exit.USAGE
        raise CommandError(f"cannot reach the {label}: {_reason(error)}", code) from None
    try:
        yield Daemon(connection, label)
    finally:
        connection.disconnect()


def _bus(bus: str, descriptors: bool) -> MessageBus:
    if bus == "system":
        return _Bus(bus_type=BusType.SYSTEM, negotiate_unix_fd=descriptors)
    if bus == "session":
        return _Bus(bus_type=BusType.SESSION, negotiate_unix_fd=descriptors)
    return _Bus(bus_address=bus, negotiate_unix_fd=descriptors)


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text or type(error).__name__)


def _refuse_unsendable(value: object) -> None:
    """Text that the bus would end the connection for: D-Bus takes UTF-8 without NUL."""
    if isinstance(value, str):
        if "\0" in value or not _encodable(value):
            raise CommandError(f"{printable(value[:60])!r} is no text that can be sent: UTF-8 without NUL is needed")
    elif isinstance(value, Mapping):
        for item in (*value.keys(), *value.values()):
            _refuse_unsendable(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_unsendable(item)
    elif isinstance(value, Variant):
        _refuse_unsendable(value.value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain(value: Any) -> Any:
    """A received value without its variants."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


class UInt(int):
    """A number that travels as an unsigned one."""


def variant(value: object) -> Variant:
    """A value of an ``a{sv}``: text, boolean, number or list of texts."""
    match value:
        case bool():
            return Variant("b", value)
        case UInt():
            return Variant("u", int(value))
        case int():
            return Variant("i", value)
        case list():
            return Variant("as", value)
    return Variant("s", value)


def options(values: Mapping[str, object]) -> dict[str, Variant]:
    """An ``a{sv}`` of what is given, that is, is not None."""
    return {name: variant(value) for name, value in values.items() if value is not None}
