"""File systems mounted nowhere: reached through a descriptor of this process alone.

A sysfs made here shows the network namespace of the thread that makes it, whatever /sys shows; in a tmpfs made here
there are device nodes nobody else can name, on hosts where /run takes none.
"""

import ctypes
import os

# The same numbers on every architecture (asm-generic/unistd.h).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC, _CMD_CREATE = 1, 6
_libc = ctypes.CDLL(None, use_errno=True)


def detached_mount(kind: str) -> int:
    """An fd of the root of a fresh file system (``sysfs``, ``tmpfs``); the caller closes it. Raises ``OSError``."""
    context = _call(_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def path_below(mount: int, *parts: str) -> str:
    """A path that leads into such a file system, for this process only."""
    return "/".join((f"/proc/self/fd/{mount}", *parts))


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
