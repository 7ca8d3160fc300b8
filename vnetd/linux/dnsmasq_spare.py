"""A dnsmasq that is loaded before anybody needs it."""

import logging
import os
import shutil
from collections.abc import Callable

from vnetd.linux import dnsmasq_process as process
from vnetd.linux.dnsmasq_process import Launched
from vnetd.linux.processes import SEARCH, is_alive
from vnetd.model.errors import Unsupported

LIBRARIES = "/etc/ld.so.cache"
"""Written anew when libraries are installed (ldconfig(8)): what was loaded before may not fit what it loads next."""

log = logging.getLogger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class Spare:
    """At most one waiting dnsmasq, which ``launch`` starts from the binary it is given. It blocks: for a worker thread.

    Nobody looks after it: if it is gone, old, or not what would be started now, another is launched when one is needed.
    """

    def __init__(self, launch: Callable[[str], Launched], binary: str) -> None:
        self._launch = launch
        self._binary = binary
        self._waiting: tuple[Launched, Stamp] | None = None

    def take(self) -> Launched:
        """One that waits. Raises ``Unsupported`` if dnsmasq is not installed, ``OSError`` if it cannot be started."""
        if self._waiting is None or not self._fits(*self._waiting):
            self.drop()
            return self._launch(process.find_binary(self._binary))
        (launched, _), self._waiting = self._waiting, None
        return launched

    def refill(self) -> None:
        """Have one that waits, if this host can."""
        if self._waiting is not None:
            return
        stamp = self._stamp()  # before: what changes meanwhile counts as changed
        try:
            self._waiting = self._launch(process.find_binary(self._binary)), stamp
        except (OSError, Unsupported) as error:  # whoever needs it is told
            log.debug("no dnsmasq waits: %s", error)

    def drop(self) -> None:
        """Have none."""
        if self._waiting is not None:
            process.abandon(self._waiting[0])
            self._waiting = None

    def _fits(self, launched: Launched, stamp: Stamp) -> bool:
        return stamp == self._stamp() and is_alive(launched.pidfd)

    def _stamp(self) -> Stamp:
        """What tells whether the program and its libraries are still the same."""
        binary = shutil.which(self._binary, path=SEARCH)
        return tuple(_identity(path) for path in (binary, LIBRARIES) if path)


def _identity(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return (0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_mtime_ns)
