"""passt processes: one a port of mode user, started, watched, ended, and found again by the next run of the daemon.

A process is known by its command line, which names the socket in the port's own directory, and by its user. It runs
in the foreground as a child, for its directory belongs to a user who could forge a file with a process id in it.

It is its user's from the first moment, and all it takes along is the ability to listen on ports below 1024: what one
that is started as root does before it becomes somebody else differs between versions.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vnetd.host.events import HostEvent, PasstEvent
from vnetd.linux.processes import IGNORED_BY_PYTHON, SEARCH, command_line, effective_uid, ends, is_alive, reap, send
from vnetd.linux.supervised import Supervised
from vnetd.linux.threads import Worker
from vnetd.model.capability import refusal
from vnetd.model.errors import HostError
from vnetd.plan.passt import PasstInstance, passt_arguments, pid_file

PROGRAM = "passt"
SETPRIV = "/usr/bin/setpriv"
NOT_INSTALLED = "it is not installed: install it (package passt)"
START_TIMEOUT = 10.0
"""Seconds passt has to listen; it takes milliseconds unless the machine is swamped."""
STOP_TIMEOUT = 2.0
"""Seconds passt has to end after SIGTERM, and again after SIGKILL."""
POLL = 0.002
LONGEST_PATH = 107
"""Bytes of a unix socket's path (unix(7))."""


@dataclass(frozen=True, slots=True)
class Live:
    """A passt that runs. Owns the pidfd."""

    pidfd: int
    mark: str
    """Its arguments, as ``_mark`` compares them."""


class PasstHost:
    """``host.Passt`` below ``root``. Make it on the running event loop; ``emit`` is called there."""

    def __init__(self, root: Path, emit: Callable[[HostEvent], None], *, binary: str = PROGRAM) -> None:
        self._directory = root.absolute() / "run/vnetd/passt"
        self._emit = emit
        self._binary = binary
        self._worker = Worker("vnetd-passt")
        self._running: Supervised[Live] = Supervised(self._ended)

    def socket(self, port: str) -> str:
        """Path of the socket a port's passt listens on."""
        return str(self._directory / port / "socket")

    async def adopt(self) -> tuple[str, ...]:
        """Look after every passt an earlier daemon left running below this root; returns their ports."""
        for port, live in (await self._worker.run(_find_all, self._directory)).items():
            self._running.add(port, live)
        return tuple(sorted(self._running))

    async def start(self, instance: PasstInstance) -> None:
        """Start passt and return once it listens; ends one that runs for this port already.

        Raises ``Unsupported`` if passt is not installed, ``HostError`` with its own words if it does not start;
        then nothing of it is left.
        """
        await self.stop(instance.port)
        live = await self._worker.run(self._launch, instance, discard=_kill)
        self._running.add(instance.port, live)

    async def serves(self, instance: PasstInstance) -> bool:
        """Whether the port's passt runs with just these arguments and its socket is there."""
        live = self._running.get(instance.port)
        socket = self.socket(instance.port)
        return bool(live and live.mark == _mark(passt_arguments(instance, socket))) and await self._worker.run(
            os.path.lexists, socket
        )

    async def stop(self, port: str) -> None:
        """End the port's passt and remove its directory; none is no error."""
        if (live := self._running.take(port)) is not None:
            await self._worker.run(_end, live, port)
        await self._worker.run(_remove, self._directory / port)

    async def close(self) -> None:
        """Let go of all processes, which run on."""
        self._running.close()
        await self._worker.close()

    def _ended(self, port: str, _: Live) -> None:
        self._emit(PasstEvent(port))

    # On the worker thread

    def _launch(self, instance: PasstInstance) -> Live:
        binary = shutil.which(self._binary, path=SEARCH)
        if binary is None:
            raise refusal("this port", "passt", NOT_INSTALLED)
        directory, socket = self._directory / instance.port, self.socket(instance.port)
        try:
            _prepare(directory, socket, instance)
            return _start([*_become(instance), binary], passt_arguments(instance, socket), socket)
        except OSError as error:
            _remove(directory)
            raise _error("start", instance.port, error.strerror or str(error)) from error
        except _NotStartedError as error:
            _remove(directory)
            raise _error("start", instance.port, str(error)) from None


class _NotStartedError(Exception):
    """passt ended, or did not listen in time; its own words."""


def _prepare(directory: Path, socket: str, instance: PasstInstance) -> None:
    """The port's directory, in which nobody but passt's user and root finds the socket."""
    if len(os.fsencode(socket)) > LONGEST_PATH:
        raise _NotStartedError(f"{socket} is too long for a socket: at most {LONGEST_PATH} bytes are possible")
    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700)
    os.chown(directory, instance.uid, instance.gid)


def _become(instance: PasstInstance) -> tuple[str, ...]:
    """What runs a command as passt's user (setpriv(1))."""
    user = (f"--reuid={instance.uid}", f"--regid={instance.gid}", "--clear-groups")
    return (SETPRIV, *user, "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service")


def _start(program: Sequence[str], arguments: tuple[str, ...], socket: str) -> Live:
    # What it writes goes where it can never fill up a pipe or lose its reader when the daemon ends.
    output = os.memfd_create("passt", os.MFD_CLOEXEC)
    try:
        pid = os.posix_spawn(
            program[0],
            [*program, *arguments],
            {"PATH": SEARCH},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=IGNORED_BY_PYTHON,
        )
        live = Live(os.pidfd_open(pid), _mark(arguments))
        _await_readiness(live, socket, output)
        return live
    finally:
        os.close(output)


def _await_readiness(live: Live, socket: str, output: int) -> None:
    """It writes its process id when all is prepared; the socket alone may be there before forwards are tried."""
    end = time.monotonic() + START_TIMEOUT
    while is_alive(live.pidfd) and time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(pid_file(socket)).st_size and os.path.lexists(socket):
                return
        time.sleep(POLL)
    _kill(live)
    raise _NotStartedError(_own_words(output) or "it did not get to listen")


def _own_words(output: int) -> str:
    """What passt wrote, without its troubles with a system log that is not there."""
    text = os.pread(output, 65536, 0).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line and not line.endswith("to syslog"))


def _kill(live: Live) -> None:
    send(live.pidfd, signal.SIGKILL)
    ends(live.pidfd, STOP_TIMEOUT)
    reap(live.pidfd)
    os.close(live.pidfd)


def _end(live: Live, port: str) -> None:
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            send(live.pidfd, number)
            if ends(live.pidfd, STOP_TIMEOUT):
                reap(live.pidfd)
                return
        raise _error("stop", port, "it does not end")
    finally:
        os.close(live.pidfd)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _find_all(directory: Path) -> dict[str, Live]:
    """Every passt whose socket is in a port's directory and whose user that directory belongs to."""
    try:
        owners = {str(one / "socket"): (one.name, one.lstat().st_uid) for one in directory.iterdir()}
    except FileNotFoundError:
        return {}
    found: dict[str, Live] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()) if owners else ():
        words = [os.fsdecode(word) for word in command_line(pid)]
        socket = socket_of(words)
        if socket in owners and effective_uid(pid) == owners[socket][1]:
            _note(found, owners[socket][0], pid, words)
    return found


def _note(found: dict[str, Live], port: str, pid: int, words: list[str]) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    # What /proc said counts only if the process the pidfd holds says so still.
    if port not in found and [os.fsdecode(word) for word in command_line(pid)] == words:
        found[port] = Live(pidfd, _mark(words[1:-1]))
    else:
        os.close(pidfd)


def _mark(arguments: Sequence[str]) -> str:
    """Arguments to compare: passt cuts its own words up where it finds a separator."""
    return "\0".join(arguments).replace(":", "\0").replace("/", "\0")


def socket_of(words: list[str]) -> str:
    """The socket a command line gives passt, "" for that of another program, or of a process that has ended: none."""
    if not words or os.path.basename(words[0]) != PROGRAM or "-s" not in words[:-1]:
        return ""
    return words[words.index("-s") + 1]


def _error(operation: str, port: str, words: str) -> HostError:
    return HostError(f"{operation} passt", f"of port {port}", words)
