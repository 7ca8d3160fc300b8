"""From a message to a reply: look up the member, authorise, decode, call, encode; every failure has one way out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Protocol

from vnetd.bus.authorization import Access, Authorization, Request
from vnetd.bus.calls import Call, Handler, Handlers, Reply
from vnetd.bus.contracts import Contract, Method
from vnetd.bus.errors import ProtocolError, wire_error
from vnetd.bus.frames import LARGEST_BODY, Frame, decode_body
from vnetd.bus.marshalling import encode_values
from vnetd.bus.objects import Address, Objects, parse_path
from vnetd.bus.standard import interfaces_at
from vnetd.service.views import Caller

MOST_HELD = 64 << 20  # bytes of calls that are being worked on
MOST_CALLS = 8192
INTERACTIVE = 4  # header flag ALLOW_INTERACTIVE_AUTHORIZATION
NOBODY = -1  # as uid: the bus was not asked

log = logging.getLogger(__name__)


class Answers(Protocol):
    """Where replies go (``Connection``)."""

    def send_return(self, call: Frame, signature: str, body: bytes, fds: tuple[int, ...] = ()) -> None: ...
    def send_error(self, call: Frame, name: str, sentence: str) -> None: ...
    def discard(self, fds: tuple[int, ...]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Target:
    """What a call is for, as its header says."""

    address: Address | None
    interface: str
    method: Method
    handler: Handler


class Dispatcher:
    """Answers calls. ``handlers`` are by interface; ``spawn`` runs a coroutine as a task that somebody owns."""

    def __init__(
        self,
        contracts: Mapping[str, Contract],
        handlers: Mapping[str, Handlers],
        objects: Objects,
        authorization: Authorization,
        answers: Answers,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._contracts = contracts
        self._handlers = handlers
        self._objects = objects
        self._authorization = authorization
        self._answers = answers
        self._spawn = spawn
        self._held = 0
        self._calls = 0

    def handle(self, frame: Frame) -> None:
        """Answer at once what only reads and does not wait; all else becomes a task."""
        try:
            target = self._target(frame)
            access = self._authorization.access(target.interface, frame.member)
            if access is Access.READ and not iscoroutinefunction(target.handler):
                call = self._decoded(frame, target, Caller(NOBODY, name=frame.sender))
                self._answer_now_or_later(frame, target, target.handler(call))
            else:
                self._hold(frame)
                self._spawn(self._run(frame, target, access))
        except Exception as error:
            self._refuse(frame, error)

    def _answer_now_or_later(self, frame: Frame, target: _Target, reply: Reply | Awaitable[Reply]) -> None:
        """Some reads have to wait for the host, depending on what they ask for."""
        if isinstance(reply, Reply):
            self._answer(frame, target.method, reply)
            return
        try:
            self._hold(frame)
        except ProtocolError:
            asyncio.ensure_future(reply).cancel()
            raise
        self._spawn(self._wait(frame, target, reply))

    async def _wait(self, frame: Frame, target: _Target, reply: Awaitable[Reply]) -> None:
        try:
            self._answer(frame, target.method, await reply)
        except Exception as error:
            self._refuse(frame, error)
        finally:
            self._release(frame)

    async def _run(self, frame: Frame, target: _Target, access: Access) -> None:
        """A caller that leaves meanwhile changes nothing: what it began is finished."""
        try:
            caller = Caller(NOBODY, name=frame.sender)
            if access is Access.CHANGE:
                request = Request(frame.sender, target.interface, frame.member, bool(frame.flags & INTERACTIVE))
                caller = await self._authorization.authorise(request)
            reply = target.handler(self._decoded(frame, target, caller))
            self._answer(frame, target.method, reply if isinstance(reply, Reply) else await reply)
        except Exception as error:
            self._refuse(frame, error)
        finally:
            self._release(frame)

    def _release(self, frame: Frame) -> None:
        self._calls -= 1
        self._held -= len(frame.body)

    def _hold(self, frame: Frame) -> None:
        if self._calls >= MOST_CALLS or self._held + len(frame.body) > MOST_HELD:
            raise ProtocolError("LimitsExceeded", "vnetd has too many calls to work on; wait for answers and try again")
        self._calls += 1
        self._held += len(frame.body)

    def _target(self, frame: Frame) -> _Target:
        address = parse_path(frame.path)
        here = interfaces_at(address)
        interface = frame.interface or self._implied_interface(frame.member, here)
        if interface not in here:
            if address is None:
                raise ProtocolError("UnknownObject", f"there is no object {frame.path}")
            raise ProtocolError("UnknownInterface", f"{frame.path} has no interface {interface}")
        method = self._contracts[interface].methods.get(frame.member)
        if method is None:
            raise ProtocolError("UnknownMethod", f"{interface} has no method {frame.member}")
        return _Target(address, interface, method, self._handlers[interface][frame.member])

    def _implied_interface(self, member: str, here: tuple[str, ...]) -> str:
        """A header may leave the interface out: it is the first one there that has the member."""
        for name in here:
            if member in self._contracts[name].methods:
                return name
        raise ProtocolError("UnknownMethod", f"no interface here has a method {member}")

    def _decoded(self, frame: Frame, target: _Target, caller: Caller) -> Call:
        takes, address = target.method.takes, target.address
        if frame.oversized:
            raise ProtocolError("LimitsExceeded", f"a call may have at most {LARGEST_BODY} bytes")
        if frame.signature != takes:
            raise ProtocolError("InvalidArgs", f"{frame.member} takes '{takes}', not '{frame.signature}'")
        view = self._objects.find(address.kind, address.uuid) if address and address.uuid else None
        return Call(frame, caller, address, view, decode_body(frame))

    def _answer(self, frame: Frame, method: Method, reply: Reply) -> None:
        try:
            body = reply.encoded if reply.encoded is not None else encode_values(method.gives, reply.values)
        except BaseException:
            self._answers.discard(reply.fds)
            raise
        self._answers.send_return(frame, method.gives, body, reply.fds)

    def _refuse(self, frame: Frame, error: Exception) -> None:
        interface = frame.interface.rpartition(".")[2]
        self._answers.send_error(frame, *wire_error(error, f"{interface}.{frame.member}"))
