"""The files of the dnsmasq processes on this host: where they lie, who may read them, how they are written.

dnsmasq reads hosts and servers again on SIGHUP, when it is no longer root: its group must be able to read them, and
to pass all directories above. It must not be able to write anything but its lease file, which it keeps open from
its start as root. Nothing here is synced to the disk: all but the leases, which dnsmasq syncs itself, is rendered
again when a network starts.
"""

import contextlib
import grp
import os
import pwd
import re
import shutil
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from vnetd.dnsmasq import layout, leases
from vnetd.model.errors import HostError, Invalid

SETTLE = 0.02
"""Seconds a lease file must not have changed to count as complete: dnsmasq empties it before it writes."""
_IDENTITY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_RENDERED = (layout.CONFIGURATION, *layout.DATA_FILES)


@dataclass(frozen=True, slots=True)
class Account:
    """User and group dnsmasq runs as."""

    user: str
    uid: int
    group: str
    gid: int


def find_account(user: str = "dnsmasq") -> Account:
    """The account of ``user``, or of nobody where a distribution has no such user.

    The group is the one of the same name if there is one: on Debian 12 the user's own group is ``nogroup``, which
    other services share. It is always named to dnsmasq, whose own default is ``dip``.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        entry = pwd.getpwnam("nobody")
    try:
        group = grp.getgrnam(entry.pw_name)
    except KeyError:
        group = grp.getgrgid(entry.pw_gid)
    return Account(entry.pw_name, entry.pw_uid, group.gr_name, group.gr_gid)


@dataclass(frozen=True)
class Paths:
    """Paths of one network's files, each made once: all of them are needed at every look.

    Raises ``Invalid`` if ``network`` is no identifier that may be a file name.
    """

    root: Path
    network: str

    def __post_init__(self) -> None:
        if not _IDENTITY.fullmatch(self.network):
            raise Invalid(f"{self.network!r} identifies no network: a UUID is needed")

    @cached_property
    def data(self) -> Path:
        """Directory of hosts, servers and leases."""
        return Path(layout.state_directory(str(self.root), self.network))

    @cached_property
    def run(self) -> Path:
        """Directory shared by all networks' configuration, pid and state files."""
        return Path(layout.run_directory(str(self.root)))

    @cached_property
    def configuration(self) -> Path:
        """What dnsmasq is started with."""
        return self.run / f"{self.network}.conf"

    @cached_property
    def pid(self) -> Path:
        """Written by dnsmasq when it serves."""
        return self.run / f"{self.network}.pid"

    @cached_property
    def state(self) -> Path:
        """Which process was started, and a copy of the configuration it was started with: the other may drift."""
        return self.run / f"{self.network}.state"

    @cached_property
    def leases(self) -> Path:
        """dnsmasq's lease database."""
        return self.data / layout.LEASES

    def of(self, name: str) -> Path:
        """The file with the base name an ``Instance`` knows it by."""
        return self.configuration if name == layout.CONFIGURATION else self.data / name


@dataclass(frozen=True, slots=True)
class Note:
    """What is on record of the process that serves a network: the name it was launched under, id, configuration."""

    name: str
    pid: int
    configuration: str


@lru_cache(maxsize=4096)
def paths_of(root: Path, network: str) -> Paths:
    """``Paths``, remembered."""
    return Paths(root, network)


def write(paths: Paths, files: Mapping[str, str], account: Account, orphaned: str | None = None) -> None:
    """Make the files hold these texts and remove rendered ones not named.

    A file that is right already is not touched. ``orphaned`` is what a lease file that is missing now had held.
    Raises ``OSError``.
    """
    _make_directory(paths, account)
    for name, text in files.items():
        gid = 0 if name == layout.CONFIGURATION else account.gid
        if read_text(paths.of(name)) != text:
            replace(paths.of(name), text, gid)
    for name in set(_RENDERED) - set(files):
        _clear(paths.of(name))
    if orphaned is not None and not paths.leases.exists():
        replace(paths.leases, orphaned, account.gid)
    _ensure_lease_file(paths.leases, account.gid)


def give_leases(paths: Paths, text: str, account: Account) -> None:
    """Make ``text`` the lease file. Raises ``OSError``."""
    _make_directory(paths, account)
    replace(paths.leases, text, account.gid)


def orphaned_leases(paths: Paths, pid: int) -> str | None:
    """What dnsmasq ``pid`` has in a lease file that somebody took away but it still has open; else ``None``."""
    if paths.leases.exists():
        return None
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            if fd.readlink() == Path(f"{paths.leases} (deleted)"):
                return fd.read_text()
    return None


def note(paths: Paths, launched: Note) -> None:
    """Put on record what was started for the network. Raises ``OSError``."""
    replace(paths.state, f"{launched.name} {launched.pid}\n{launched.configuration}", 0)


def noted(paths: Paths) -> Note | None:
    """What is on record of the network's process, if anything is."""
    process, _, configuration = (read_text(paths.state) or "").partition("\n")
    name, _, pid = process.partition(" ")
    return Note(name, int(pid), configuration) if pid.isascii() and pid.isdigit() else None


def read_rendered(paths: Paths) -> dict[str, str]:
    """Texts of the rendered files that are there."""
    texts = {name: read_text(paths.of(name)) for name in _RENDERED}
    return {name: text for name, text in texts.items() if text is not None}


def remove(paths: Paths, forget: bool = False) -> None:
    """Remove what was rendered and what dnsmasq wrote to /run; with ``forget`` the leases too.

    A lease file that holds nothing goes as well, so that a start that failed leaves nothing. Raises ``OSError``.
    """
    for path in (paths.configuration, paths.pid, paths.state, *(paths.of(name) for name in layout.DATA_FILES)):
        _clear(path)
    if forget or not read_text(paths.leases):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(paths.data)


def replace(path: Path, text: str, gid: int) -> None:
    """Put ``text`` in place of the file at once, readable for ``gid`` (mode 0640). Raises ``OSError``."""
    # A leading dot: the watch on the directory takes such names for work in progress.
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=0) as file:
        os.fchown(fd, -1, gid)
        os.fchmod(fd, 0o640)
        file.write(text.encode())
    if path.is_dir() and not path.is_symlink():
        _clear(path)
    os.rename(temporary, path)


def _clear(path: Path) -> None:
    """Remove what has the name of one of our files in our own directory, be it a directory even."""
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        shutil.rmtree(path)


def read_text(path: Path) -> str | None:
    """The file's text, ``None`` if there is no regular file; bytes that are no UTF-8 make it differ from any other."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # Python refuses to open a directory's, and leaves it open
        os.close(fd)
        return None
    with open(fd, "rb") as file:
        return file.read().decode(errors="replace")


def read_leases(path: Path) -> tuple[str | None, bool]:
    """Text of a lease file, and whether it has rested so long that no write of it can be under way."""
    try:
        before = path.stat()
        text = read_text(path)
        after = path.stat()
    except FileNotFoundError:
        return None, True
    unchanged = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    # The age is one of wall clock times on both sides; a clock that was set back counts as old.
    age = time.time() - after.st_mtime
    return text, unchanged and not 0 <= age < SETTLE and leases.parse(text or "") is not None


def barred(directory: Path, account: Account) -> Path | None:
    """The first directory on the way to ``directory`` that ``account`` may not pass, if any."""
    for path in reversed([directory, *directory.parents]):
        if not _may_pass(path.stat(), account):
            return path
    return None


def refuse_barred(paths: Paths, account: Account) -> None:
    """Raise ``HostError`` if dnsmasq could not reach its files, of which it would complain only in its log."""
    if (path := barred(paths.data, account)) is not None:
        reason = f"user {account.user} must be able to pass the directory {path}: allow it with chmod o+x"
        raise HostError("start dnsmasq", f"of network {paths.network}", reason)


def _may_pass(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _make_directory(paths: Paths, account: Account) -> None:
    if not paths.run.is_dir():
        paths.run.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not paths.data.is_dir():
        paths.data.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        paths.data.mkdir(mode=0o700)
    os.chown(paths.data, 0, account.gid, follow_symlinks=False)
    paths.data.chmod(0o750)


def _ensure_lease_file(path: Path, gid: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(fd, 0, gid)
        os.fchmod(fd, 0o640)
    finally:
        os.close(fd)


def known_networks(root: Path) -> Iterable[str]:
    """Networks that have a configuration below /run, or a process on record."""
    run = Path(layout.run_directory(str(root)))
    names = {path.stem for path in run.glob("*.conf")} | {path.stem for path in run.glob("*.state")}
    return sorted(name for name in names if _IDENTITY.fullmatch(name))
