"""systemd-resolved in a network namespace and on a bus of one's own.

It is downloaded and unpacked, never installed: its package would point the machine's /etc/resolv.conf at it.
``python -m support.resolved`` does that; ./test runs it first, for tests have no network. Kept below
``.cache/resolved``, unless the host has it anyway.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.netns import run
from support.private_bus import PrivateBus
from support.waiting import wait_until

TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / ".cache" / "resolved"
PACKAGE = "systemd-resolved"
NAME = "org.freedesktop.resolve1"
HAS_OWNER = ("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "s", NAME)
POLICY = f'<policy context="default"><allow own="{NAME}"/><allow send_destination="{NAME}"/></policy>'
DAEMON, TOOL = "lib/systemd/systemd-resolved", "bin/resolvectl"
UNPREPARED = "no systemd-resolved is prepared: ./test does, where packages can be downloaded"
# In a mount namespace of its own: with its directories, and the user it becomes. Of what the host as a whole does not
# do (multicast DNS, by Debian's default) later versions tell "no" for each link.
INSIDE = """
set -e
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/systemd/netif/links /run/systemd/resolve /run/systemd/resolved.conf.d
printf '[Resolve]\nMulticastDNS=yes\n' >/run/systemd/resolved.conf.d/test.conf
cp /etc/passwd /etc/group /run/
grep -q ^systemd-resolve: /run/passwd || echo systemd-resolve:x:65534:65534::/:/usr/sbin/nologin >>/run/passwd
grep -q ^systemd-resolve: /run/group || echo systemd-resolve:x:65534: >>/run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
chown systemd-resolve: /run/systemd/resolve
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class RunningResolved:
    """One that answers on ``bus``, in the network namespace at ``netns``."""

    bus: PrivateBus
    netns: str
    process: "subprocess.Popen[bytes]"

    def ctl(self, *arguments: str) -> str:
        """What resolvectl prints. Raises ``CommandFailed``."""
        return self._run(*arguments).stdout

    def knows(self, name: str) -> str:
        """What it answers when asked for a name now, "" if it cannot tell."""
        self.ctl("flush-caches")
        return self._run("query", "-4", "--legend=no", name, check=False).stdout

    def shown(self, link: str) -> dict[str, str]:
        """Everything that can be set for a link, in resolvectl's words."""
        kinds = ("dns", "domain", "default-route", "llmnr", "mdns", "dnsovertls", "dnssec", "nta")
        return {kind: self.ctl(kind, link).partition("):")[2].strip() for kind in kinds}

    def pause(self) -> None:
        """Have it answer nobody."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it answer again."""
        self.process.send_signal(signal.SIGCONT)

    def _run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        environment = ("env", f"DBUS_SYSTEM_BUS_ADDRESS={self.bus.address}")
        return run("nsenter", f"--net={self.netns}", *environment, str(_program(TOOL)), *arguments, check=check)


def prepared() -> bool:
    """Whether there is one that runs: one of an earlier release lacks the library of its version."""
    programs = [_program(DAEMON), _program(TOOL)]
    return all(one.exists() and run(str(one), "--version", check=False).returncode == 0 for one in programs)


@contextmanager
def resolved(bus: PrivateBus, netns: str) -> Iterator[RunningResolved]:
    """One that runs for as long as the block lasts; ``bus`` must have ``POLICY``."""
    command = ["nsenter", f"--net={netns}", "unshare", "--mount", "sh", "-c", INSIDE, "inside", str(_program(DAEMON))]
    environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": bus.address, "SYSTEMD_LOG_TARGET": "console"}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: bus.busctl(*HAS_OWNER).stdout == "b true\n", "systemd-resolved is on the bus")
        yield RunningResolved(bus, netns, process)
    finally:
        process.kill()
        process.wait()


def _program(path: str) -> Path:
    installed = Path("/usr") / path
    return installed if installed.exists() else CACHE / "usr" / path


def prepare() -> None:
    """Download and unpack it unless there is one. Needs apt and the network. Raises ``CommandFailed``."""
    if prepared():
        return
    CACHE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=CACHE.parent) as name:
        work = Path(name)
        download = ("-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE)
        subprocess.run(["apt-get", *download], cwd=work, check=True, capture_output=True, timeout=300)
        (package,) = work.glob("*.deb")
        run("dpkg-deb", "--extract", str(package), str(work / "tree"))
        if (work / "tree/lib").is_dir():  # as it was before everything lay below /usr
            run("cp", "-a", str(work / "tree/lib"), str(work / "tree/usr"))
        shutil.rmtree(CACHE, ignore_errors=True)
        (work / "tree").rename(CACHE)


if __name__ == "__main__":
    try:
        prepare()
    except (subprocess.SubprocessError, AssertionError) as error:
        print(f"{PACKAGE} cannot be had, so tests with it are skipped: {error}", file=sys.stderr)
