"""The objects on the bus: their paths, properties and rows in lists, all derived from the services' views."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args
from uuid import UUID

from dbus_next.signature import Variant

from vnetd.bus.contracts import BINDING, FILTER, NETWORK, PORT, SWITCH, Contract
from vnetd.bus.errors import ProtocolError
from vnetd.bus.marshalling import Entries, encode_entries, encode_text_entry, join_entries
from vnetd.bus.values import encode_plain
from vnetd.model.errors import NotFound
from vnetd.service.api import Services
from vnetd.service.views import AddressView, LeaseView, ObjectKind, View

ROOT = "/org/vnetd1"
KINDS: tuple[ObjectKind, ...] = get_args(ObjectKind)
INTERFACES: Mapping[ObjectKind, str] = {
    "network": NETWORK,
    "switch": SWITCH,
    "filter": FILTER,
    "port": PORT,
    "binding": BINDING,
}


@lru_cache(maxsize=4096)
def object_path(kind: ObjectKind, uuid: UUID) -> str:
    """The path of an object: its UUID with ``_`` for ``-``, which a path may not have."""
    return f"{ROOT}/{kind}/{str(uuid).replace('-', '_')}"


# By interface: property name → its value in a view. Types are the contracts'.
PROPERTIES: Mapping[ObjectKind, Mapping[str, Callable[[Any], Any]]] = {
    "network": {
        "Name": lambda v: v.name,
        "UUID": lambda v: str(v.uuid),
        "Mode": lambda v: v.mode,
        "State": lambda v: v.state,
        "Active": lambda v: v.active,
        "Persistent": lambda v: v.persistent,
        "Autostart": lambda v: v.autostart,
        "Bridge": lambda v: v.bridge,
        "Addresses": lambda v: list(v.addresses),
        "Ports": lambda v: [object_path("port", uuid) for uuid in v.ports],
        "Problems": lambda v: list(v.problems),
        "HealedCount": lambda v: v.healed_count,
    },
    "switch": {
        "Name": lambda v: v.name,
        "UUID": lambda v: str(v.uuid),
        "State": lambda v: v.state,
        "Active": lambda v: v.active,
        "Persistent": lambda v: v.persistent,
        "Autostart": lambda v: v.autostart,
        "Unconfirmed": lambda v: v.unconfirmed,
        "Bridge": lambda v: v.bridge,
        "Uplinks": lambda v: list(v.uplinks),
        "Ports": lambda v: [object_path("port", uuid) for uuid in v.ports],
        "Problems": lambda v: list(v.problems),
        "HealedCount": lambda v: v.healed_count,
    },
    "filter": {"Name": lambda v: v.name, "UUID": lambda v: str(v.uuid), "UsedBy": lambda v: list(v.used_by)},
    "port": {
        "UUID": lambda v: str(v.uuid),
        "Network": lambda v: object_path("network", v.network),
        "NetworkName": lambda v: v.network_name,
        "Device": lambda v: v.device,
        "Kind": lambda v: v.kind,
        "State": lambda v: v.state,
        "MAC": lambda v: v.mac,
        "Filter": lambda v: v.filter,
        "Bandwidth": lambda v: encode_plain(v.bandwidth),
        "Isolated": lambda v: v.isolated,
        "PortGroup": lambda v: v.portgroup,
        "Owner": lambda v: v.owner,
        "Lifetime": lambda v: v.lifetime,
        "LinkUp": lambda v: v.link_up,
        "Problems": lambda v: list(v.problems),
    },
    "binding": {
        "UUID": lambda v: str(v.uuid),
        "Device": lambda v: v.device,
        "Filter": lambda v: v.filter,
        "Parameters": lambda v: {name: Variant("as", list(values)) for name, values in v.parameters.items()},
        "MAC": lambda v: v.mac,
    },
}


SEEN: Mapping[str, Callable[[Any], Any]] = {"Ports": lambda v: v.ports}
"""What tells whether a property changed where its value, of a thousand paths, is dear to make."""


def _encoded(name: str, signature: str, value: Any) -> bytes:
    return encode_entries("a{sv}", {name: Variant(signature, value)})


_kept = lru_cache(maxsize=256)(_encoded)


def _entry(name: str, signature: str, value: Any) -> bytes:
    if isinstance(value, str):
        return encode_text_entry(name, signature, value)
    return _kept(name, signature, value) if isinstance(value, int) else _encoded(name, signature, value)


@dataclass(frozen=True, slots=True)
class Address:
    """Where an object path leads: ``kind`` is that of an object, ``manager``, or ``branch`` for a path above some."""

    kind: str
    uuid: UUID | None = None


_BRANCHES = {"/": Address("branch"), "/org": Address("branch"), ROOT: Address("manager")}
_BRANCHES |= {f"{ROOT}/{kind}": Address("branch") for kind in KINDS}
_OBJECT = re.compile(rf"{ROOT}/({'|'.join(KINDS)})/([0-9a-f]{{8}}(?:_[0-9a-f]{{4}}){{3}}_[0-9a-f]{{12}})")


def parse_path(path: str) -> Address | None:
    """Where ``path`` leads, None if nowhere; the object itself need not exist."""
    if path in _BRANCHES:
        return _BRANCHES[path]
    found = _OBJECT.fullmatch(path)
    return Address(found[1], UUID(found[2].replace("_", "-"))) if found else None


class Objects:
    """Views from the services, and their properties in the contracts' types."""

    def __init__(self, services: Services, contracts: Mapping[str, Contract]) -> None:
        self._services = services
        self._contracts = contracts

    def find(self, kind: str, uuid: UUID) -> View:
        """Raises ``ProtocolError`` (UnknownObject) if there is none."""
        try:
            return self._get(kind, str(uuid))
        except NotFound:
            raise ProtocolError("UnknownObject", f"there is no {kind} {uuid}") from None

    def _get(self, kind: str, ref: str) -> View:
        match kind:
            case "network":
                return self._services.networks.get(ref)
            case "switch":
                return self._services.switches.get(ref)
            case "filter":
                return self._services.filters.get(ref)
            case "port":
                return self._services.ports.get(ref)
            case _:
                return self._services.filters.binding(ref)

    def all(self, kind: ObjectKind) -> tuple[View, ...]:
        """Every object of a kind."""
        match kind:
            case "network":
                return self._services.networks.list()
            case "switch":
                return self._services.switches.list()
            case "filter":
                return self._services.filters.list()
            case "port":
                return self._services.ports.list()
            case "binding":
                return self._services.filters.bindings()

    def property(self, kind: ObjectKind, view: View, name: str) -> Variant:
        """One property; ``name`` is in the contract."""
        return Variant(self._contracts[INTERFACES[kind]].properties[name].signature, PROPERTIES[kind][name](view))

    def properties(self, kind: ObjectKind, view: View) -> dict[str, Variant]:
        """All properties."""
        return {name: self.property(kind, view, name) for name in PROPERTIES[kind]}

    def entries(self, kind: ObjectKind, view: View) -> Entries:
        """All properties, encoded: most of a port's are those of other ports."""
        described = self._contracts[INTERFACES[kind]].properties
        values = ((name, described[name].signature, value(view)) for name, value in PROPERTIES[kind].items())
        return Entries(join_entries(_entry(*one) for one in values))

    def changes(self, kind: ObjectKind, before: View, after: View) -> tuple[dict[str, Variant], list[str]]:
        """The properties that differ, and the names of those whose values are not announced."""
        described = self._contracts[INTERFACES[kind]].properties
        seen = {name: SEEN.get(name, value) for name, value in PROPERTIES[kind].items()}
        names = [name for name, value in seen.items() if value(before) != value(after)]
        values = {name: self.property(kind, after, name) for name in names if not described[name].invalidates}
        return values, [name for name in names if described[name].invalidates]

    def row(self, kind: ObjectKind, view: View) -> dict[str, Variant]:
        """What lists show: path, name, and every property under its name in lower case."""
        name = getattr(view, "name", None) or getattr(view, "device", "")
        row = {"path": Variant("o", object_path(kind, view.uuid)), "name": Variant("s", name)}
        return row | {_lower(name): value for name, value in self.properties(kind, view).items()}


def _lower(property_name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", property_name).lower()


def lease_row(lease: LeaseView) -> dict[str, Variant]:
    """A lease as ``GetLeases`` and the lease signals show it."""
    return {
        "address": Variant("s", lease.address),
        "prefix": Variant("u", lease.prefix),
        "family": Variant("s", lease.family),
        "mac": Variant("s", lease.mac),
        "hostname": Variant("s", lease.hostname),
        "client_id": Variant("s", lease.client_id),
        "expiry": Variant("t", lease.expiry),
        "iaid": Variant("s", lease.iaid),
    }


def address_row(address: AddressView) -> dict[str, Variant]:
    """An address as ``GetAddresses`` shows it."""
    return {
        "address": Variant("s", address.address),
        "family": Variant("s", address.family),
        "source": Variant("s", address.source),
        "age": Variant("u", address.age),
    }
