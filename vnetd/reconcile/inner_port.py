"""One port that is wholly in its guest's namespace: a macvlan or ipvlan there, on top of a device of the host.

What the guest does inside is the guest's, to give the device another name included. The port ends with its device,
whichever takes that away: the guest, the end of the namespace, the end of the lower device.
"""

from vnetd.host.events import NamespaceEvent
from vnetd.plan.kernel import DeleteLink
from vnetd.reconcile.port import Inside, PortTarget, Seen


class InnerPortTarget(PortTarget):
    """Watches one port."""

    async def _converge(self, seen: Seen | None) -> tuple[str, ...]:
        """See whether its device is there still; nothing of it is repaired."""
        want, inside = self.desired, self._inside
        for name in (inside.lower, NamespaceEvent(inside.number).name):
            self._devices.watch(name, self.key)
        if await self._host.namespaces.link(inside.number, inside.name, want.alias) is None:
            await self.clear()  # what never came to be in the namespace is here still
            self._watcher.ended(want.uuid)
        return ()

    async def take_down(self) -> None:
        """Delete the device."""
        await self.clear()

    async def clear(self) -> None:
        """Nothing of the device is to be left, wherever its way ended."""
        want, inside = self.desired, self._inside
        await self._host.namespaces.delete(inside.number, inside.name, want.alias)
        await self._host.kernel.apply([DeleteLink(want.device, want.alias)])
        await super().clear()

    @property
    def _inside(self) -> Inside:
        assert isinstance(self.desired.plug, Inside)
        return self.desired.plug
