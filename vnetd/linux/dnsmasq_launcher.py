"""What in the life of a dnsmasq takes files and processes: it may block, and belongs on a worker thread."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from vnetd.dnsmasq import layout
from vnetd.linux import dnsmasq_files as files
from vnetd.linux import dnsmasq_process as process
from vnetd.linux.dnsmasq_files import Account, Paths, paths_of
from vnetd.linux.dnsmasq_netlink import spare
from vnetd.linux.dnsmasq_process import Launched, Live
from vnetd.linux.processes import is_alive
from vnetd.model.errors import HostError
from vnetd.plan.dnsmasq import DnsmasqState, Instance


@dataclass(frozen=True, slots=True)
class Running:
    """A dnsmasq we look after. ``started_with`` is its configuration, ``None`` if that is not known any more."""

    live: Live
    started_with: str | None

    @property
    def pidfd(self) -> int:
        """The process."""
        return self.live.pidfd


def failed(operation: str, paths: Paths, words: str) -> HostError:
    """What could not be done to a network's dnsmasq."""
    return HostError(f"{operation} dnsmasq", f"of network {paths.network}", words)


class Launcher:
    """dnsmasqs below ``root`` that run ``binary`` and serve as ``account``."""

    def __init__(self, root: Path, binary: str, account: Account) -> None:
        self._root = root
        self._binary = binary
        self._account = account
        self._uids = frozenset({0, account.uid})

    def launch(self, paths: Paths, instance: Instance, orphaned: str | None) -> Launched | Running:
        """Load the program, and write the files meanwhile; or return one that runs and nobody adopted.

        What it is started with is noted last: an heir that finds that takes it for whole, else starts it anew.
        """
        if (running := self.find(paths)) is not None:
            return running
        launched = process.launch(process.find_binary(self._binary), paths.pid, self._account)
        try:
            files.write(paths, instance.files, self._account, orphaned)
            files.refuse_barred(paths, self._account)
            paths.pid.unlink(missing_ok=True)
            process.direct(launched, paths.configuration)
            files.replace(paths.state, instance.files[layout.CONFIGURATION], 0)
        except BaseException:
            process.abandon(launched)
            raise
        return launched

    def started(self, paths: Paths, launched: Launched, instance: Instance) -> tuple[Running, DnsmasqState]:
        """Once it ended: the one behind it, which serves, and what is there. Raises ``HostError`` with its words."""
        if words := process.outcome(launched):
            raise failed("start", paths, words)
        live = process.open_live(process.read_pid(paths.pid), paths.pid, self._uids)
        if live is None:
            raise failed("start", paths, "it ended as soon as it had started")
        spare(live, addresses=not instance.follows_addresses)
        running = Running(live, instance.files[layout.CONFIGURATION])
        return running, self.read_state(paths, running)[0]

    def find(self, paths: Paths) -> Running | None:
        """The one its pid file names, if that is one of ours."""
        return self._running(paths, process.read_pid(paths.pid))

    def _running(self, paths: Paths, pid: int) -> Running | None:
        live = process.open_live(pid, paths.pid, self._uids)
        if live is None:
            return None
        if paths.data.is_dir():
            return Running(live, files.read_text(paths.state))
        # Its daemon died before it told it what to serve: that is said once there are its files.
        signal.pidfd_send_signal(live.pidfd, signal.SIGKILL)
        os.close(live.pidfd)
        return None

    def find_all(self) -> dict[str, Running]:
        """Every one below the root, by network; also what lost its pid file."""
        found: dict[str, Running] = {}
        lost: dict[Path, Paths] = {}
        for paths in (paths_of(self._root, network) for network in files.known_networks(self._root)):
            if running := self.find(paths):
                found[paths.network] = running
            else:
                lost[paths.pid] = paths
        for pid_file, pid in process.running_with(lost) if lost else ():
            paths = lost[pid_file]
            if paths.network not in found and (running := self._running(paths, pid)):
                found[paths.network] = running
        return found

    def read_state(self, paths: Paths, running: Running | None) -> tuple[DnsmasqState, Running | None]:
        """The state, and the running process if it was not known yet."""
        found = self.find(paths) if running is None else None
        current = running or found
        texts = files.read_rendered(paths)
        if current is None or not is_alive(current.live.pidfd):
            return DnsmasqState(0, None, texts), found
        started_with = current.started_with if paths.leases.exists() else None
        return DnsmasqState(current.live.pid, started_with, texts), found

    def kill_stuck(self, paths: Paths, launched: Launched) -> None:
        """End one that was released and does not get to serve."""
        process.kill_stuck(launched, paths.pid, self._uids)
