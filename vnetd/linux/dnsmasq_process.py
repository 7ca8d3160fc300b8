"""dnsmasq as a process: launch it, find it again, make sure that a process id still means it.

Every signal goes through a pidfd, which never comes to mean another process. A pid file, which dnsmasq's user owns,
is only a hint: the process must also have been told to write this very file, and run as dnsmasq's user or root.

Two thirds of dnsmasq's start go by before it reads its configuration: two dozen libraries are loaded. So it is launched
early and waits there: its configuration is a single line from a pipe, which names the file and has no end before the
other end of the pipe, the gate, is closed. If vnetd dies meanwhile, that closes it as well: dnsmasq goes on with its
whole configuration, or, if it was not told the file yet, with none and then serves nobody (``--port=0``).
"""

import os
import shutil
import signal
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vnetd.linux.dnsmasq_files import Account
from vnetd.linux.processes import IGNORED_BY_PYTHON, SEARCH, command_line, effective_uid, is_alive
from vnetd.model.errors import Unsupported

# dnsmasq converts international names by the locale; C.UTF-8 is in every glibc of Debian, and else means C. Each
# category more is a file more to load.
_ENVIRONMENT = {"PATH": SEARCH, "LC_CTYPE": "C.UTF-8"}
# dnsmasq(8), EXIT CODES
_EXIT: Mapping[int, str] = {
    1: "a problem with the configuration",
    2: "a network address is in use or may not be used",
    3: "a file or directory is missing or may not be accessed",
    4: "out of memory",
}
NOT_INSTALLED = "it is not installed: install it (package dnsmasq-base on Debian, dnsmasq elsewhere)"


@dataclass(frozen=True, slots=True)
class Launched:
    """dnsmasq before it put itself into the background: it ends when the one behind it serves. Owns the fds.

    Before ``release`` it waits, loaded, and has read nothing of its configuration.
    """

    pid: int
    pidfd: int
    stderr: int
    gate: int


@dataclass(frozen=True, slots=True)
class Live:
    """A dnsmasq that serves. Owns the pidfd."""

    pid: int
    pidfd: int


def find_binary(name: str = "dnsmasq") -> str:
    """Path of the program. Raises ``Unsupported`` if it is not installed."""
    found = shutil.which(name, path=SEARCH)
    if found is None:
        raise Unsupported(
            f"this network needs the program {name} for DHCP or DNS, which this host has not: {NOT_INSTALLED}"
        )
    return found


def launch(binary: str, pid_file: Path, account: Account) -> Launched:
    """Start dnsmasq up to its configuration, in a session of its own, without any fd of ours. Raises ``OSError``."""
    options = ["--conf-file=-", "--port=0", _named(pid_file), f"--user={account.user}", f"--group={account.group}"]
    with ExitStack() as theirs, ExitStack() as ours:
        reading, writing = _pipe(ours, theirs)
        gated, gate = _pipe(theirs, ours)
        pid = os.posix_spawn(
            binary,
            [binary, *options],
            _ENVIRONMENT,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, gated, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, writing, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=IGNORED_BY_PYTHON,
        )
        ours.pop_all()
    return Launched(pid, os.pidfd_open(pid), reading, gate)


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe whose ends these close."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    reader.callback(os.close, reading)
    writer.callback(os.close, writing)
    return reading, writing


def direct(launched: Launched, configuration: Path) -> None:
    """Tell it the file to read, which is there by now; to be called once."""
    os.write(launched.gate, b"conf-file=" + os.fsencode(configuration))


def release(launched: Launched) -> None:
    """Let it read its configuration and go on; to be called once."""
    os.close(launched.gate)


def abandon(launched: Launched) -> None:
    """End one that was not released."""
    signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)  # before the gate opens
    os.close(launched.gate)
    outcome(launched)


def outcome(launched: Launched) -> str:
    """Once it ended: "" if dnsmasq serves, else why not, in its own words. Closes the fds of ``launched``."""
    try:
        status = os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
        words = _read_available(launched.stderr)
    finally:
        os.close(launched.pidfd)
        os.close(launched.stderr)
    if status is None or (status.si_code == os.CLD_EXITED and status.si_status == 0):
        return ""
    return _own_words(words) or _verdict(status.si_code, status.si_status)


def kill_stuck(launched: Launched, pid_file: Path, uids: Collection[int]) -> None:
    """End a dnsmasq that does not get to serve, and the one it may have put into the background already."""
    signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
    for _, pid in running_with([pid_file]):
        if (live := open_live(pid, pid_file, uids)) is not None:
            signal.pidfd_send_signal(live.pidfd, signal.SIGKILL)
            os.close(live.pidfd)


def _read_available(fd: int) -> str:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 65536).decode(errors="replace")
    except BlockingIOError:
        return ""


def _own_words(text: str) -> str:
    lines = [line.strip().removeprefix("dnsmasq: ") for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if line != "FAILED to start up")


def _verdict(code: int, status: int) -> str:
    if code != os.CLD_EXITED:
        return "it did not get to serve" if status == signal.SIGKILL else f"it was ended by signal {status}"
    return _EXIT.get(status, f"it ended with status {status}")


def open_live(pid: int, pid_file: Path, uids: Collection[int]) -> Live | None:
    """The process ``pid`` if it is a live dnsmasq that was started with ``pid_file``; caller owns the pidfd."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return None
    # What /proc says counts only if the process the pidfd holds is alive after it was read.
    if _is_ours(pid, pid_file, uids) and is_alive(pidfd):
        return Live(pid, pidfd)
    os.close(pidfd)
    return None


def read_pid(path: Path) -> int:
    """The number in a pid file, 0 if there is none."""
    try:
        text = path.read_bytes()[:32].decode().strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text.isascii() and text.isdigit() else 0


def running_with(pid_files: Collection[Path]) -> list[tuple[Path, int]]:
    """Every process whose command line names one of these files: what lost its pid file is found so."""
    wanted = {os.fsencode(_named(path)): path for path in pid_files}
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [(wanted[word], pid) for pid in pids for word in command_line(pid) if word in wanted]


def _named(pid_file: Path) -> str:
    """The word of a command line by which one of ours is known."""
    return f"--pid-file={pid_file}"


def _is_ours(pid: int, pid_file: Path, uids: Collection[int]) -> bool:
    words = command_line(pid)
    if len(words) < 2 or os.path.basename(words[0]) != b"dnsmasq":
        return False
    return os.fsencode(_named(pid_file)) in words and effective_uid(pid) in uids
