"""Namespaces of guests, in memory."""

import errno
import os
from collections.abc import Callable, Sequence

from support.memory_calls import Call, Hook, nothing
from support.memory_kernel import MemoryKernel
from support.memory_nft import MemoryCommit

from vnetd.host.events import HostEvent, NamespaceEvent
from vnetd.model.base import IPAddress, IPInterface
from vnetd.model.errors import HostError, NotFound
from vnetd.plan.kernel import CreateVeth, SetLink, WriteSysctl
from vnetd.plan.links import Link


class MemoryNamespaces:
    """Namespaces of guests, by name; ``raised`` are the devices set up inside, ``inside`` those moved there."""

    def __init__(self, kernel: MemoryKernel, announce: Callable[[HostEvent], None]) -> None:
        self._kernel = kernel
        self._announce = announce
        self.step: Hook = nothing
        """Awaited within a call, before each further thing it does."""
        self.names = {"guest"}
        self.owners: dict[str, int | None] = {os.devnull: 0}
        self.inside: dict[str, Link] = {}
        self.raised: list[str] = []
        self.configured: dict[str, list[str]] = {}
        """Addresses and gateways by device."""

    async def open(self, reference: str) -> int:
        """A descriptor of one that exists."""
        if reference not in self.names:
            raise NotFound(f"there is no network namespace {reference!r}")
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    async def configure_peer(
        self, netns: int, name: str, *, addresses: Sequence[IPInterface] = (), gateways: Sequence[IPAddress] = ()
    ) -> None:
        """Address a device inside, set it up and route through it."""
        os.fstat(netns)  # an error for one that was closed
        self.raised.append(name)
        self.configured[name] = [str(one) for one in (*addresses, *gateways)]

    async def make_pair(
        self,
        pair: CreateVeth,
        *,
        then: Sequence[WriteSysctl] = (),
        look: Sequence[str] = (),
        addresses: Sequence[IPInterface] = (),
        gateways: Sequence[IPAddress] = (),
        placing: Sequence[SetLink] = (),
        commit: MemoryCommit | None = None,
    ) -> tuple[Link | None, ...]:
        """Make a pair of which one end is in the kernel in memory, and place that."""
        if commit is not None:
            await commit.act()
        await self._kernel.apply([pair])
        for write in then:
            await self.step(Call("kernel.WriteSysctl", (write,)))
            await self._kernel.apply([write])
        await self.step(Call("namespaces.configure_peer", (pair.peer_netns, pair.peer_name)))
        await self.configure_peer(pair.peer_netns, pair.peer_name, addresses=addresses, gateways=gateways)
        await self._kernel.place(placing, self.step)
        await self.step(Call("kernel.links_named", tuple(look)))
        return await self._kernel.links_named(look)

    async def owner(self, netns: int) -> int | None:
        """Whoever a test says: by name of the namespace."""
        return self.owners[os.readlink(f"/proc/self/fd/{netns}")]

    async def number(self, netns: int) -> int:
        """There is one namespace."""
        os.fstat(netns)
        return 0

    async def move(self, netns: int, device: str, name: str) -> None:
        """Take a link away and keep it here; where its name is taken, under its own."""
        entry = self._kernel.find(device)
        if entry is None:
            raise HostError("move link", device, errno.ENODEV)
        taken = name in self.inside
        self.inside[device if taken else name] = entry.link
        self._kernel.remove(entry.link.index)
        if taken:
            raise HostError("move link", device, errno.EEXIST)

    async def link(self, number: int, name: str, alias: str) -> Link | None:
        """One that is here; it is not if its lower device went."""
        here = self.inside.values() if number == 0 else ()
        return next((link for link in here if link.alias == alias and link.lower in self._kernel.entries), None)

    async def delete(self, number: int, name: str, alias: str) -> None:
        """Take one away."""
        if link := await self.link(number, name, alias):
            self.inside = {name: one for name, one in self.inside.items() if one is not link}
            self._announce(NamespaceEvent(number))

    def rename(self, name: str, new: str) -> None:
        """Who lives there gives a link another name."""
        self.inside[new] = self.inside.pop(name)

    def vanish(self) -> None:
        """The namespace ends with all that is in it."""
        self.inside.clear()
        self._announce(NamespaceEvent(0))
