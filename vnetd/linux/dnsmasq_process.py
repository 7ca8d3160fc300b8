"""dnsmasq as a process: launch it, find it again, make sure that a process id still means it.

Every signal goes through a pidfd, which never comes to mean another process. Who is found by the process id on record
must also have been launched under the name on record, and run as dnsmasq's user or root.

Two thirds of dnsmasq's start go by before it reads its configuration: two dozen libraries are loaded. So it is
launched early, for whichever network comes next, and waits there: its configuration is a single line from a pipe, which
names the file and has no end before the other end of the pipe, the gate, is closed. If vnetd dies meanwhile, that
closes it as well: dnsmasq goes on with its whole configuration, or, if it was not told the file yet, ends over half a
word.

It stays the process that was launched (``--keep-in-foreground``): two forks less to wait for, and its id is known from
the begin. When its sockets are bound it writes its pid file and exchanges its standard output for /dev/null, which is
seen at the other end of that pipe.
"""

import os
import secrets
import shutil
import signal
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vnetd.linux.dnsmasq_files import Account
from vnetd.linux.processes import IGNORED_BY_PYTHON, SEARCH, command_line, effective_uid, ends, is_alive
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
ENDING = 2.0
"""Seconds one has to end that did not get to serve."""
# Half an option's name, which dnsmasq refuses unless the rest of it follows.
_HALF_A_WORD, _REST = b"conf-fi", b"le="
NOT_INSTALLED = "it is not installed: install it (package dnsmasq-base on Debian, dnsmasq elsewhere)"


@dataclass(frozen=True, slots=True)
class Launched:
    """A dnsmasq of which nobody knows yet whether it gets to serve. Owns the fds. ``name`` is no other's.

    Before ``release`` it waits, loaded, and has read nothing of its configuration. ``ready`` is readable from when it
    serves, or ends.
    """

    name: str
    pid: int
    pidfd: int
    stderr: int
    ready: int
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


def launch(binary: str, run: Path, account: Account) -> Launched:
    """Start dnsmasq up to its configuration, in a session of its own, without any fd of ours. Raises ``OSError``.

    The name it is known by is in its command line as that of a pid file in ``run``, which its configuration overrides.
    """
    name = secrets.token_hex(8)
    user = (f"--user={account.user}", f"--group={account.group}")
    with ExitStack() as theirs, ExitStack() as ours:
        stderr, complaining = _pipe(ours, theirs)
        ready, starting = _pipe(ours, theirs)
        gated, gate = _pipe(theirs, ours)
        os.write(gate, _HALF_A_WORD)
        pid = os.posix_spawn(
            binary,
            [binary, "--conf-file=-", "--keep-in-foreground", _word(run, name), *user],
            _ENVIRONMENT,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, gated, 0),
                (os.POSIX_SPAWN_DUP2, starting, 1),
                (os.POSIX_SPAWN_DUP2, complaining, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=IGNORED_BY_PYTHON,
        )
        ours.pop_all()
    return Launched(name, pid, os.pidfd_open(pid), stderr, ready, gate)


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe whose ends these close."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    reader.callback(os.close, reading)
    writer.callback(os.close, writing)
    return reading, writing


def direct(launched: Launched, configuration: Path) -> None:
    """Tell it the file to read, which is there by now; to be called once."""
    os.write(launched.gate, _REST + os.fsencode(configuration))


def release(launched: Launched) -> None:
    """Let it read its configuration and go on; to be called once."""
    os.close(launched.gate)


def abandon(launched: Launched) -> None:
    """End one that was not released."""
    signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)  # before the gate opens
    os.close(launched.gate)
    outcome(launched)


def settled(launched: Launched, pid_file: Path) -> Live | None:
    """The process, once it was released and is ready, if it serves; ``None`` if it does not: ask for its outcome."""
    if read_pid(pid_file) != launched.pid or not is_alive(launched.pidfd):
        return None
    os.close(launched.stderr)
    os.close(launched.ready)
    return Live(launched.pid, launched.pidfd)


def outcome(launched: Launched) -> str:
    """End one that does not serve; why it does not, in its own words. Closes the fds of ``launched``."""
    try:
        if not ends(launched.pidfd, ENDING):
            signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
        status = os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
        words = _read_available(launched.stderr)
    finally:
        os.close(launched.pidfd)
        os.close(launched.stderr)
        os.close(launched.ready)
    return _own_words(words) or _verdict(status)


def _read_available(fd: int) -> str:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 65536).decode(errors="replace")
    except BlockingIOError:
        return ""


def _own_words(text: str) -> str:
    lines = [line.strip().removeprefix("dnsmasq: ") for line in text.splitlines() if line.strip()]
    return "; ".join(line for line in lines if line != "FAILED to start up")


def _verdict(status: os.waitid_result | None) -> str:
    if status is None or (status.si_code != os.CLD_EXITED and status.si_status == signal.SIGKILL):
        return "it did not get to serve"
    if status.si_code != os.CLD_EXITED:
        return f"it was ended by signal {status.si_status}"
    return _EXIT.get(status.si_status, f"it ended with status {status.si_status}")


def open_live(pid: int, run: Path, name: str, uids: Collection[int]) -> Live | None:
    """The process ``pid`` if it is a live dnsmasq that was launched under this name; caller owns the pidfd."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return None
    # What /proc says counts only if the process the pidfd holds is alive after it was read.
    if _is_ours(pid, run, name, uids) and is_alive(pidfd):
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


def running_below(run: Path) -> list[tuple[str, int]]:
    """Names and ids of all processes that were launched for networks whose files are in ``run``."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    prefix = os.fsencode(_word(run, ""))
    words = ((word, pid) for pid in pids for word in command_line(pid))
    return [(os.fsdecode(word.removeprefix(prefix)), pid) for word, pid in words if word.startswith(prefix)]


def kill(pid: int, run: Path, name: str, uids: Collection[int]) -> None:
    """End the process if it is a dnsmasq of ours of this name."""
    if (live := open_live(pid, run, name, uids)) is not None:
        signal.pidfd_send_signal(live.pidfd, signal.SIGKILL)
        os.close(live.pidfd)


def _word(run: Path, name: str) -> str:
    """The word of a command line by which one of ours is known."""
    return f"--pid-file={run}/{name}"


def _is_ours(pid: int, run: Path, name: str, uids: Collection[int]) -> bool:
    words = command_line(pid)
    if len(words) < 2 or os.path.basename(words[0]) != b"dnsmasq":
        return False
    return os.fsencode(_word(run, name)) in words and effective_uid(pid) in uids
