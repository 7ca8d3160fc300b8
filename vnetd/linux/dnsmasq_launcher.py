"""What in the life of a dnsmasq takes files and processes: it may block, and belongs on a worker thread."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vnetd.dnsmasq import layout
from vnetd.linux import dnsmasq_files as files
from vnetd.linux import dnsmasq_process as process
from vnetd.linux.dnsmasq_files import Account, Note, Paths, paths_of
from vnetd.linux.dnsmasq_netlink import deafen
from vnetd.linux.dnsmasq_process import Launched, Live
from vnetd.linux.dnsmasq_spare import Spare
from vnetd.linux.processes import is_alive
from vnetd.model.errors import HostError
from vnetd.plan.dnsmasq import DnsmasqState, Instance


@dataclass(frozen=True, slots=True)
class Running:
    """A dnsmasq we look after. ``started_with`` is its configuration."""

    live: Live
    started_with: str

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
        self._account = account
        self._uids = frozenset({0, account.uid})
        self._run = Path(layout.run_directory(str(root)))
        self.spare = Spare(lambda program: process.launch(program, self._run, account), binary)

    def launch(self, paths: Paths, instance: Instance, orphaned: str | None) -> Launched | Running:
        """One that waits and was told what to serve; or one that runs and nobody adopted.

        What it is started with is noted last: an heir that finds that takes it for whole, else starts it anew.
        """
        if (running := self.find(paths)) is not None:
            return running
        launched = self.spare.take()
        try:
            files.write(paths, instance.files, self._account, orphaned)
            files.refuse_barred(paths, self._account)
            paths.pid.unlink(missing_ok=True)
            process.direct(launched, paths.configuration)
            files.note(paths, Note(launched.name, launched.pid, instance.files[layout.CONFIGURATION]))
        except BaseException:
            process.abandon(launched)
            raise
        return launched

    def started(
        self, paths: Paths, launched: Launched, instance: Instance, texts: Mapping[str, str]
    ) -> tuple[Running, DnsmasqState]:
        """Once it is ready: the process, which serves, and what is there; its files hold ``texts``.

        Raises ``HostError`` with dnsmasq's words.
        """
        live = process.settled(launched, paths.pid)
        if live is None:
            raise failed("start", paths, process.outcome(launched))
        deafen(live, addresses=not instance.follows_addresses)
        running = Running(live, instance.files[layout.CONFIGURATION])
        return running, _state(paths, running, texts)

    def find(self, paths: Paths) -> Running | None:
        """The one on record, if it runs."""
        note = files.noted(paths)
        live = process.open_live(note.pid, self._run, note.name, self._uids) if note else None
        return Running(live, note.configuration) if live and note else None

    def find_all(self) -> dict[str, Running]:
        """Every one on record, by network. One that is on none is ended: nobody knows whether it was told all."""
        known = [paths_of(self._root, network) for network in files.known_networks(self._root)]
        found = {paths.network: running for paths in known if (running := self.find(paths))}
        names = {note.name for paths in known if paths.network in found and (note := files.noted(paths))}
        for name, pid in process.running_below(self._run):
            if name not in names:
                process.kill(pid, self._run, name, self._uids)
        return found

    def read_state(self, paths: Paths, running: Running | None) -> tuple[DnsmasqState, Running | None]:
        """The state, and the running process if it was not known yet."""
        found = self.find(paths) if running is None else None
        return _state(paths, running or found, files.read_rendered(paths)), found


def _state(paths: Paths, running: Running | None, texts: Mapping[str, str]) -> DnsmasqState:
    if running is None or not is_alive(running.live.pidfd):
        return DnsmasqState(0, None, texts)
    started_with = running.started_with if paths.leases.exists() else None
    return DnsmasqState(running.live.pid, started_with, texts)
