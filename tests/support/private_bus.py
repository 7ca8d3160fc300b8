"""A message bus of one's own, with vnetd's shipped policy on top of what a system bus allows, and clients for it."""

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio.message_bus import MessageBus
from dbus_next.auth import AuthExternal
from dbus_next.constants import BusType
from dbus_next.message import Message

TOP = Path(__file__).resolve().parents[2]
POLICY = TOP / "dbus" / "org.vnetd1.conf"
NAME = "org.vnetd1"
NOBODY = 65534
VNETD_GROUP = 64_990
"""Number of the group vnetd, where fixture ``vnetd_group`` has made it."""
GROUP = "games"  # stands for vnetd in tests: a group that every Debian has

CONFIGURATION = """<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  {policy}
  <limit name="max_replies_per_connection">50000</limit>
</busconfig>
"""


@dataclass(frozen=True)
class PrivateBus:
    """A running bus daemon."""

    address: str
    process: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End the bus under everybody's feet."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def busctl(self, *arguments: str, uid: int = 0, groups: Sequence[int] = ()) -> "subprocess.CompletedProcess[str]":
        """Run busctl on this bus, as another user if wanted."""
        return self.run("busctl", f"--address={self.address}", *arguments, uid=uid, groups=groups)

    def run(self, *command: str, uid: int = 0, groups: Sequence[int] = ()) -> "subprocess.CompletedProcess[str]":
        """Run a program as a user."""
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            user=uid or None,
            group=uid or None,
            extra_groups=list(groups) if uid else None,
        )

    async def acall(self, *arguments: str, uid: int = 0, groups: Sequence[int] = ()) -> str:
        """What busctl prints, or its error; in a thread, so that a server in this process can answer."""
        done = await asyncio.to_thread(self.busctl, *arguments, uid=uid, groups=groups)
        return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()


@contextmanager
def private_bus(policy: bool = True, more: str = "") -> Iterator[PrivateBus]:
    """A dbus-daemon on a socket in a temporary directory, with or without vnetd's own policy, and ``more`` of it."""
    with tempfile.TemporaryDirectory(prefix="vnetd-bus-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        address = f"unix:path={folder}/bus"
        include = f"<include>{POLICY}</include>" if policy else ""
        configuration = folder / "bus.conf"
        configuration.write_text(CONFIGURATION.format(socket=folder / "bus", policy=include + more))
        read, write = os.pipe()
        process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile", f"--print-address={write}"],
            pass_fds=[write],
        )
        os.close(write)
        with open(read) as ready:
            ready.readline()
        try:
            yield PrivateBus(address, process)
        finally:
            process.kill()
            process.wait()


class _External(AuthExternal):  # type: ignore[misc]
    """dbus-next's own says the uid of the process, which is not that of the socket."""

    def __init__(self, uid: int) -> None:
        super().__init__()
        self._uid = uid

    def _authentication_start(self, negotiate_unix_fd: bool = False) -> str:
        super()._authentication_start(negotiate_unix_fd)
        return f"AUTH EXTERNAL {str(self._uid).encode().hex()}"


@contextmanager
def _acting_as(uid: int, groups: Sequence[int]) -> Iterator[None]:
    """The bus asks the kernel who it was that opened the socket."""
    own = os.getgroups()
    if uid:
        os.setgroups(groups)
        os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setgroups(own)


@asynccontextmanager
async def client_of(bus: PrivateBus, uid: int = 0, groups: Sequence[int] = ()) -> AsyncIterator[MessageBus]:
    """A client of that user, dbus-next's own, which leaves its socket open when it goes."""
    with _acting_as(uid, groups):
        client = MessageBus(bus.address, BusType.SYSTEM, _External(uid), negotiate_unix_fd=True)
    connection = await client.connect()
    try:
        yield connection
    finally:
        connection.disconnect()
        await connection.wait_for_disconnect()
        connection._stream.close()
        connection._sock.close()


class RawClient:
    """A blocking client that says what it is told to, however rude, and reads what comes back."""

    def __init__(self, bus: PrivateBus) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(bus.address.partition("path=")[2])
        self.socket.settimeout(30)
        self.serial = 0
        self._received = bytearray()
        self._authenticate()
        self.call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="Hello",
            )
        )

    def _authenticate(self) -> None:
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        self._line()
        self.socket.sendall(b"NEGOTIATE_UNIX_FD\r\n")
        self._line()
        self.socket.sendall(b"BEGIN\r\n")

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.socket.recv(1)
        return line

    def encode(self, message: Message) -> bytes:
        """The bytes of a message with the next serial."""
        self.serial += 1
        message.serial = self.serial
        return bytes(message._marshall(negotiate_unix_fd=True))

    def send(self, message: Message, fds: Sequence[int] = ()) -> int:
        """Send one message; returns its serial."""
        message.unix_fds = list(fds)
        data = self.encode(message)
        if fds:
            socket.send_fds(self.socket, [data], list(fds))
        else:
            self.socket.sendall(data)
        return message.serial

    def receive(self) -> Message:
        """The next message."""
        while True:
            message = self._next()
            if message is not None:
                return message
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError("the bus closed the connection")
            self._received += data

    def _next(self) -> Message | None:
        buffer = self._received
        if len(buffer) < 16:
            return None
        body, fields = int.from_bytes(buffer[4:8], "little"), int.from_bytes(buffer[12:16], "little")
        size = 16 + fields + (-fields % 8) + body
        if len(buffer) < size:
            return None
        message: Message = Unmarshaller(BytesIO(bytes(buffer[:size]))).unmarshall()
        del buffer[:size]
        return message

    def call(self, message: Message, fds: Sequence[int] = ()) -> Message:
        """Send a call and return its answer."""
        return self.answer_to(self.send(message, fds))

    def answer_to(self, serial: int) -> Message:
        """The answer to a call; what comes before it is dropped."""
        while True:
            answer = self.receive()
            if answer.reply_serial == serial:
                return answer

    def flood(self, messages: Sequence[Message]) -> dict[int, Message]:
        """Send all without reading in between more than the socket forces us to; the answers by serial."""
        data = memoryview(b"".join(self.encode(message) for message in messages))
        wanted = {message.serial for message in messages}
        self.socket.settimeout(0)
        answers: dict[int, Message] = {}
        try:
            while data:
                try:
                    data = data[self.socket.send(data[: 1 << 16]) :]
                except BlockingIOError:
                    self._drain()
        finally:
            self.socket.settimeout(30)
        while wanted - answers.keys():
            answer = self.receive()
            if answer.reply_serial in wanted:
                answers[answer.reply_serial] = answer
        return answers

    def _drain(self) -> None:
        try:
            self._received += self.socket.recv(1 << 20)
        except BlockingIOError:
            self.socket.settimeout(0.01)
            try:
                self._received += self.socket.recv(1 << 20)
            except TimeoutError:
                pass
            finally:
                self.socket.settimeout(0)

    def close(self) -> None:
        """Leave the bus."""
        self.socket.close()


def method_call(path: str, interface: str | None, member: str, signature: str = "", *body: Any) -> Message:
    """A call to vnetd."""
    return Message(
        destination=NAME, path=path, interface=interface, member=member, signature=signature, body=list(body)
    )
