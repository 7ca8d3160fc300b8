"""Calls of other services on a message bus, made by a worker thread: one after the other, each with a time limit."""

import os
import socket
from types import TracebackType
from typing import Any, Self

from dbus_next._private.address import get_bus_address, parse_address
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.constants import BusType, MessageFlag, MessageType
from dbus_next.errors import InvalidAddressError
from dbus_next.message import Message

DBUS, DBUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
KINDS = {"system": BusType.SYSTEM, "session": BusType.SESSION}


class CallRefused(OSError):
    """A service answered with an error: its ``name``, and the service's words."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words or name)
        self.name = name


class BusCalls:
    """A connection of one's own to a bus: ``system``, ``session`` or an address; ``patience`` is in seconds a message.

    It listens to nobody and can be called by nobody. Raises ``OSError`` if there is no bus, it does not let us in, or
    an answer does not come in time; after that it is of no use any more.
    """

    def __init__(self, bus: str, patience: float) -> None:
        self._socket = _connected(bus, patience)
        try:
            self._stream = self._socket.makefile("rb")
            self._serial = 0
            self._log_in()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._socket.close()

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: Any
    ) -> list[Any]:
        """The values of the answer. A service that does not run is not started for it. Raises ``CallRefused``."""
        self._serial += 1
        message = Message(
            destination,
            path,
            interface,
            member,
            flags=MessageFlag.NO_AUTOSTART,
            signature=signature,
            body=list(values),
            serial=self._serial,
        )
        self._socket.sendall(message._marshall())  # type: ignore[no-untyped-call]
        answer = self._answer(self._serial)
        if answer.message_type is MessageType.ERROR:
            raise CallRefused(answer.error_name, str(answer.body[0]) if answer.body else "")
        return list(answer.body)

    def ask(self, member: str, signature: str = "", *values: Any) -> Any:
        """The first value of the answer of the bus itself."""
        return self.call(DBUS, DBUS_PATH, DBUS, member, signature, *values)[0]

    def _log_in(self) -> None:
        uid = str(os.getuid()).encode().hex().encode()
        self._socket.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
        if not self._stream.readline().startswith(b"OK "):
            raise PermissionError("the message bus does not let us in")
        self._socket.sendall(b"BEGIN\r\n")
        self.ask("Hello")

    def _answer(self, serial: int) -> Message:
        while True:
            message: Message | None = Unmarshaller(self._stream).unmarshall()  # type: ignore[no-untyped-call]
            if message is None:
                raise ConnectionResetError("the message bus closed the connection")
            if message.reply_serial == serial:
                return message


def _connected(bus: str, patience: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(patience)
        address = get_bus_address(KINDS[bus]) if bus in KINDS else bus  # type: ignore[no-untyped-call]
        sock.connect(_place(address))
    except BaseException:
        sock.close()
        raise
    return sock


def _place(address: str) -> str:
    """Where the first Unix socket among a bus's addresses is. Raises ``OSError``."""
    try:
        ways = parse_address(address)  # type: ignore[no-untyped-call]
    except InvalidAddressError as error:
        raise FileNotFoundError(str(error)) from error
    for transport, options in ways:
        if transport == "unix" and "path" in options:
            return str(options["path"])
        if transport == "unix" and "abstract" in options:
            return f"\0{options['abstract']}"
    raise FileNotFoundError(f"{address} names no Unix socket")
