"""A bridge vnetd made, followed by its index: it stays ours whatever name or alias somebody gives it."""

from vnetd.host.protocols import Kernel
from vnetd.plan.kernel import CreateBridge
from vnetd.plan.links import Link
from vnetd.reconcile.identity import recovered


class OwnBridge:
    """The bridge of a network or switch."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._index = 0  # once it was seen with our tag

    @property
    def known(self) -> bool:
        """Whether it was seen."""
        return self._index != 0

    async def recover(self, bridge: CreateBridge) -> tuple[str, ...]:
        """Give it its name and alias back if somebody changed them: only what carries both is deleted."""
        there = await self._kernel.link(bridge.name)
        _, repaired = await recovered(self._kernel, there, bridge.name, bridge.alias, self._index)
        return repaired

    def is_ours(self, bridge: CreateBridge, link: Link | None) -> bool:
        """Whether this link is it; one with our tag is from now on."""
        if link and link.alias == bridge.alias:
            self._index = link.index
        return link is not None and link.index == self._index
