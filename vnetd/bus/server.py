"""The D-Bus front end as a whole: connects, owns ``org.vnetd1``, answers calls, sends signals."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from vnetd.bus import contracts as names
from vnetd.bus.authorization import Authority, Authorization, GroupAuthority, connection_name
from vnetd.bus.calls import Handlers
from vnetd.bus.capabilities import CapabilityListing
from vnetd.bus.connection import Connection, connect
from vnetd.bus.contracts import Contract, load_contracts
from vnetd.bus.dispatch import Dispatcher
from vnetd.bus.errors import wire_error
from vnetd.bus.frames import Frame
from vnetd.bus.listing import Listing
from vnetd.bus.manager import Manager
from vnetd.bus.members import BindingMembers, FilterMembers, NetworkMembers, PortMembers, SwitchMembers
from vnetd.bus.objects import Objects
from vnetd.bus.signals import Signals
from vnetd.bus.standard import IntrospectableMembers, ObjectManagerMembers, PeerMembers, PropertiesMembers
from vnetd.model.errors import Busy
from vnetd.service.api import Services
from vnetd.service.views import Notice

BUS_NAME = "org.vnetd1"
PATIENCE = 30  # seconds that changes under way are given when the daemon stops
BATCH = 8  # pieces of news that are told before calls have their turn

log = logging.getLogger(__name__)


def _log_loss(error: Exception) -> None:
    log.error("lost the message bus: %s", error)


class BusServer:
    """Serves ``services`` on a bus: ``system``, ``session`` or a D-Bus address. Make it on the running event loop.

    ``lost`` is called once, on the loop's thread, if the connection ends other than by ``stop``; the server cannot
    be used after that. ``authority`` decides who may change something; by default root and members of group vnetd.
    """

    def __init__(
        self,
        services: Services,
        bus: str,
        *,
        authority: Authority | None = None,
        lost: Callable[[Exception], None] = _log_loss,
    ) -> None:
        self._services = services
        self._bus = bus
        self._authority = authority if authority is not None else GroupAuthority()
        self._on_lost = lost
        self._contracts = load_contracts()
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._dispatcher: Dispatcher | None = None
        self._signals: Signals | None = None
        self._told = 0
        self._news: deque[Notice] = deque()
        self._authorization: Authorization | None = None
        self._bus_id = ""
        self._tasks: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def start(self) -> None:
        """Connect and own the name; when this returns, calls are answered.

        Raises ``HostError`` if the bus cannot be reached, ``InUse`` if another process owns the name, ``Denied`` if
        the bus does not let us have it.
        """
        connection = await connect(self._bus, self._on_call, self._lost, self._vanished)
        self._connection = connection
        try:
            await self._own_tasks()
            await self._build(connection)
            await connection.watch_clients()
            await self._look_who_left(connection)
            await connection.own(BUS_NAME)
        except BaseException:
            await self.stop()
            raise
        log.info("owning %s on bus %s as %s", BUS_NAME, self._bus, connection.unique_name)

    async def stop(self) -> None:
        """Take no more calls, let those that began finish, and leave the bus. May be called at any time."""
        self._dispatcher = None
        self._end.set()
        if self._runner is not None:
            _, pending = await asyncio.wait([self._runner], timeout=PATIENCE)
            if pending:
                log.warning("calls are still being worked on after %d s, and are cancelled", PATIENCE)
                self._runner.cancel()
                await asyncio.wait([self._runner])
        while self._news:
            self._tell(self._news.popleft())
        self._signals = None
        if self._connection is not None:
            await self._connection.flush()
            self._connection.abandon()

    async def _own_tasks(self) -> None:
        ready = asyncio.Event()

        async def run() -> None:
            async with asyncio.TaskGroup() as self._tasks:
                ready.set()
                await self._end.wait()

        self._runner = asyncio.create_task(run(), name="bus calls")
        await ready.wait()

    async def _build(self, connection: Connection) -> None:
        objects = Objects(self._services, self._contracts)
        listing = Listing(objects, connection.room)
        capabilities = CapabilityListing(self._services, connection.ask)
        self._signals = Signals(objects, self._contracts, capabilities, connection.send_signal)
        self._services.subscribe(self._announce)
        self._bus_id = await connection.ask("GetId", "")
        self._authorization = Authorization(connection.ask, self._authority, self._bus_id)
        handlers = build_handlers(
            self._services,
            self._contracts,
            objects,
            listing,
            connection.discard,
            capabilities,
            self._signals.announce_capabilities,
        )
        await listing.warm()
        self._dispatcher = Dispatcher(self._contracts, handlers, objects, self._authorization, connection, self._spawn)

    async def _look_who_left(self, connection: Connection) -> None:
        """Clients may have left, and the whole bus may have been another, while no daemon ran."""
        for name in sorted(self._services.connections()):
            bus, _, sender = name.rpartition("/")
            if bus != self._bus_id or not await connection.ask("NameHasOwner", "s", sender):
                self._services.left(name)

    def _spawn(self, call: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None, "calls are dispatched after the start"
        self._tasks.create_task(call)

    def _on_call(self, frame: Frame) -> None:
        if self._dispatcher is not None:
            self._dispatcher.handle(frame)
        elif self._connection is not None:
            busy = Busy("vnetd is starting or stopping; try again in a moment")
            self._connection.send_error(frame, *wire_error(busy, frame.member))

    def _announce(self, notice: Notice) -> None:
        """Signal it at once: who caused it knows it when he is answered. But much of it, piece by piece.

        A rule that hundreds of networks share is news of each of them.
        """
        if not self._told:
            self._loop.call_soon(self._tell_more)
        self._told += 1
        if self._told <= BATCH:
            self._tell(notice)
        else:
            self._news.append(notice)

    def _tell_more(self) -> None:
        self._told = min(BATCH, len(self._news))
        for _ in range(self._told):
            self._tell(self._news.popleft())
        if self._told:
            self._loop.call_soon(self._tell_more)

    def _tell(self, notice: Notice) -> None:
        try:
            if self._signals is not None:
                self._signals.announce(notice)
        except Exception:  # others wait for theirs, whatever happens here
            log.exception("could not announce %s", notice)

    def _vanished(self, name: str) -> None:
        if self._authorization is not None:
            self._authorization.forget(name)
            self._services.left(connection_name(self._bus_id, name))

    def _lost(self, error: Exception) -> None:
        self._signals = None
        self._on_lost(error)


def build_handlers(
    services: Services,
    contracts: dict[str, Contract],
    objects: Objects,
    listing: Listing,
    discard: Callable[[tuple[int, ...]], None],
    capabilities: CapabilityListing,
    announce_capabilities: Callable[[], Awaitable[None]],
) -> dict[str, Handlers]:
    """The handlers of every interface, by interface and member."""
    return {
        names.MANAGER: Manager(services, listing, discard, announce_capabilities).handlers(),
        names.NETWORK: NetworkMembers(services.networks).handlers(),
        names.SWITCH: SwitchMembers(services.switches).handlers(),
        names.FILTER: FilterMembers(services.filters).handlers(),
        names.PORT: PortMembers(services.ports).handlers(),
        names.BINDING: BindingMembers(services.filters).handlers(),
        names.PROPERTIES: PropertiesMembers(services, objects, contracts, capabilities).handlers(),
        names.INTROSPECTABLE: IntrospectableMembers(objects, contracts).handlers(),
        names.PEER: PeerMembers().handlers(),
        names.OBJECT_MANAGER: ObjectManagerMembers(listing).handlers(),
    }
