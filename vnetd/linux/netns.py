"""Network namespaces of others: opened for a veth's other end, and the work done inside them."""

import asyncio
import ctypes
import errno
import fcntl
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar, TypeVarTuple

from vnetd.host.commit import Commit
from vnetd.host.events import HostEvent
from vnetd.linux.direct import (
    add_address,
    add_default_route,
    create_veth,
    execute_directly,
    place,
    raise_link,
    rename_link,
)
from vnetd.linux.links import look_at
from vnetd.linux.netlink import U32, LateSocket, ReadSocket
from vnetd.linux.netns_events import InnerEvents
from vnetd.linux.netns_links import delete_inside, link_inside, move_link, number_of
from vnetd.linux.operations import reporting
from vnetd.linux.threads import Worker
from vnetd.model.base import IPAddress, IPInterface
from vnetd.model.errors import Invalid, NotFound
from vnetd.plan.kernel import CreateVeth, SetLink, WriteSysctl
from vnetd.plan.links import Link

T = TypeVar("T")
Args = TypeVarTuple("Args")

NAMED = "/run/netns"
OWN = "/proc/thread-self/ns/net"
VISITOR = "vnetd-visit"
"""Name of threads that enter a namespace."""
SOON = 0.002
"""Seconds until the next of them is started: who asked for this visit is answered first."""
NS_GET_USERNS, NS_GET_NSTYPE, NS_GET_OWNER_UID = 0xB701, 0xB703, 0xB704
CLONE_NEWNET = 0x40000000

log = logging.getLogger(__name__)

_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """Opens network namespaces and configures links inside, on threads where that may take its time."""

    def __init__(self, emit: Callable[[HostEvent], None]) -> None:
        """``emit`` is called for namespaces whose links were asked for, when one of these goes."""
        self._emit = emit
        self._events: InnerEvents | None = None
        self._listening = False
        self._opener = Worker("vnetd-netns")
        self._starting: asyncio.TimerHandle | None = None
        self._socket = LateSocket()
        # The kernel keeps who deletes a link for 20 ms, for which nobody else should wait.
        self._deleter = Worker("vnetd-netns-delete")
        self._deleting = LateSocket()
        self._next_visitor: Worker | None = None

    async def open(self, reference: str | int) -> int:
        """An fd of the network namespace ``reference``: a name (``ip netns``), an absolute path or a process id.

        The caller owns the fd. Raises ``Invalid`` for what cannot be one of these, ``NotFound`` for everything
        else in one and the same way, so that nobody learns from it what files there are. Only a path can lead to a file
        system that takes its time: everything else the kernel knows by itself, so no thread is asked.
        """
        if isinstance(reference, str) and reference.startswith("/"):
            return await self._opener.run(open_netns, reference, discard=os.close)
        return open_netns(reference)

    async def configure_peer(
        self,
        netns: int,
        name: str,
        *,
        rename: str = "",
        up: bool = True,
        addresses: Sequence[IPInterface] = (),
        gateways: Sequence[IPAddress] = (),
    ) -> None:
        """Rename, address and raise the link ``name`` inside the namespace open at ``netns``; then default routes.

        Raises ``HostError``. Runs on a thread of its own that ends afterwards: one that has entered another
        namespace must never do work for this one. To start one takes longer than what it does, so the next waits.
        """
        await self._visit(_configure, netns, name, rename, up, tuple(addresses), tuple(gateways))

    async def make_pair(
        self,
        pair: CreateVeth,
        *,
        then: Sequence[WriteSysctl] = (),
        look: Sequence[str] = (),
        addresses: Sequence[IPInterface] = (),
        gateways: Sequence[IPAddress] = (),
        placing: Sequence[SetLink] = (),
        commit: Commit | None = None,
    ) -> tuple[Link | None, ...]:
        """``commit``, make a veth pair, do ``then``, configure the other end, do ``placing`` and look, in one hop.

        ``placing`` is left to others if a bridge it names is away. If something fails the pair stays. Raises
        ``HostError``.
        """
        return await self._visit(_make_pair, pair, then, look, tuple(addresses), tuple(gateways), placing, commit)

    async def owner(self, netns: int) -> int | None:
        """The uid whose user namespace owns the one open at fd ``netns``; ``None`` if that is ours. ``HostError``.

        The kernel says so at once, so no thread is asked.
        """
        return _owner(netns)

    async def number(self, netns: int) -> int:
        """What the namespace open at fd ``netns`` is known by here for as long as it exists. Raises ``HostError``."""
        self._listen()
        return await self._opener.run(lambda: number_of(self._socket.get(), netns))

    async def move(self, netns: int, device: str, name: str) -> None:
        """Move a link of ours into a namespace and call it ``name`` there. Raises ``HostError``."""
        await self._opener.run(lambda: move_link(self._socket.get(), netns, device, name))

    async def link(self, number: int, name: str, alias: str) -> Link | None:
        """A link of ours in a namespace, ``None`` if there is none or no such namespace. Raises ``HostError``."""
        self._listen()
        return await self._opener.run(lambda: link_inside(self._socket.get(), number, name, alias))

    async def delete(self, number: int, name: str, alias: str) -> None:
        """Delete a link of ours in a namespace. Raises ``HostError``."""
        await self._deleter.run(lambda: delete_inside(self._deleting.get(), number, name, alias))

    async def close(self) -> None:
        """Finish what is under way and end the threads."""
        if self._events:
            self._events.close()
        if self._starting:
            self._starting.cancel()
        await self._opener.close(self._socket.close)
        await self._deleter.close(self._deleting.close)
        if self._next_visitor:
            self._next_visitor.leave()

    async def _visit(self, function: Callable[[*Args], T], *args: *Args) -> T:
        visitor, self._next_visitor = self._next_visitor or Worker(VISITOR), None
        try:
            return await visitor.run(function, *args)
        finally:
            visitor.leave()
            if self._starting is None:
                self._starting = asyncio.get_running_loop().call_later(SOON, self._start_next)

    def _start_next(self) -> None:
        self._starting = None
        self._opener.submit(self._start_visitor)

    def _start_visitor(self) -> None:
        """On the opener's thread: who starts a thread waits until that runs."""
        if self._next_visitor is None:
            visitor = Worker(VISITOR)
            visitor.begin()
            self._next_visitor = visitor

    def _listen(self) -> None:
        """Once somebody needs it: what happens in all containers of the host is told then."""
        if self._listening:
            return
        self._listening = True
        try:
            self._events = InnerEvents(self._emit)
        except OSError as error:
            log.warning("links that go in namespaces of guests are missed by full passes only: %s", error.strerror)


def open_netns(reference: str | int) -> int:
    """Open a network namespace by name, absolute path or pid; see ``Namespaces.open``.

    Whoever asks may name any path, so the file is opened without effect first (O_PATH: no device is started, no
    FIFO waited for), must lie on the kernel's namespace file system, and only then is opened to be asked its type.
    """
    for path in _paths(reference):
        try:
            with _handle(path) as handle:
                return _checked(handle)
        except OSError:
            continue
    raise NotFound(f"there is no network namespace {reference!r}")


def _paths(reference: str | int) -> tuple[str, ...]:
    """Where to look, in this order: like ``ip link set … netns``, a number is a name first, then a process id."""
    if isinstance(reference, int):
        return _paths(str(reference))[1:]
    if "\0" in reference:
        raise Invalid(f"{reference!r} names no network namespace: it contains a NUL")
    if reference.startswith("/"):
        return (reference,)
    if not reference or "/" in reference or reference in {".", ".."}:
        raise Invalid(f"{reference!r} names no network namespace: give a name, an absolute path or a process id")
    process = (f"/proc/{reference}/ns/net",) if re.fullmatch(r"[1-9][0-9]{0,9}", reference) else ()
    return f"{NAMED}/{reference}", *process


@contextmanager
def _handle(path: str) -> Iterator[int]:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _checked(handle: int) -> int:
    # All namespaces live on one internal file system: being on its device is being a namespace of some type.
    found = os.fstat(handle)
    if found.st_dev != os.stat("/proc/self/ns/net").st_dev or not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fcntl.ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    except OSError:
        os.close(fd)
        raise
    return fd


def _owner(netns: int) -> int | None:
    if os.path.samestat(os.fstat(netns), os.stat(OWN)):
        return None
    with reporting("find owner of", "network namespace"):
        users = fcntl.ioctl(netns, NS_GET_USERNS)
        try:
            answer = fcntl.ioctl(users, NS_GET_OWNER_UID, bytes(U32.size))
        finally:
            os.close(users)
    uid: int = U32.unpack(answer)[0]
    return uid


def _make_pair(
    pair: CreateVeth,
    then: Sequence[WriteSysctl],
    look: Sequence[str],
    addresses: Sequence[IPInterface],
    gateways: Sequence[IPAddress],
    placing: Sequence[SetLink],
    commit: Commit | None,
) -> tuple[Link | None, ...]:
    if commit is not None:
        commit()
    with closing(ReadSocket()) as sock, open(OWN, "rb", buffering=0) as home:
        create_veth(sock, pair)
        for write in then:
            execute_directly(sock, write)
        # The guest's end is up before ours is: else the kernel has its carrier, and so our port, come later by itself.
        _configure(pair.peer_netns, pair.peer_name, "", True, addresses, gateways)
        with reporting("come back from the namespace of", pair.peer_name):
            _enter(home.fileno())
        place(sock, placing)
        return look_at(sock, look)


def _configure(
    netns: int,
    name: str,
    rename: str,
    up: bool,
    addresses: Sequence[IPInterface],
    gateways: Sequence[IPAddress],
) -> None:
    with reporting("enter namespace of", name):
        _enter(netns)
    with closing(ReadSocket()) as sock:
        if rename and rename != name:
            rename_link(sock, name, rename)
            name = rename
        for address in addresses:
            add_address(sock, name, address)
        if up:
            raise_link(sock, name)
        for gateway in gateways:
            add_default_route(sock, name, gateway)


def _enter(netns: int) -> None:
    if _libc.setns(netns, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
