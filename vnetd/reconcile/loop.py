"""The loop: every event of the host becomes a key to look at again.

Here is decided which target an event concerns, and nothing else: targets re-read the host themselves.
"""

from collections.abc import Callable
from functools import partial

from vnetd.host.events import (
    AddressEvent,
    FileEvent,
    HostEvent,
    LinkEvent,
    NamespaceEvent,
    Overflow,
    PasstEvent,
    ProcessEvent,
    RouteEvent,
    RulesEvent,
    SysctlEvent,
    TrafficEvent,
)
from vnetd.host.protocols import Host
from vnetd.plan.network import network_owner
from vnetd.plan.rules import FAMILIES, port_owner
from vnetd.reconcile.devices import Devices
from vnetd.reconcile.forwarding import ForwardingKeeper
from vnetd.reconcile.healer import Healer, Reporter
from vnetd.reconcile.rules import RulesKeeper
from vnetd.reconcile.surroundings import HostRoutes

LEASES = "leases"


class Loop:
    """Everything that keeps the host as desired, joined."""

    def __init__(
        self,
        host: Host,
        reporter: Reporter,
        leases_changed: Callable[[str], None],
        resolvers_changed: Callable[[], None],
    ) -> None:
        self.host = host
        self.devices = Devices()
        self.rules = RulesKeeper(host.nft)
        self.routes = HostRoutes(host.kernel, self.devices.names)
        self.forwarding = ForwardingKeeper(host.kernel, host.store, self.routes)
        self.healer = Healer(reporter)
        self._leases_changed = leases_changed
        self._resolvers_changed = resolvers_changed
        # A transaction of rules is reported whole: there is nothing to wait for.
        self.healer.add(self.rules, settle=0.0)
        self.rules.abandoned = partial(self.healer.forgive, self.rules.key)
        self.healer.add(self.forwarding)
        self.rules.mended = partial(self.healer.mended, self.rules.key)
        self.forwarding.mended = partial(self.healer.mended, self.forwarding.key)

    def listen(self) -> None:
        """Take events from now on."""
        self.host.events.subscribe(self.dispatch)

    def dispatch(self, event: HostEvent) -> None:
        """Find whom ``event`` concerns and have it looked at."""
        match event:
            case LinkEvent() | AddressEvent() | RouteEvent() | NamespaceEvent():
                self._device(event)
            case SysctlEvent():
                key = self.devices.key(event.index, event.name)
                self.healer.touch(key or self.forwarding.key, event.cause)
            case TrafficEvent():
                if key := self.devices.key(event.index, event.name):
                    self.healer.touch(key, event.cause)
            case RulesEvent():
                self.rules.suspect((event.family, event.kind, event.name))
                self.healer.touch(self.rules.key, event.cause)
            case ProcessEvent():
                self.healer.touch(network_owner(event.network))
            case PasstEvent():
                self.healer.touch(port_owner(event.port))
            case FileEvent():
                self._file(event)
            case Overflow():
                self._overflow(event)

    def touch_all(self) -> None:
        """Look at everything again."""
        self.routes.changed()
        for key in self.healer.known():
            self.healer.touch(key)

    def _device(self, event: LinkEvent | AddressEvent | RouteEvent | NamespaceEvent) -> None:
        if isinstance(event, NamespaceEvent):
            self._watched(event.name)
            return
        # What hangs on a device concerns only those who follow it by its number.
        self._watched(event.name if isinstance(event, LinkEvent) else "", event.index, event.cause)
        if key := self.devices.key(event.index, event.name):
            self.healer.touch(key, event.cause)
        else:
            # Foreign: uplinks and taken subnets may be others now.
            self.routes.changed()
            self.healer.touch(self.forwarding.key, event.cause)

    def _watched(self, name: str, index: int = 0, cause: str = "") -> None:
        for watcher in self.devices.watchers(name, index):
            self.healer.touch(watcher, cause)

    def _file(self, event: FileEvent) -> None:
        if not event.network:
            self._resolvers_changed()
        elif event.name == LEASES:
            self._leases_changed(event.network)
        else:
            self.healer.touch(network_owner(event.network))

    def _overflow(self, event: Overflow) -> None:
        if event.source == "nftables":
            for family in FAMILIES:
                self.rules.suspect((family, "table", ""))
            self.healer.touch(self.rules.key)
        else:
            self.touch_all()
