"""``LinuxKernel``: links, addresses, routes and sysctls of the network namespace the process runs in."""

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from vnetd.linux.addresses import read_addresses, read_host_routes, read_routes
from vnetd.linux.bridges import execute_on_bridge, read_port_vlans
from vnetd.linux.deleter import Deleter
from vnetd.linux.direct import execute_directly
from vnetd.linux.functions import read_functions
from vnetd.linux.links import NameLookup, read_link, read_link_at, read_links
from vnetd.linux.neighbours import execute_neighbour, read_neighbours
from vnetd.linux.netlink import DumpInterrupted, ReadSocket
from vnetd.linux.operations import execute, reporting
from vnetd.linux.possessions import execute_possession, read_possessions
from vnetd.linux.pyroute2_lean import IPRoute
from vnetd.linux.sysctl import read_sysctl
from vnetd.linux.threads import Worker
from vnetd.linux.traffic import execute_traffic
from vnetd.linux.traffic_state import read_traffic
from vnetd.model.errors import HostError
from vnetd.model.functions import VfState
from vnetd.plan.kernel import DeleteLink, Operation
from vnetd.plan.links import HostRoute, Link, LinkView, Neighbour, PortVlan
from vnetd.plan.possessions import Possessions
from vnetd.plan.traffic import Traffic

T = TypeVar("T")

DIRECT = (execute_directly, execute_on_bridge, execute_possession, execute_neighbour, execute_traffic)
"""Who executes operations without the library; each says whether it was his."""

log = logging.getLogger(__name__)


class Sockets:
    """What one worker thread talks to the kernel with; to be made and used on that thread only."""

    def __init__(self) -> None:
        self.read = ReadSocket()
        # No groups: this one hears only the answers to its requests. It is bound so that its port id is known.
        self.write = IPRoute(strict_check=True, groups=0)
        self.write.asyncore.socket.bind((0, 0))
        self.ports: frozenset[int] = frozenset({self.read.port, self.write.asyncore.socket.getsockname()[0]})

    def close(self) -> None:
        """Close both sockets."""
        self.read.close()
        self.write.close()


class LinuxKernel:
    """``host.protocols.Kernel`` on the real kernel. Make it with ``start``."""

    def __init__(self, worker: Worker, sockets: Sockets, deleter: Deleter) -> None:
        self._worker, self._sockets = worker, sockets
        self._deleter = deleter
        self._names = NameLookup()
        self._ports = sockets.ports | deleter.ports

    @classmethod
    async def start(cls) -> "LinuxKernel":
        """Start its thread and open all sockets in the caller's network namespace. Raises ``OSError``."""
        worker = Worker("vnetd-rtnl")
        try:
            return cls(worker, await worker.run(Sockets), Deleter())
        except BaseException:
            await worker.close()
            raise

    async def close(self) -> None:
        """Finish what is under way and end the threads."""
        await self._worker.close(self._sockets.close)
        await self._deleter.close()
        self._names.close()

    @property
    def ports(self) -> frozenset[int]:
        """Port ids of the request sockets: address and route events that carry one are echoes of ``apply``."""
        return self._ports

    async def view(self, name: str) -> LinkView | None:
        """The link ``name`` with its addresses and the routes through it that somebody set."""
        return await self._read(f"link {name}", lambda sock: _view(sock, name))

    async def view_with(
        self, name: str, sysctls: Sequence[tuple[str, ...]]
    ) -> tuple[LinkView | None, Mapping[tuple[str, ...], str | None]]:
        """``view``, and if there is the link these ``sysctls``, in one hop."""

        def read(sock: ReadSocket) -> tuple[LinkView | None, Mapping[tuple[str, ...], str | None]]:
            view = _view(sock, name)
            return view, _sysctls(sysctls) if view else {}

        return await self._read(f"link {name}", read)

    async def link(self, name: str) -> Link | None:
        """The link ``name`` alone."""
        return await self._read(f"link {name}", lambda sock: read_link(sock, name))

    def is_taken(self, name: str) -> bool:
        """Whether a link is called so now, an alternative name included. Raises ``HostError``."""
        with reporting("look for", f"link {name}"):
            return self._names.is_taken(name)

    def mtu(self, name: str) -> int | None:
        """The MTU of the link ``name``, ``None`` if there is none. Raises ``HostError``."""
        with reporting("read MTU of", name):
            return self._names.mtu(name)

    async def links_named(self, names: Sequence[str]) -> tuple[Link | None, ...]:
        """The links of these names, in this order."""
        return await self._read(f"links {', '.join(names)}", lambda sock: tuple(read_link(sock, one) for one in names))

    async def link_at(self, index: int) -> Link | None:
        """The link with this index, ``None`` if there is none."""
        return await self._read(f"link {index}", lambda sock: read_link_at(sock, index))

    async def links(self) -> tuple[Link, ...]:
        """Every link."""
        return await self._read("links", lambda sock: tuple(read_links(sock)))

    async def traffic(self, name: str) -> Traffic | None:
        """Limits of the link ``name``: its qdiscs, classes and filters as far as they can be vnetd's."""
        return await self._read(f"traffic control of {name}", lambda sock: read_traffic(sock, name))

    async def functions(self, pf: str) -> Mapping[int, VfState]:
        """What the card ``pf`` does for each of its virtual functions, by number; none if there is no such card."""
        return await self._read(f"functions of {pf}", lambda sock: read_functions(sock, pf))

    async def neighbours(self, name: str) -> tuple[Neighbour, ...]:
        """Who has answered the host on the link ``name``."""
        return await self._read(f"neighbours on {name}", lambda sock: read_neighbours(sock, name))

    async def host_routes(self) -> tuple[HostRoute, ...]:
        """Unicast routes of both families and every table, one a next hop, without those of loopback."""
        return await self._read("routes", lambda sock: tuple(read_host_routes(sock)))

    async def possessions(self, name: str) -> Possessions | None:
        """What hangs on a link and belongs to the host."""
        return await self._read(f"link {name}", lambda sock: read_possessions(sock, name))

    async def port_vlans(self, name: str) -> frozenset[PortVlan]:
        """VLANs of a bridge port or of a bridge itself."""
        return await self._read(f"VLANs of {name}", lambda sock: read_port_vlans(sock, name))

    async def sysctls(self, paths: Sequence[tuple[str, ...]]) -> Mapping[tuple[str, ...], str | None]:
        """Values below /proc/sys, ``None`` for what does not exist."""
        return await self._worker.run(_sysctls, paths)

    async def _read(self, subject: str, read: Callable[[ReadSocket], T]) -> T:
        return await self._worker.run(_reading, self._sockets.read, subject, read)

    async def apply(self, operations: Sequence[Operation]) -> None:
        """Execute in order, what lies between deletions in one hop to the worker thread.

        Deletions that follow each other start together, and have ended when their links are gone. Raises the first
        ``HostError``; what comes after the operation that failed is not done.
        """
        for deleting, run in groupby(operations, key=lambda operation: isinstance(operation, DeleteLink)):
            if deleting:
                await self._deleter.delete([operation for operation in run if isinstance(operation, DeleteLink)])
            else:
                await self._worker.run(self._execute, tuple(run))

    def _execute(self, operations: Sequence[Operation]) -> None:
        sock = self._sockets.read
        for operation in operations:
            if not any(direct(sock, operation) for direct in DIRECT):
                execute(self._sockets.write, operation)


def _reading(sock: ReadSocket, subject: str, read: Callable[[ReadSocket], T]) -> T:
    try:
        return read(sock)
    except DumpInterrupted as error:
        raise HostError("read", subject, errno.EAGAIN) from error
    except OSError as error:
        raise HostError("read", subject, error.errno or errno.EIO) from error


def _sysctls(paths: Sequence[tuple[str, ...]]) -> Mapping[tuple[str, ...], str | None]:
    return {path: read_sysctl(path) for path in paths}


def _view(sock: ReadSocket, name: str) -> LinkView | None:
    link = read_link(sock, name)
    if link is None:
        return None
    try:
        return LinkView(link, read_addresses(sock, link.index), *read_routes(sock, link.index))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None  # went between the requests
        raise
