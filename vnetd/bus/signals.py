"""What services announce, as D-Bus signals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from dbus_next.signature import Variant

from vnetd.bus.capabilities import CapabilityListing
from vnetd.bus.contracts import MANAGER, NETWORK, OBJECT_MANAGER, PORT, PROPERTIES, Contract
from vnetd.bus.objects import INTERFACES, KINDS, ROOT, Objects, address_row, lease_row, object_path
from vnetd.bus.values import encode_plain
from vnetd.service.views import (
    Added,
    AddressesChanged,
    AddressView,
    Changed,
    Healed,
    LeaseChange,
    LifecycleEvent,
    Notice,
    ObjectKind,
    Removed,
    View,
)

Send = Callable[[str, str, str, str, Sequence[Any]], None]


class Signals:
    """Turns notices into signals; knows what each object looked like when it was last announced.

    ``send`` takes path, interface, member, signature and values (``Connection.send_signal``).
    """

    def __init__(
        self, objects: Objects, contracts: Mapping[str, Contract], capabilities: CapabilityListing, send: Send
    ) -> None:
        self._objects = objects
        self._contracts = contracts
        self._send = send
        self._announced: dict[tuple[ObjectKind, UUID], View] = {
            (kind, view.uuid): view for kind in KINDS for view in objects.all(kind)
        }
        self._capabilities = capabilities

    def announce(self, notice: Notice) -> None:
        """Send the signals for one notice, if it shows in any."""
        match notice:
            case Added(kind, view):
                self._added(kind, view)
            case Changed(kind, view):
                self._changed(kind, view)
            case Removed(kind, view):
                self._removed(kind, view)
            case LeaseChange(network, _, added, lease):
                member = "LeaseAdded" if added else "LeaseRemoved"
                self._signal(object_path("network", network), NETWORK, member, [lease_row(lease)])
            case AddressesChanged(port, name, addresses):
                path = object_path("port", port)
                self._signal(path, PORT, "AddressesChanged", [[address_row(one) for one in addresses]])
                self._event("addresses", path, name, {"addresses": _named(addresses)})
            case Healed("network" | "switch" as kind, uuid, _, what, details):
                self._signal(object_path(kind, uuid), INTERFACES[kind], "Healed", [what, encode_plain(details)])
            case Healed(kind, uuid, name, what, details):
                self._event("healed", object_path(kind, uuid), name, {"what": what, **details})
            case LifecycleEvent(event, kind, uuid, name, details):
                self._event(event, object_path(kind, uuid), name, details)

    async def announce_capabilities(self) -> None:
        """Send ``PropertiesChanged`` if the host can do something else now than when last asked, if ever."""
        if (now := await self._capabilities.changed()) is not None:
            self._properties_changed(ROOT, MANAGER, {"Capabilities": now})

    def _added(self, kind: ObjectKind, view: View) -> None:
        self._announced[kind, view.uuid] = view
        interfaces = {INTERFACES[kind]: self._objects.entries(kind, view)}
        self._signal(ROOT, OBJECT_MANAGER, "InterfacesAdded", [object_path(kind, view.uuid), interfaces])

    def _changed(self, kind: ObjectKind, view: View) -> None:
        before = self._announced.get((kind, view.uuid))
        if before is None:
            self._added(kind, view)
            return
        self._announced[kind, view.uuid] = view
        changes, invalidated = self._objects.changes(kind, before, view)
        if changes or invalidated:
            self._properties_changed(object_path(kind, view.uuid), INTERFACES[kind], changes, invalidated)

    def _removed(self, kind: ObjectKind, view: View) -> None:
        self._announced.pop((kind, view.uuid), None)
        self._signal(ROOT, OBJECT_MANAGER, "InterfacesRemoved", [object_path(kind, view.uuid), [INTERFACES[kind]]])

    def _properties_changed(
        self, path: str, interface: str, changes: dict[str, Variant], invalidated: Sequence[str] = ()
    ) -> None:
        self._signal(path, PROPERTIES, "PropertiesChanged", [interface, changes, list(invalidated)])

    def _event(self, event: str, path: str, name: str, details: Mapping[str, str | int]) -> None:
        self._signal(ROOT, MANAGER, "Event", [event, path, name, encode_plain(details)])

    def _signal(self, path: str, interface: str, member: str, values: Sequence[Any]) -> None:
        self._send(path, interface, member, self._contracts[interface].signals[member], values)


def _named(addresses: Iterable[AddressView]) -> str:
    """Each once, however many sources tell it."""
    return " ".join(dict.fromkeys(one.address for one in addresses))
