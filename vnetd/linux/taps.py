"""Tap devices: made through /dev/net/tun, never adopted."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from vnetd.host.commit import Commit
from vnetd.linux.direct import place
from vnetd.linux.links import look_at
from vnetd.linux.netlink import LateSocket
from vnetd.linux.threads import Worker
from vnetd.model.errors import HostError
from vnetd.plan.kernel import SetLink, WriteSysctl
from vnetd.plan.links import Link

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR, IFF_TUN_EXCL = 0x2, 0x100, 0x1000, 0x4000, 0x8000
ROOT = 0
MOST_QUEUES = 256
"""The kernel's MAX_TAP_QUEUES."""
_IFREQ = struct.Struct("=16sH22x")


class LinuxTaps:
    """``host.protocols.Taps`` on the real kernel; devices come to be in the network namespace of its threads."""

    def __init__(self) -> None:
        # Two threads: closing the last fd of a tap takes 20 ms, for which no attach should wait.
        self._opener = Worker("vnetd-tap")
        self._closer = Worker("vnetd-tap-close")
        self._socket = LateSocket()

    async def open(
        self, name: str, queues: int, vnet_hdr: bool, owner: int = ROOT, then: Sequence[SetLink | WriteSysctl] = ()
    ) -> list[int]:
        """Make a tap, down, and return one fd a queue; it goes when the last is closed. The caller owns them.

        Of several queues more can be opened by its owner, -1 for whoever is in its group; the kernel lets everybody
        do it to a tap with neither. ``then`` is done to it in the same hop; if that fails, there is no tap. Raises
        ``HostError`` (EBUSY if a link has the name, E2BIG for too many queues).
        """
        fds, _ = await self._opener.run(self._open, name, queues, vnet_hdr, owner, then, discard=_close_made)
        return fds

    async def open_seen(
        self,
        name: str,
        queues: int,
        vnet_hdr: bool,
        then: Sequence[SetLink | WriteSysctl],
        look: Sequence[str],
        placing: Sequence[SetLink] = (),
        commit: Commit | None = None,
    ) -> tuple[list[int], tuple[Link | None, ...]]:
        """``commit``, ``open``, ``placing`` unless the bridge is away, and how links are then, in one hop."""
        return await self._opener.run(
            self._open, name, queues, vnet_hdr, ROOT, then, placing, look, commit, discard=_close_made
        )

    async def keep(self, name: str, fds: Sequence[int], group: int) -> None:
        """Have the tap ``name`` stay, -1 for no group, and close its queues; if that fails they are still open.

        Raises ``HostError``.
        """
        await self._opener.run(_keep, name, tuple(fds), group)

    async def reclaim(self, name: str) -> bool:
        """Delete a persistent tap of one queue if nobody has that open; whether it did. Raises ``HostError``."""
        return await self._opener.run(_reclaim, name)

    async def close(self, fds: Sequence[int]) -> None:
        """Close fds without the loop waiting for it. Raises ``HostError`` once all were tried."""
        await self._closer.run(_close, tuple(fds))

    async def stop(self) -> None:
        """Finish what is under way and end the threads."""
        await self._opener.close(self._socket.close)
        await self._closer.close()

    def _open(
        self,
        name: str,
        queues: int,
        vnet_hdr: bool,
        owner: int,
        then: Sequence[SetLink | WriteSysctl],
        placing: Sequence[SetLink] = (),
        look: Sequence[str] = (),
        commit: Commit | None = None,
    ) -> tuple[list[int], tuple[Link | None, ...]]:
        if commit is not None:
            commit()
        fds = open_tap(name, queues, vnet_hdr, owner)
        try:
            place(self._socket.get(), placing, then)
            return fds, look_at(self._socket.get(), look)
        except BaseException:
            _close(fds)
            raise


def open_tap(name: str, queues: int, vnet_hdr: bool, owner: int = ROOT) -> list[int]:
    """What ``LinuxTaps.open`` begins with, on the calling thread and in its network namespace."""
    with _reporting("create tap", name):
        if not 1 <= queues <= MOST_QUEUES:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        flags = _flags(vnet_hdr) | (IFF_MULTI_QUEUE if queues > 1 else 0)
        with ExitStack() as undo:
            fds: list[int] = []
            for queue in range(queues):
                fds.append(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
                undo.callback(os.close, fds[-1])
                # Exclusive: the first queue must make the device, not join one that somebody left there.
                _attach(fds[-1], name, flags if queue else flags | IFF_TUN_EXCL)
            if owner != -1:
                fcntl.ioctl(fds[0], TUNSETOWNER, _id(owner))
            undo.pop_all()
            return fds


def _keep(name: str, fds: Sequence[int], group: int) -> None:
    with _reporting("keep tap", name):
        if group != -1:
            fcntl.ioctl(fds[0], TUNSETGROUP, _id(group))
        fcntl.ioctl(fds[0], TUNSETPERSIST, 1)
    _close(fds)


def _reclaim(name: str) -> bool:
    with _reporting("reclaim tap", name):
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Who gets its only queue knows that nobody else has it, and nobody else can get it until this is over.
            _attach(fd, name, _flags(vnet_hdr=True))
            fcntl.ioctl(fd, TUNSETPERSIST, 0)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        finally:
            os.close(fd)
        return True


def _close(fds: Sequence[int]) -> None:
    failed = 0
    for fd in fds:
        try:
            os.close(fd)
        except OSError as error:
            failed = error.errno or errno.EIO
    if failed:
        raise HostError("close", "tap", failed)


def _close_made(made: tuple[Sequence[int], object]) -> None:
    _close(made[0])


def _flags(vnet_hdr: bool) -> int:
    return IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if vnet_hdr else 0)


def _id(number: int) -> int:
    """A user or group id as ioctl wants it: these are unsigned, its argument is not."""
    if not 0 <= number < 1 << 32:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return number if number < 1 << 31 else number - (1 << 32)


def _attach(fd: int, name: str, flags: int) -> None:
    encoded = name.encode()
    if not 1 <= len(encoded) <= 15 or b"%" in encoded:  # "%d" would have the kernel choose a number
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fcntl.ioctl(fd, TUNSETIFF, _IFREQ.pack(encoded, flags))


@contextmanager
def _reporting(operation: str, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(operation, name, error.errno or errno.EIO) from error
