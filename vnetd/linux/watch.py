"""File events: one inotify instance for the files of all networks and the host's resolv.conf."""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from inotify_simple import INotify, flags

from vnetd.dnsmasq import layout
from vnetd.host.events import FileEvent, HostEvent, Overflow
from vnetd.linux.paced import PacedReader

RESOLV_CONF = "resolv.conf"
"""Name in the ``FileEvent`` (of network "") that reports a change of the host's upstream servers."""

_CHANGED = (
    flags.MODIFY | flags.CLOSE_WRITE | flags.MOVED_TO | flags.MOVED_FROM | flags.CREATE | flags.DELETE | flags.ONLYDIR
)
_SELF_GONE = flags.DELETE_SELF | flags.MOVE_SELF
_GONE = flags.DELETE | flags.MOVED_FROM

Interpret = Callable[[int, str], Iterable[HostEvent]]
"""From an inotify mask and a name in the watched directory to events."""


class Watch:
    """Watches directories, not files: these are replaced by renaming. Use on the event loop's thread only.

    The daemon's own writes are reported too; they plan to nothing. Events of one kind that arrive together are
    reported once.
    """

    def __init__(self, emit: Callable[[HostEvent], None]) -> None:
        self._emit = emit
        self._inotify = INotify(nonblocking=True)
        self._targets: dict[int, Interpret] = {}
        self._networks: dict[str, int] = {}
        self._reader = PacedReader(self._inotify.fileno(), self._read)

    def watch_network(self, network: str, directory: Path) -> None:
        """Report changes of leases, hosts, addnhosts and servers in ``directory``. Raises ``OSError``."""
        wd = self._add(directory, _CHANGED | _SELF_GONE, lambda mask, name: _network_events(network, mask, name))
        if self._networks.get(network, wd) != wd:
            self._drop(self._networks[network])
        self._networks[network] = wd

    def forget_network(self, network: str) -> None:
        """Stop watching the network's directory."""
        if (wd := self._networks.pop(network, None)) is not None:
            self._drop(wd)

    def watch_run_directory(self, directory: Path) -> None:
        """Report changes of the configuration files of all networks in ``directory``. Raises ``OSError``."""
        self._add(directory, _CHANGED, _configuration_events)

    def watch_resolv_conf(self, path: Path = Path("/etc/resolv.conf")) -> None:
        """Report changes of the host's list of name servers, also where ``path`` is a symbolic link that changes."""
        names: dict[Path, set[str]] = {}
        for file in (path, path.resolve()):
            names.setdefault(file.parent, set()).add(file.name)
        for directory, of_interest in names.items():
            # The directory of a link's target may come later, with the service that writes there.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._add(directory, _CHANGED, self._resolv_conf_events(path, frozenset(of_interest)))

    def close(self) -> None:
        """Stop watching everything. Closing twice is harmless."""
        if not self._inotify.closed:
            self._reader.close()
            self._inotify.close()

    def _add(self, directory: Path, mask: int, interpret: Interpret) -> int:
        wd = int(self._inotify.add_watch(directory, mask))
        self._targets[wd] = interpret
        return wd

    def _drop(self, wd: int) -> None:
        if self._targets.pop(wd, None) is not None:
            with contextlib.suppress(OSError):  # gone with its directory
                self._inotify.rm_watch(wd)

    def _resolv_conf_events(self, path: Path, names: frozenset[str]) -> Interpret:
        def interpret(_mask: int, name: str) -> Iterable[HostEvent]:
            if name not in names:
                return
            if name == path.name:
                self.watch_resolv_conf(path)  # a link may lead elsewhere now
            yield FileEvent("", RESOLV_CONF)

        return interpret

    def _read(self) -> None:
        events: dict[HostEvent, None] = {}
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                events[Overflow("inotify")] = None
            elif (interpret := self._targets.get(event.wd)) is not None:
                events.update(dict.fromkeys(interpret(event.mask, event.name)))
            if event.mask & flags.IGNORED:
                self._targets.pop(event.wd, None)
        for found in events:
            self._emit(found)


def _network_events(network: str, mask: int, name: str) -> Iterable[HostEvent]:
    if mask & _SELF_GONE:
        yield from (FileEvent(network, layout.LEASES), FileEvent(network, layout.CONFIGURATION))
    elif name in (*layout.DATA_FILES, layout.LEASES):
        yield FileEvent(network, name)
        if name == layout.LEASES and mask & _GONE:
            # dnsmasq goes on with the file it has open and must be started anew: look at the process as well.
            yield FileEvent(network, layout.CONFIGURATION)


def _configuration_events(_mask: int, name: str) -> Iterable[HostEvent]:
    network, suffix = os.path.splitext(name)
    if suffix == ".conf" and not name.startswith("."):
        yield FileEvent(network, layout.CONFIGURATION)
