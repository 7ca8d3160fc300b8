"""A bridge vnetd made, followed by its index: it stays ours whatever name or alias somebody gives it."""

from vnetd.host.protocols import Kernel
from vnetd.plan.kernel import CreateBridge
from vnetd.plan.links import Link
from vnetd.reconcile.identity import recovered
from vnetd.reconcile.repairs import Repairs


class OwnBridge:
    """The bridge of a network or switch."""

    def __init__(self, kernel: Kernel, repairs: Repairs) -> None:
        self._kernel = kernel
        self._repairs = repairs
        self._index = 0  # once it was seen with our tag

    @property
    def known(self) -> bool:
        """Whether it was seen."""
        return self._index != 0

    async def recover(self, bridge: CreateBridge) -> bool:
        """Give it its name and alias back if somebody changed them, for only what carries both is deleted; whether
        somebody had.
        """
        there = await self._kernel.link(bridge.name)
        ours = await recovered(self._kernel, there, bridge.name, bridge.alias, self._index, self._repairs)
        return ours is not None and ours != there

    def is_ours(self, bridge: CreateBridge, link: Link | None) -> bool:
        """Whether this link is it; one with our tag is from now on."""
        if link and link.alias == bridge.alias:
            self._index = link.index
        return link is not None and link.index == self._index
