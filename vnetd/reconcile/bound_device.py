"""A macvtap of somebody else's that is filtered: what leads its packets to the filter is at the device itself.

Before Linux 6.16 that goes with the device, and another device of the same name has nothing. So it is taken away when
the device is seen to be gone or another, and written for the one that is there.
"""

import asyncio

from vnetd.plan.links import Link
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.repairs import Repairs
from vnetd.ruleset.unbridged import entrance

MACVTAP = "macvtap"


def entrance_owner(uuid: str) -> str:
    """Owner of the rules at the device of a binding, and key of who keeps them there."""
    return f"entrance:{uuid}"


class BoundDeviceTarget:
    """Keeps the entrance to a filter at a device as long as that is there."""

    def __init__(self, loop: Loop, uuid: str, device: str, index: int = 0) -> None:
        """``index``: of the device that has its entrance already; 0 if that is not known."""
        self.key = entrance_owner(uuid)
        self.lock = asyncio.Lock()
        self.repairs = Repairs()
        self._loop = loop
        self._device = device
        self._index = index
        loop.devices.watch(device, self.key)
        loop.healer.add(self)

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """The entrance at the device that is there now: it follows the device, which is no repair to be spared."""
        link = await self._loop.host.kernel.link(self._device)
        index = link.index if link and filterable(link) else 0
        if self._index not in {0, index}:
            await self._loop.rules.put({self.key: None})
        if index and self._loop.rules.fragment(self.key) is None:
            await self._loop.rules.put({self.key: entrance(self._device)})
        self._index = index
        return ()

    async def end(self) -> None:
        """The binding goes: once this returns the entrance is not written again."""
        self._loop.healer.discard(self.key)
        self._loop.devices.release(self.key)
        async with self.lock:  # a look under way ends first
            pass


def filterable(link: Link) -> bool:
    """Whether filters can be at the device itself: what its guest sends leaves it, what is for the guest arrives."""
    return link.kind == MACVTAP
