"""Values below /proc/sys, by split path: interface names may hold dots and dots are no separators here."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vnetd.model.errors import HostError

ROOT = "/proc/sys"
LARGEST = 1 << 16


def read_sysctl(path: Sequence[str]) -> str | None:
    """The value without its final newline, ``None`` if there is no such sysctl. Raises ``HostError``."""
    try:
        with _opened(path, os.O_RDONLY) as fd:
            return os.read(fd, LARGEST).decode(errors="replace").removesuffix("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostError("read sysctl", "/".join(path), error.errno or errno.EIO) from error


def write_sysctl(path: Sequence[str], value: str, *, optional: bool) -> None:
    """Write a value; one that does not exist is an error unless ``optional``. Raises ``HostError``."""
    try:
        with _opened(path, os.O_WRONLY) as fd:
            os.write(fd, value.encode())
    except (FileNotFoundError, NotADirectoryError) as error:
        if not optional:
            raise HostError("write sysctl", "/".join(path), errno.ENOENT) from error
    except OSError as error:
        raise HostError("write sysctl", "/".join(path), error.errno or errno.EIO) from error


@contextmanager
def _opened(path: Sequence[str], flags: int) -> Iterator[int]:
    """No component may lead elsewhere; links there are none below /proc/sys (kernel: fs/proc/proc_sysctl.c)."""
    if not path or any(not part or part in {".", ".."} or "/" in part or "\0" in part for part in path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    fd = os.open("/".join((ROOT, *path)), flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
