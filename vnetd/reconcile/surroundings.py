"""What the host's own networking looks like: its routes, read once and again only after they changed."""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from vnetd.host.protocols import Kernel
from vnetd.model.base import IPNetwork
from vnetd.model.errors import InUse
from vnetd.model.spans import span_of
from vnetd.plan.links import HostRoute


class HostRoutes:
    """The host's routes but those over vnetd's own bridges, which ``own_devices`` names."""

    def __init__(self, kernel: Kernel, own_devices: Callable[[], AbstractSet[str]]) -> None:
        self._kernel = kernel
        self._own_devices = own_devices
        self._routes: tuple[HostRoute, ...] | None = None

    def changed(self) -> None:
        """Forget what was read: a route or address of a foreign link changed."""
        self._routes = None

    async def all(self) -> tuple[HostRoute, ...]:
        """Every foreign route, read anew only after ``changed``."""
        if self._routes is None:
            routes = await self._kernel.host_routes()
            own = self._own_devices()
            self._routes = tuple(route for route in routes if route.device not in own)
        return self._routes

    async def refuse_clash(self, subnets: Iterable[IPNetwork]) -> None:
        """Raise ``InUse`` naming the interface if a subnet overlaps one the host already routes to.

        Default routes overlap everything and say nothing about what is used; link-local subnets are on every link.
        """
        routes = [r for r in await self.all() if r.destination.prefixlen and not r.destination.is_link_local]
        spans = [span_of(route.destination) for route in routes]
        for subnet in subnets:
            wanted = span_of(subnet)
            for route, span in zip(routes, spans, strict=True):
                if wanted.overlaps(span):
                    raise InUse(
                        f"subnet {subnet} is already in use by interface {route.device} "
                        f"(route {route.destination}): choose another subnet"
                    )
