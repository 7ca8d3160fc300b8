"""The interfaces every D-Bus object has: properties, introspection, peer, object manager."""

from collections.abc import Awaitable, Mapping
from pathlib import Path

from dbus_next.signature import Variant

from vnetd import __version__
from vnetd.bus.calls import DONE, Call, Handlers, Reply
from vnetd.bus.capabilities import CapabilityListing
from vnetd.bus.contracts import (
    DOCTYPE,
    INTROSPECTABLE,
    MANAGER,
    OBJECT_MANAGER,
    PEER,
    PROPERTIES,
    Contract,
    Property,
)
from vnetd.bus.errors import ProtocolError
from vnetd.bus.listing import Listing
from vnetd.bus.objects import INTERFACES, KINDS, ROOT, Address, Objects, object_path
from vnetd.service.api import Services
from vnetd.service.views import ObjectKind

CAPABILITIES = "Capabilities"
MACHINE_ID = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


def interfaces_at(address: Address | None) -> tuple[str, ...]:
    """The interfaces of the object at an address; a path that leads nowhere still answers a ping."""
    match address:
        case None:
            return (PEER,)
        case Address("branch"):
            return (INTROSPECTABLE, PEER)
        case Address("manager"):
            return (MANAGER, OBJECT_MANAGER, PROPERTIES, INTROSPECTABLE, PEER)
        case Address(kind):
            return (INTERFACES[_kind(kind)], PROPERTIES, INTROSPECTABLE, PEER)


def _kind(name: str) -> ObjectKind:
    return next(kind for kind in KINDS if kind == name)


class PropertiesMembers:
    """``org.freedesktop.DBus.Properties``."""

    def __init__(
        self,
        services: Services,
        objects: Objects,
        contracts: Mapping[str, Contract],
        capabilities: CapabilityListing,
    ) -> None:
        self._services = services
        self._capabilities = capabilities
        self._objects = objects
        self._contracts = contracts

    def handlers(self) -> Handlers:
        """Every method of the interface."""
        return {"Get": self.get, "GetAll": self.get_all, "Set": self.set}

    def get(self, call: Call) -> Reply | Awaitable[Reply]:
        interface, name = call.values
        wanted = self._find(call, interface, name)
        if name == CAPABILITIES:
            return self._capability_value()
        return Reply([self._value(call, wanted)])

    def get_all(self, call: Call) -> Reply | Awaitable[Reply]:
        (interface,) = call.values
        known = self._own(call, interface)
        values = {name: self._value(call, wanted) for name, wanted in known.items() if name != CAPABILITIES}
        return self._with_capabilities(values) if CAPABILITIES in known else Reply([values])

    async def _capability_value(self) -> Reply:
        return Reply([await self._capabilities.value()])

    async def _with_capabilities(self, values: dict[str, Variant]) -> Reply:
        return Reply([{**values, CAPABILITIES: await self._capabilities.value()}])

    async def set(self, call: Call) -> Reply:
        interface, name, value = call.values
        wanted = self._find(call, interface, name)
        if not wanted.writable:
            raise ProtocolError("PropertyReadOnly", f"property {name} cannot be set")
        if value.signature != wanted.signature:
            raise ProtocolError("InvalidArgs", f"{name} has type '{wanted.signature}', not '{value.signature}'")
        assert name == "Autostart", f"nothing sets {name}"
        is_switch = call.address is not None and call.address.kind == "switch"
        service = self._services.switches if is_switch else self._services.networks
        await service.set_autostart(call.caller, call.uuid, value.value)
        return DONE

    def _own(self, call: Call, interface: str) -> Mapping[str, Property]:
        """The properties of an interface of the object, of its own one if ``interface`` is empty."""
        here = interfaces_at(call.address)
        if interface and interface not in here:
            raise ProtocolError("UnknownInterface", f"{call.frame.path} has no interface {interface}")
        return self._contracts[interface or here[0]].properties

    def _find(self, call: Call, interface: str, name: str) -> Property:
        known = self._own(call, interface)
        if name not in known:
            raise ProtocolError("UnknownProperty", f"{call.frame.path} has no property {name}")
        return known[name]

    def _value(self, call: Call, wanted: Property) -> Variant:
        if call.view is not None and call.address is not None:
            return self._objects.property(_kind(call.address.kind), call.view, wanted.name)
        assert wanted.name == "Version", f"nobody knows {wanted.name}"
        return Variant("s", __version__)


class IntrospectableMembers:
    """``org.freedesktop.DBus.Introspectable``: the contracts, word for word."""

    def __init__(self, objects: Objects, contracts: Mapping[str, Contract]) -> None:
        self._objects = objects
        self._contracts = contracts

    def handlers(self) -> Handlers:
        """Every method of the interface."""
        return {"Introspect": self.introspect}

    def introspect(self, call: Call) -> Reply:
        assert call.address is not None, "a path that leads nowhere has no introspection"
        interfaces = [self._contracts[name].xml for name in interfaces_at(call.address)]
        children = [f'<node name="{name}"/>' for name in self._children(call.frame.path)]
        return Reply([DOCTYPE + "\n".join(["<node>", *interfaces, *children, "</node>", ""])])

    def _children(self, path: str) -> list[str]:
        match path:
            case "/":
                return ["org"]
            case "/org":
                return ["vnetd1"]
            case _ if path == ROOT:
                return list(KINDS)
        kind = path.rpartition("/")[2]
        if kind not in KINDS:
            return []
        return [object_path(_kind(kind), view.uuid).rpartition("/")[2] for view in self._objects.all(_kind(kind))]


class PeerMembers:
    """``org.freedesktop.DBus.Peer``."""

    def handlers(self) -> Handlers:
        """Every method of the interface."""
        return {"Ping": self.ping, "GetMachineId": self.get_machine_id}

    def ping(self, _: Call) -> Reply:
        return DONE

    def get_machine_id(self, _: Call) -> Reply:
        for path in MACHINE_ID:
            try:
                return Reply([path.read_text(encoding="ascii").strip()])
            except (OSError, UnicodeDecodeError):
                continue
        raise ProtocolError("Failed", f"this machine has no id in {MACHINE_ID[0]}")


class ObjectManagerMembers:
    """``org.freedesktop.DBus.ObjectManager``, at the root."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def handlers(self) -> Handlers:
        """Every method of the interface."""
        return {"GetManagedObjects": self.get_managed_objects}

    async def get_managed_objects(self, _: Call) -> Reply:
        return Reply(encoded=await self._listing.managed())
