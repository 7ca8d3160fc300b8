"""``host.Taps`` in memory: links of kind ``tun`` in a ``MemoryKernel``, real fds of /dev/null for queues."""

import errno
import os
from collections.abc import Sequence

from support.memory_kernel import MemoryKernel

from vnetd.model.errors import HostError


class MemoryTaps:
    """Taps that exist as long as an fd is open, or for good if persistent; ``owners`` has those by name."""

    def __init__(self, kernel: MemoryKernel) -> None:
        self._kernel = kernel
        self._queues: dict[int, int] = {}
        self.owners: dict[str, tuple[int, int]] = {}

    async def open(self, name: str, queues: int, vnet_hdr: bool) -> list[int]:
        """Make a tap with one fd a queue."""
        if not 1 <= queues <= 256:
            raise HostError("create tap", name, errno.E2BIG)
        index = self._create(name)
        fds = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(queues)]
        self._queues |= dict.fromkeys(fds, index)
        return fds

    async def create_persistent(self, name: str, owner: int, group: int, vnet_hdr: bool) -> None:
        """Make a tap that stays."""
        self._create(name)
        self.owners[name] = (owner, group)

    async def close(self, fds: Sequence[int]) -> None:
        """Close fds; a tap goes with its last one."""
        for fd in fds:
            index = self._queues.pop(fd, None)
            if index is None:
                raise HostError("close", "tap", errno.EBADF)
            os.close(fd)
            if index not in self._queues.values():
                self._kernel.remove(index)

    def _create(self, name: str) -> int:
        if not 1 <= len(name.encode()) <= 15 or "%" in name:
            raise HostError("create tap", name, errno.EINVAL)
        if self._kernel.find(name) is not None:
            raise HostError("create tap", name, errno.EBUSY)
        return self._kernel.create(name, "tun")
