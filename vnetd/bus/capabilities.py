"""What the host can do, as the property ``Capabilities``: the services' part, and who else is on the bus."""

from collections.abc import Awaitable, Callable
from typing import Any

from dbus_next.errors import DBusError
from dbus_next.signature import Variant

from vnetd.model.capability import Capability
from vnetd.service.api import Services

NEIGHBOURS = {
    "systemd": "org.freedesktop.systemd1",
    "polkit": "org.freedesktop.PolicyKit1",
    "resolved": "org.freedesktop.resolve1",
    "firewalld": "org.fedoraproject.FirewallD1",
    "networkmanager": "org.freedesktop.NetworkManager",
}
"""Services vnetd can work with, by the name they own."""


class CapabilityListing:
    """``ask`` puts a question to the bus (``Connection.ask``)."""

    def __init__(self, services: Services, ask: Callable[..., Awaitable[Any]]) -> None:
        self._services = services
        self._ask = ask
        self._last: Variant | None = None

    async def value(self) -> Variant:
        """Of the property: by name whether it can be done and why not, or which version is there."""
        self._last = await self._look()
        return self._last

    async def changed(self) -> Variant | None:
        """The value if it is another one than when it was last asked for; ``None`` if nobody ever did."""
        before = self._last
        return None if before is None or before == await self.value() else self._last

    async def _look(self) -> Variant:
        found = [*await self._services.capabilities(), *await self._neighbours()]
        return Variant("a{sv}", {one.name: Variant("(bs)", [one.ok, one.reason]) for one in found})

    async def _neighbours(self) -> list[Capability]:
        try:
            running, startable = set(await self._ask("ListNames", "")), set(await self._ask("ListActivatableNames", ""))
        except DBusError as error:
            return [Capability(name, False, f"the bus does not say who is there: {error}") for name in NEIGHBOURS]
        return [_neighbour(name, owned, running, startable) for name, owned in NEIGHBOURS.items()]


def _neighbour(name: str, owned: str, running: set[str], startable: set[str]) -> Capability:
    if owned in running:
        return Capability(name, True, f"{owned} is on the bus")
    if owned in startable:
        return Capability(name, True, f"{owned} is started by the bus when it is needed")
    return Capability(name, False, f"nobody owns {owned} on the bus, nor can the bus start it")
