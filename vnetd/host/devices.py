"""Narrow protocols of what stands beside bridges: macvtap devices, virtual functions, passt processes."""

from collections.abc import Callable, Sequence
from typing import Protocol

from vnetd.host.commit import Commit
from vnetd.plan.functions import Function
from vnetd.plan.kernel import CreateMacvlan, SetLink, WriteSysctl
from vnetd.plan.links import Link
from vnetd.plan.passt import PasstInstance

Placing = Callable[[Link, Link], Sequence[SetLink]]
"""What is to be done to a new link on a lower one, as both are."""


class Macvtaps(Protocol):
    """The character devices of macvtap links."""

    async def open(
        self,
        name: str,
        lower: str,
        mac: str,
        queues: int,
        vnet_hdr: bool,
        first: Sequence[SetLink | CreateMacvlan | WriteSysctl] = (),
        commit: Commit | None = None,
        placing: Placing | None = None,
    ) -> tuple[list[int], tuple[Link, Link]]:
        """Do ``first``, which makes it, and open the macvtap with this name and MAC; then ``commit``, and ``placing``;
        and how it and ``lower`` are after that.

        There is one fd a queue, and the caller owns them. If it fails, what was done of ``first`` stays.
        """
        ...

    async def grant(self, name: str, index: int, owner: int, group: int) -> str:
        """Give its device node to a user and a group (-1: nobody); the node's path. ``Unsupported`` without one."""
        ...

    async def held(self, name: str, index: int) -> bool:
        """Whether anybody has it open; if so, a ``LinkEvent`` of it tells when one is closed."""
        ...


class Functions(Protocol):
    """Virtual functions of network cards."""

    async def of(self, pf: str) -> tuple[Function, ...]:
        """Those of a card, by number. ``NotFound`` if there is no such card."""
        ...

    async def at(self, pci: str) -> Function:
        """The one with this PCI address. ``NotFound`` if there is none, ``Invalid`` for another kind of device."""
        ...


class Passt(Protocol):
    """passt processes, one a port, named by the port's UUID. The end of one is a ``PasstEvent``."""

    def socket(self, port: str) -> str:
        """Path of the socket a port's passt listens on."""
        ...

    async def adopt(self) -> tuple[str, ...]:
        """Take over processes an earlier run of the daemon started; the ports they serve."""
        ...

    async def start(self, instance: PasstInstance) -> None:
        """Start one and return once it listens; ends one that runs for the port already. ``Unsupported`` without it."""
        ...

    async def serves(self, instance: PasstInstance) -> bool:
        """Whether the port's passt runs with just these arguments and listens."""
        ...

    async def stop(self, port: str) -> None:
        """End the port's passt and remove its directory; none is no error."""
        ...
