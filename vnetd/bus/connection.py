"""One connection to a message bus: dbus-next's, with its reader, writer and dispatch replaced.

Found by test in dbus-next 0.2.3, to which this is pinned: its writer takes a full socket for a broken one; its
service methods do not learn who calls; errors carry tracebacks; queued descriptors are numbers. So method calls never
reach its own dispatch. It still does addresses, authentication, its own calls and their replies.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageType
from dbus_next.errors import DBusError
from dbus_next.message import Message

from vnetd.bus.errors import BusLost
from vnetd.bus.frames import METHOD_CALL, SIGNAL, Frame, FrameReader, decode_trusted
from vnetd.bus.marshalling import encode_error, encode_return, encode_signal
from vnetd.bus.writer import Writer
from vnetd.model.errors import Denied, HostError, InUse

DBUS = "org.freedesktop.DBus"
DBUS_PATH = "/org/freedesktop/DBus"
READ_SIZE = 64 << 10  # bytes
BATCH = 16  # messages handled before the loop may look after something else: about 2 ms
TIMEOUT = 10  # seconds until the bus must have let us in

log = logging.getLogger(__name__)


class Connection(MessageBus):
    """A connection whose incoming calls go to ``on_call``, and whose loss goes to ``on_lost``.

    ``on_vanished`` is told the unique name of every client that leaves the bus, once ``watch_clients`` has been
    called. All callbacks run on the loop's thread.
    """

    _writer: Writer  # type: ignore[assignment]

    def __init__(
        self,
        bus: str,
        on_call: Callable[[Frame], None],
        on_lost: Callable[[Exception], None],
        on_vanished: Callable[[str], None] = lambda name: None,
    ) -> None:
        kinds = {"system": BusType.SYSTEM, "session": BusType.SESSION}
        address = "" if bus in kinds else bus
        super().__init__(address, kinds.get(bus, BusType.SYSTEM), negotiate_unix_fd=True)
        self._writer = Writer(self._sock, self._finalize, self._go_on)
        self._on_call = on_call
        self._on_lost = on_lost
        self._on_vanished = on_vanished
        self._frames = FrameReader()
        self._paused = False
        self._serials = itertools.count(1)

    def next_serial(self) -> int:
        """A serial for the next message: 32 bits, never 0."""
        return next(self._serials) % 0xFFFFFFFF + 1

    # Sending

    def send_return(self, call: Frame, signature: str, body: bytes, fds: tuple[int, ...] = ()) -> None:
        """Answer ``call`` unless it wants no answer; takes over ``fds`` in any case."""
        if call.wants_reply:
            self._writer.put(encode_return(call, self.next_serial(), signature, body, len(fds)), fds)
        else:
            self.discard(fds)

    def send_error(self, call: Frame, name: str, sentence: str) -> None:
        """Refuse ``call`` unless it wants no answer."""
        if call.wants_reply:
            self._writer.put(encode_error(call, self.next_serial(), name, sentence))

    def discard(self, fds: tuple[int, ...]) -> None:
        """Close descriptors that are not sent."""
        self._writer.discard(fds)

    def send_signal(self, path: str, interface: str, member: str, signature: str, values: Sequence[Any]) -> None:
        """Broadcast a signal."""
        self._writer.put(encode_signal(self.next_serial(), path, interface, member, signature, values))

    async def room(self) -> None:
        """Return when the bus has taken so much that large answers may be made."""
        await self._writer.room()

    async def flush(self) -> None:
        """Return when everything has been handed to the bus, or the connection is lost."""
        await self._writer.drained()

    # Asking the bus

    async def ask(self, member: str, signature: str, *values: Any) -> Any:
        """The first value of the answer of the bus itself to ``member``.

        Raises ``dbus_next.DBusError`` when the bus refuses, ``BusLost`` when it is gone.
        """
        message = Message(DBUS, DBUS_PATH, DBUS, member, signature=signature, body=list(values))
        reply = await self.call(message)
        if reply is None:
            raise BusLost(f"the message bus went away during {member}")
        if reply.message_type is MessageType.ERROR:
            raise DBusError(reply.error_name, str(reply.body[0]) if reply.body else "", reply)  # type: ignore[no-untyped-call]
        return reply.body[0] if reply.body else None

    async def watch_clients(self) -> None:
        """Have ``on_vanished`` called from now on."""
        await self.ask(
            "AddMatch", "s", f"type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg2=''"
        )

    async def own(self, name: str) -> None:
        """Become the owner of ``name``. Raises ``InUse`` if somebody else is, ``Denied`` if the bus forbids it."""
        do_not_queue, exists = 4, 3
        try:
            if await self.ask("RequestName", "su", name, do_not_queue) != exists:
                return
            owner = await self.ask("GetConnectionUnixProcessID", "s", name)
        except DBusError as error:
            if error.type == f"{DBUS}.Error.AccessDenied":
                raise Denied(
                    f"the message bus does not let uid {os.getuid()} own {name}: install {name}.conf where the bus "
                    "reads its policy"
                ) from error
            raise HostError("own bus name", name, str(error)) from error
        raise InUse(f"{name} is owned by process {owner} already: is another vnetd running on this bus?")

    # Receiving

    def _message_reader(self) -> None:
        try:
            # Without room for control data the kernel throws away descriptors that are sent along: no call takes any.
            data = self._sock.recv(READ_SIZE)
            if not data:
                raise BusLost("the message bus closed the connection")
            self._frames.feed(data)
            self._work()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finalize(error)

    def _work(self) -> None:
        """Handle some of what has come in. Reads on only when that is all handled, and the answers are on their way."""
        for _ in range(BATCH):
            frame = None if self._disconnected or self._writer.congested else self._frames.take()
            if frame is None:
                break
            self._handle(frame)
        else:
            self._loop.call_soon(self._go_on)
            self._pause(True)
            return
        if not self._disconnected:
            self._pause(self._writer.congested)

    def _go_on(self) -> None:
        try:
            self._work()
        except BusLost as error:
            self._finalize(error)

    def _pause(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            if paused:
                self._loop.remove_reader(self._fd)
            else:
                self._loop.add_reader(self._fd, self._message_reader)

    def _handle(self, frame: Frame) -> None:
        try:
            if frame.type == METHOD_CALL:
                self._on_call(frame)
            elif frame.sender == DBUS:  # we call nobody else, and listen to nobody else
                self._from_bus(frame)
        except Exception:
            log.exception("could not handle a message from %s", frame.sender)

    def _from_bus(self, frame: Frame) -> None:
        values = decode_trusted(frame)
        if frame.type == SIGNAL:
            if frame.member == "NameOwnerChanged" and not values[2]:
                self._on_vanished(values[0])
            return
        reply = Message(
            message_type=MessageType(frame.type),
            reply_serial=frame.reply_serial,
            error_name=frame.error_name or None,  # type: ignore[arg-type]
            sender=frame.sender,
            signature=frame.signature,
            body=values,
        )
        self._process_message(reply)  # type: ignore[no-untyped-call]

    # Coming and going

    def _setup_socket(self) -> None:
        try:
            super()._setup_socket()  # type: ignore[no-untyped-call]
        except BaseException:
            self._close_socket()
            raise

    async def _auth_readline(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):  # dbus-next's own spins for ever here when the bus hangs up
            part = await self._loop.sock_recv(self._sock, 2)
            if not part:
                raise BusLost("the message bus closed the connection during authentication")
            line += part
        return line[:-2].decode()

    def _finalize(self, err: Exception | None = None) -> None:
        if self._disconnected:
            return
        super()._finalize(err)  # type: ignore[no-untyped-call]
        self._writer.close()
        self._close_socket()
        if not self._disconnect_future.cancelled():
            self._disconnect_future.exception()  # seen: it is reported through on_lost
        if not self._user_disconnect:
            self._on_lost(err if err is not None else BusLost("the message bus connection ended"))

    def abandon(self) -> None:
        """End the connection now, without a word to anybody."""
        self._user_disconnect = True
        self._finalize(None)

    def _close_socket(self) -> None:
        for closable in (getattr(self, "_stream", None), getattr(self, "_sock", None)):
            if closable is not None:
                closable.close()


async def connect(
    bus: str,
    on_call: Callable[[Frame], None],
    on_lost: Callable[[Exception], None],
    on_vanished: Callable[[str], None],
) -> Connection:
    """A working connection to ``bus``: ``system``, ``session`` or a D-Bus address.

    Raises ``HostError`` when there is no bus or it does not let us in.
    """
    connection = None
    try:
        connection = Connection(bus, on_call, on_lost, on_vanished)
        async with asyncio.timeout(TIMEOUT):
            await connection.connect()
        return connection
    except BaseException as error:
        if connection is not None:
            connection.abandon()
        if isinstance(error, TimeoutError):
            raise HostError("connect to message bus", bus, f"no answer within {TIMEOUT} s") from error
        if isinstance(error, Exception):  # dbus-next raises bare KeyErrors and ValueErrors for bad addresses
            raise HostError("connect to message bus", bus, str(error) or type(error).__name__) from error
        raise
