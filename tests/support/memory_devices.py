"""``host.Macvtaps``, ``host.Functions`` and ``host.Passt`` in memory."""

import errno
from collections.abc import Callable, Sequence

from support.memory_calls import Call, Hook, nothing
from support.memory_kernel import MemoryKernel
from support.memory_nft import MemoryCommit
from support.memory_taps import MemoryTaps

from vnetd.host.devices import Placing
from vnetd.host.events import HostEvent, PasstEvent
from vnetd.model.capability import refusal
from vnetd.model.errors import HostError, NotFound, Unsupported
from vnetd.plan.functions import Function
from vnetd.plan.kernel import CreateMacvlan, SetLink, WriteSysctl
from vnetd.plan.links import Link
from vnetd.plan.passt import PasstInstance


class MemoryMacvtaps:
    """Character devices of macvtap links; ``nodes`` says whether the host has device nodes for them."""

    def __init__(self, kernel: MemoryKernel, taps: MemoryTaps) -> None:
        self._kernel = kernel
        self._taps = taps
        self.step: Hook = nothing
        """Awaited within a call, before each further thing it does."""
        self.nodes = True
        self.owners: dict[str, tuple[int, int]] = {}

    async def open(
        self,
        name: str,
        lower: str,
        mac: str,
        queues: int,
        vnet_hdr: bool,
        first: Sequence[SetLink | CreateMacvlan | WriteSysctl] = (),
        commit: MemoryCommit | None = None,
        placing: Placing | None = None,
    ) -> tuple[list[int], tuple[Link, Link]]:
        """Descriptors, one a queue."""
        for operation in first:
            await self.step(Call(f"kernel.{type(operation).__name__}", (operation,)))
            await self._kernel.apply([operation])
        await self.step(Call("kernel.links_named", (name, lower)))
        link, below = await self._kernel.links_named((name, lower))
        await self.step(Call("macvtaps.queues", (name,)))
        if link is None or below is None or (link.mac, link.kind) != (mac, "macvtap"):
            raise HostError("open macvtap", name, errno.ENODEV)
        fds = [self._taps.lend(link.index) for _ in range(queues)]
        try:
            if commit is not None:
                await commit.act()
            for step in placing(link, below) if placing else ():
                await self.step(Call("kernel.SetLink", (step,)))
                await self._kernel.apply([step])
            return fds, await self._look(name, lower)
        except BaseException:
            await self._taps.close(fds)
            raise

    async def _look(self, name: str, lower: str) -> tuple[Link, Link]:
        link, below = await self._kernel.links_named((name, lower))
        if link is None or below is None:
            raise HostError("open macvtap", name, errno.ENODEV)
        return link, below

    async def grant(self, name: str, index: int, owner: int, group: int) -> str:
        """Note who owns the node."""
        if not self.nodes:
            raise Unsupported(f"there is no /dev/tap{index} on this host (no devtmpfs)")
        self.owners[name] = (owner, group)
        return f"/dev/tap{index}"

    async def held(self, name: str, index: int) -> bool:
        """Whether one of them is open."""
        return self._taps.is_lent(index)


class MemoryFunctions:
    """Virtual functions of cards; ``cards`` lists them by card."""

    def __init__(self) -> None:
        self.cards: dict[str, tuple[Function, ...]] = {}

    async def of(self, pf: str) -> tuple[Function, ...]:
        """Those of a card."""
        if pf not in self.cards:
            raise NotFound(f"there is no network card {pf!r} with virtual functions")
        return self.cards[pf]

    async def at(self, pci: str) -> Function:
        """The one at an address."""
        for function in (one for card in self.cards.values() for one in card):
            if function.pci == pci:
                return function
        raise NotFound(f"there is no PCI device {pci}")


class MemoryPasst:
    """Processes by port; ``missing``: the program is not installed."""

    def __init__(self, emit: Callable[[HostEvent], None]) -> None:
        self._emit = emit
        self.running: dict[str, PasstInstance] = {}
        self.missing = False

    def socket(self, port: str) -> str:
        """Where it listens."""
        return f"/run/vnetd/passt/{port}/socket"

    async def adopt(self) -> tuple[str, ...]:
        """Those that run."""
        return tuple(sorted(self.running))

    async def start(self, instance: PasstInstance) -> None:
        """Start one."""
        if self.missing:
            raise refusal("this port", "passt", "it is not installed: install it (package passt)")
        self.running[instance.port] = instance

    async def serves(self, instance: PasstInstance) -> bool:
        """Whether it runs just so."""
        return self.running.get(instance.port) == instance

    async def stop(self, port: str) -> None:
        """End one."""
        self.running.pop(port, None)

    def die(self, port: str) -> None:
        """One ends by itself."""
        del self.running[port]
        self._emit(PasstEvent(port))
