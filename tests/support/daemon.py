"""A real vnetd in a namespace, on a bus and with a root directory of one's own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from support.netns import Namespace


class DaemonFailed(AssertionError):
    """The daemon ended or stayed silent where it should have become ready; the message holds its log."""


class Daemon:
    """Runs ``vnetd`` as systemd would: started, awaited until READY=1, ended by SIGTERM.

    It can be started again after it ended, which is how restarts are tried. Its log is the file ``log``.
    """

    def __init__(
        self,
        namespace: Namespace,
        bus: str,
        root: Path,
        *,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        log_level: str = "debug",
        program: tuple[str, ...] = (sys.executable, "-m", "vnetd"),
    ) -> None:
        self.namespace = namespace
        self.bus = bus
        self.root = root
        self.log = root / "vnetd.log"
        self.ready_after = 0.0
        self._prefix = prefix
        self._environment = dict(environment or {})
        self._log_level = log_level
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process id. It must run."""
        assert self._process is not None, "the daemon does not run"
        return self._process.pid

    def start(self, *, deadline: float = 30) -> None:
        """Start it and return when it is ready; ``ready_after`` then holds the seconds that took."""
        self.launch()
        self.await_ready(deadline=deadline)

    def launch(self) -> None:
        """Start it and return at once."""
        notified = self.root / "notify"
        notified.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(notified))
        # Not `ip netns exec`: that would give it a /sys of its own, and its pid would be another's until exec.
        command = ["nsenter", f"--net={self.namespace.path}", *self._prefix, *self._program]
        command += ["--bus", self.bus, "--root", str(self.root), "--log-level", self._log_level]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("WATCHDOG_", "JOURNAL_"))}
        environment |= {"NOTIFY_SOCKET": str(notified)} | self._environment
        self._started = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def await_ready(self, *, deadline: float = 30) -> None:
        """Return when it says READY=1. Raises ``DaemonFailed``."""
        self._socket.settimeout(0.01)
        while time.monotonic() < self._started + deadline:
            try:
                if b"READY=1" in self._socket.recv(4096):
                    self.ready_after = time.monotonic() - self._started
                    return
            except TimeoutError:
                if self._process is not None and self._process.poll() is not None:
                    break
        self._socket.close()
        raise DaemonFailed(f"the daemon did not become ready:\n{self.log.read_text()[-4000:]}")

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self, *, deadline: float = 15) -> int:
        """End it as systemd does; networks stay. Returns its exit status."""
        return self._end(signal.SIGTERM, deadline)

    def kill(self) -> None:
        """End it without warning."""
        self._end(signal.SIGKILL, 5)

    def close(self) -> None:
        """End it if it runs."""
        if self.alive():
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()

    def _end(self, number: signal.Signals, deadline: float) -> int:
        assert self._process is not None, "the daemon does not run"
        self._process.send_signal(number)
        status = self._process.wait(timeout=deadline)
        self._socket.close()
        return status
