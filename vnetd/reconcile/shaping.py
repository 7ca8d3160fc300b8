"""Keeps the limits of one device's traffic as desired."""

from vnetd.model.errors import InUse
from vnetd.plan.kernel import DeleteLink
from vnetd.plan.links import Link
from vnetd.plan.shaping import Limited, Shaping, plan_shaping
from vnetd.plan.traffic import Traffic
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.repairs import Repairs


class Shaper:
    """Limits of the device of one target; used with the target's lock held.

    A device that shall have none and never had costs nothing, and what others set there stays.
    """

    def __init__(self, loop: Loop, key: str, repairs: Repairs) -> None:
        self._kernel = loop.host.kernel
        self._devices = loop.devices
        self._key = key
        self._repairs = repairs
        self._limited = False

    def doubt(self) -> None:
        """An earlier run of the daemon may have left limits that shall not be."""
        self._limited = True

    def concerned(self, want: Shaping | None) -> bool:
        """Whether there is anything to look at."""
        return want is not None and (self._limited or not want.empty)

    async def converge(self, device: Link, want: Shaping | None, spare: frozenset[str] = NOTHING) -> None:
        """Make the device's limits the wanted ones but for what is spared. Raises ``HostError``, ``InUse``."""
        if want is None or not self.concerned(want):
            return
        self._limited = True
        if want.away.classes:
            self._devices.claim(want.ifb, self._key)
        plan = plan_shaping(device.name, want, await self._observe(device.name, want))
        steps = [(what, operation) for what, operation in plan if what not in spare]
        self._repairs.begin(*(what for what, _ in steps))
        await self._kernel.apply([operation for _, operation in steps])
        self._limited = not want.empty

    async def clear(self, want: Shaping | None) -> None:
        """The device is gone, or goes: what its traffic went through goes too."""
        if want and self._limited:
            await self._kernel.apply([DeleteLink(want.ifb, want.alias)])
            self._limited = False

    async def _observe(self, device: str, want: Shaping) -> Limited:
        traffic = await self._kernel.traffic(device)
        ifb = await self._kernel.link(want.ifb)
        if ifb and ifb.kind != "ifb":
            raise InUse(f"{want.ifb} is no ifb and not vnetd's: remove it, limits of {device} need that name")
        beside = await self._kernel.traffic(want.ifb) if ifb else None
        return Limited(traffic or Traffic(), ifb, beside or Traffic())
