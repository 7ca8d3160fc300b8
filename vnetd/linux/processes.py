"""Processes: what is known of one from outside, and the names of others as hints about who changed something."""

import contextlib
import os
import select
import signal
from pathlib import Path

PID_BITS = 0x3FFFFF
# An administrator's own program goes before the distribution's; a daemon's PATH may lack sbin.
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# An ignored signal stays ignored in what is started.
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def process_name(pid: int) -> str:
    """The command name of a live process (at most 15 bytes, printable), "" if there is none with this id."""
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        return ""
    return "".join(c if c.isprintable() else "?" for c in name.decode(errors="replace").rstrip("\n"))


def port_owner(port: int) -> str:
    """Name of the process behind a netlink port id, "" for the kernel's, our own and unknown ones.

    By convention a process's first socket has its pid as port id and further ones carry a counter above bit 22;
    the kernel's own fallback is a negative number that tells nothing.
    """
    pid = port & PID_BITS
    if port <= 0 or port >= 1 << 31 or pid in {0, os.getpid()}:
        return ""
    return process_name(pid)


def is_alive(pidfd: int) -> bool:
    """Whether the process still runs; a zombie does not."""
    return not ends(pidfd, 0)


def send(pidfd: int, number: signal.Signals) -> None:
    """Signal a process; that it has ended is told by its pidfd, and no error here."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def ends(pidfd: int, patience: float) -> bool:
    """Wait until a process ends, on the calling thread; False if it does not within ``patience`` seconds."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(patience * 1000))


def reap(pidfd: int) -> None:
    """Take note of the end of a child; one of an earlier run of the daemon is init's."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def command_line(pid: int) -> list[bytes]:
    """The words a process was started with, none if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def effective_uid(pid: int) -> int:
    """Effective user id, -1 if unknown. Not the owner of /proc/PID: that is root once a process changed its user."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[2])
    except (OSError, ValueError):
        pass
    return -1
