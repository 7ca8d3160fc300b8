"""The character devices of macvtap links: opened for a guest, lent to a user, watched until nobody holds them.

/dev/tapN is named by an index that is unique in one network namespace only, and may be another namespace's device or
missing. So the numbers of the device are read from this namespace's sysfs, the node is made in a file system nobody
else can reach, and what was opened is asked for its name and MAC address.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from inotify_simple import INotify, flags

from vnetd.host.commit import Commit
from vnetd.host.devices import Placing
from vnetd.host.events import HostEvent, LinkEvent
from vnetd.linux.direct import execute_directly
from vnetd.linux.links import look_at
from vnetd.linux.netlink import LateSocket
from vnetd.linux.private_mounts import detached_mount, path_below
from vnetd.linux.taps import IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, TUNSETIFF
from vnetd.linux.threads import Worker
from vnetd.model.errors import HostError, Unsupported
from vnetd.plan.kernel import CreateMacvlan, SetLink, WriteSysctl
from vnetd.plan.links import Link

TUNGETIFF, SIOCGIFHWADDR = 0x800454D2, 0x8927
_IFREQ = struct.Struct("=16sH22x")
SHORT = 64
"""Bytes that hold the number of a device."""
GRACE = 0.3
"""Seconds a descriptor may be on its way from one process to another, in nobody's hands."""


class MacvtapHost:
    """``host.Macvtaps`` on the real kernel. Make it on the running event loop; ``emit`` is called there."""

    def __init__(self, emit: Callable[[HostEvent], None]) -> None:
        self._emit = emit
        self._worker = Worker("vnetd-macvtap")
        self._mounts: dict[str, int] = {}
        self._socket = LateSocket()
        self._inotify = INotify(nonblocking=True)
        self._watched: dict[int, LinkEvent] = {}
        self._certain: set[LinkEvent] = set()
        """Links known to be held, for nothing was closed since that was seen."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fileno(), self._closed)

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
        """Do ``first``, open the macvtap's queues, ``commit`` what filters it, do what ``placing`` says of it and the
        device it is on, and tell how these two are then, all in one hop.

        From now on a ``LinkEvent`` says when one was closed. Raises ``HostError``; ENODEV if it has another MAC.
        """
        return await self._worker.run(
            self._make_and_open, name, lower, mac, queues, vnet_hdr, first, commit, placing,
            discard=lambda opened: _close(opened[0]),
        )  # fmt: skip

    async def grant(self, name: str, index: int, owner: int, group: int) -> str:
        """Give the link's /dev/tapN to a user and a group (-1: nobody); its path.

        Raises ``Unsupported`` where there is no such node or it is another device's.
        """
        return await self._worker.run(self._grant, name, index, owner, group)

    async def held(self, name: str, index: int) -> bool:
        """Whether any process has the link's character device open; if so, a ``LinkEvent`` tells of changes."""
        link = LinkEvent(index, name)
        if link in self._certain:
            return True
        # Before the look: what is closed during it makes it uncertain again.
        self._certain.add(link)
        if await self._worker.run(self._watch_holder, name, index):
            return True
        await asyncio.sleep(GRACE)
        if await self._worker.run(self._watch_holder, name, index):
            return True
        self._certain.discard(link)
        return False

    async def close(self) -> None:
        """Stop watching."""
        self._loop.remove_reader(self._inotify.fileno())
        self._inotify.close()
        await self._worker.close(self._let_go)

    def _closed(self) -> None:
        for event in self._inotify.read(timeout=0):
            link = self._watched.get(event.wd)
            if event.mask & flags.IGNORED:
                self._watched.pop(event.wd, None)
            elif link:
                self._certain.discard(link)
                self._emit(link)

    # On the worker thread

    def _make_and_open(
        self,
        name: str,
        lower: str,
        mac: str,
        queues: int,
        vnet_hdr: bool,
        first: Sequence[SetLink | CreateMacvlan | WriteSysctl],
        commit: Commit | None,
        placing: Placing | None,
    ) -> tuple[list[int], tuple[Link, Link]]:
        for operation in first:
            execute_directly(self._socket.get(), operation)
        link, below = self._look(name, lower)
        fds = self._open(name, link.index, mac, queues, vnet_hdr)
        try:
            if commit is not None:
                commit()
            steps = placing(link, below) if placing else ()
            for step in steps:
                execute_directly(self._socket.get(), step)
            return fds, self._look(name, lower) if steps else (link, below)
        except BaseException:
            _close(fds)
            raise

    def _look(self, name: str, lower: str) -> tuple[Link, Link]:
        link, below = look_at(self._socket.get(), (name, lower))
        if link is None or below is None:
            raise HostError("open macvtap", name, errno.ENODEV)
        return link, below

    def _open(self, name: str, index: int, mac: str, queues: int, vnet_hdr: bool) -> list[int]:
        wanted = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if vnet_hdr else 0) | (IFF_MULTI_QUEUE if queues > 1 else 0)
        with ExitStack() as undo, self._node(name, index) as node:
            fds: list[int] = []
            for _ in range(queues):
                fds.append(os.open(node, os.O_RDWR | os.O_CLOEXEC))
                undo.callback(os.close, fds[-1])
                _refuse_other(fds[-1], name, mac)
                fcntl.ioctl(fds[-1], TUNSETIFF, _IFREQ.pack(name.encode(), wanted))
            self._watch(node, name, index)
            self._certain.add(LinkEvent(index, name))
            undo.pop_all()
            return fds

    def _grant(self, name: str, index: int, owner: int, group: int) -> str:
        path, number = f"/dev/tap{index}", self._number(name, index)
        try:
            handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise Unsupported(
                f"there is no {path} on this host (no devtmpfs): have OpenTap hand out descriptors instead"
            ) from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISCHR(found.st_mode) or found.st_rdev != number:
                raise Unsupported(
                    f"{path} is the device of another network namespace: have OpenTap hand out descriptors instead"
                )
            with _reporting("give away", path):
                os.chown(f"/proc/self/fd/{handle}", owner, group)
                os.chmod(f"/proc/self/fd/{handle}", 0o600 if group == -1 else 0o660)
        finally:
            os.close(handle)
        return path

    def _watch_holder(self, name: str, index: int) -> bool:
        for path in self._holders(name, index):
            # Its file may be of a node an earlier daemon made: reached through the process that has it open.
            with contextlib.suppress(OSError):
                self._watch(path, name, index)
                return True
        return False

    def _holders(self, name: str, index: int) -> list[str]:
        try:
            number = self._number(name, index)
        except HostError:
            return []
        return [path for path in _descriptors() if _number_of(path) == number]

    def _watch(self, path: str, name: str, index: int) -> None:
        descriptor = int(self._inotify.add_watch(path, flags.CLOSE_WRITE | flags.CLOSE_NOWRITE))
        self._watched[descriptor] = LinkEvent(index, name)

    @contextlib.contextmanager
    def _node(self, name: str, index: int) -> Iterator[str]:
        """A device node of our own for the link. Unlinked again: who has it open keeps it."""
        number = self._number(name, index)
        with _reporting("open macvtap", name):
            path = path_below(self._mount("tmpfs"), f"tap{index}")
            try:
                os.mknod(path, stat.S_IFCHR | 0o600, number)
            except FileExistsError:
                os.unlink(path)
                os.mknod(path, stat.S_IFCHR | 0o600, number)
            try:
                yield path
            finally:
                os.unlink(path)

    def _number(self, name: str, index: int) -> int:
        with _reporting("find the device of macvtap", name):
            path = path_below(self._mount("sysfs"), "class/net", name, "macvtap", f"tap{index}", "dev")
            with open(path, "rb", buffering=0) as file:
                major, minor = file.read(SHORT).split(b":")
            return os.makedev(int(major), int(minor))

    def _mount(self, kind: str) -> int:
        if kind not in self._mounts:
            self._mounts[kind] = detached_mount(kind)
        return self._mounts[kind]

    def _let_go(self) -> None:
        for mount in self._mounts.values():
            os.close(mount)
        self._socket.close()


def _refuse_other(fd: int, name: str, mac: str) -> None:
    """Raise ``OSError`` if what was opened is not the link of this name and MAC address."""
    opened = fcntl.ioctl(fd, TUNGETIFF, bytes(40))[:16].rstrip(b"\0").decode(errors="replace")
    address = fcntl.ioctl(fd, SIOCGIFHWADDR, bytes(40))[18:24].hex(":")
    if (opened, address) != (name, mac):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def _descriptors() -> Iterator[str]:
    """Every open descriptor of every process, as paths that lead to the file itself."""
    for pid in (one for one in os.listdir("/proc") if one.isdigit()):
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                yield f"/proc/{pid}/fd/{descriptor}"


def _number_of(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError:
        return -1
    return found.st_rdev if stat.S_ISCHR(found.st_mode) else -1


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


@contextlib.contextmanager
def _reporting(operation: str, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(operation, name, error.errno or errno.EIO) from error
