"""``host.Taps`` in memory: links of kind ``tun`` in a ``MemoryKernel``, real fds of /dev/null for queues."""

import errno
import os
from collections.abc import Sequence

from support.memory_calls import Call, Hook, nothing
from support.memory_kernel import MemoryKernel
from support.memory_nft import MemoryCommit

from vnetd.model.errors import HostError
from vnetd.plan.kernel import SetLink, WriteSysctl
from vnetd.plan.links import Link, TunState

LARGEST_ID = (1 << 32) - 2


class MemoryTaps:
    """Taps that exist as long as an fd is open, or for good if persistent."""

    def __init__(self, kernel: MemoryKernel) -> None:
        self._kernel = kernel
        self.step: Hook = nothing
        """Awaited within a call, before each further thing it does."""
        self._queues: dict[int, int] = {}
        self._lent: dict[int, int] = {}

    async def open(
        self, name: str, queues: int, vnet_hdr: bool, owner: int = 0, then: Sequence[SetLink | WriteSysctl] = ()
    ) -> list[int]:
        """Make a tap with one fd a queue."""
        if not 1 <= queues <= 256:
            raise HostError("create tap", name, errno.E2BIG)
        if not 1 <= len(name.encode()) <= 15 or "%" in name or not -1 <= owner <= LARGEST_ID:
            raise HostError("create tap", name, errno.EINVAL)
        if self._kernel.find(name) is not None:
            raise HostError("create tap", name, errno.EBUSY)
        index = self._kernel.create(name, "tun", tun=TunState(False, owner, -1, queues if queues > 1 else None))
        fds = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(queues)]
        self._queues |= dict.fromkeys(fds, index)
        try:
            for operation in then:
                await self.step(Call(f"kernel.{type(operation).__name__}", (operation,)))
                await self._kernel.apply([operation])
        except BaseException:
            await self.close(fds)
            raise
        return fds

    async def open_seen(
        self,
        name: str,
        queues: int,
        vnet_hdr: bool,
        then: Sequence[SetLink | WriteSysctl],
        look: Sequence[str],
        placing: Sequence[SetLink] = (),
        commit: MemoryCommit | None = None,
    ) -> tuple[list[int], tuple[Link | None, ...]]:
        """Make a tap, place it and look at links."""
        if commit is not None:
            await commit.act()
        fds = await self.open(name, queues, vnet_hdr, then=then)
        try:
            await self._kernel.place(placing, self.step)
            await self.step(Call("kernel.links_named", tuple(look)))
            return fds, await self._kernel.links_named(look)
        except BaseException:
            await self.close(fds)
            raise

    async def keep(self, name: str, fds: Sequence[int], group: int) -> None:
        """Have a tap stay."""
        if not -1 <= group <= LARGEST_ID:
            raise HostError("keep tap", name, errno.EINVAL)
        self.tamper(name, persist=True, group=group)
        await self.close(fds)

    def lend(self, index: int) -> int:
        """An fd of a link that stays when it is closed, for macvtaps."""
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._lent[fd] = index
        return fd

    def is_lent(self, index: int) -> bool:
        """Whether such an fd of the link is open."""
        return index in self._lent.values()

    async def close(self, fds: Sequence[int]) -> None:
        """Close fds; a tap goes with its last one, unless it is persistent."""
        for fd in fds:
            if (lower := self._lent.pop(fd, None)) is not None:
                os.close(fd)
                self._kernel.stir(lower)
                continue
            index = self._queues.pop(fd, None)
            if index is None:
                raise HostError("close", "tap", errno.EBADF)
            os.close(fd)
            self._lose_queue(index)

    def tamper(self, name: str, **changes: object) -> None:
        """What whoever holds a queue can do: change ``TunState``."""
        self._kernel.change_tun(name, **changes)

    async def reclaim(self, name: str) -> bool:
        """Delete it if nobody holds it."""
        entry = self._kernel.find(name)
        if entry is None or entry.link.index in self._queues.values():
            return False
        self._kernel.remove(entry.link.index)
        return True

    def _lose_queue(self, index: int) -> None:
        entry = self._kernel.entries.get(index)
        if entry is None:
            return
        tap, left = entry.link, list(self._queues.values()).count(index)
        assert tap.tun is not None
        if not left and not tap.tun.persist:
            self._kernel.remove(index)
        else:
            self._kernel.change_tun(tap.name, queues=None if tap.tun.queues is None else left)
