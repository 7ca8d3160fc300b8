"""Documents as JSON files that survive a crash at any moment, whole or not at all."""

import errno
import itertools
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from vnetd.linux.threads import Worker
from vnetd.model.errors import HostError, Invalid

ROOTS = {"etc": "etc/vnetd", "run": "run/vnetd", "var": "var/lib/vnetd"}
INSTALLED = ("etc/vnetd", "usr/share/vnetd")
SUFFIX = ".json"
BROKEN = ".broken"
TEMPORARY = ".tmp"
LONGEST_NAME = 200
"""Bytes; leaves room for the suffixes within the kernel's 255."""
IN_MEMORY = {"tmpfs", "ramfs"}
_LAID_OUT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=2)
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

T = TypeVar("T")
Args = TypeVarTuple("Args")

log = logging.getLogger(__name__)


class FileStore:
    """``host.protocols.Store`` below a root directory: on a thread of its own, or at once what is kept in memory.

    /run is in memory on every booted host. To write there takes a fraction of what handing it to a thread does, and
    nothing of it outlasts the host, so that there is nothing to sync.

    Kind ``etc/networks`` is ROOT/etc/vnetd/networks, ``run/ports`` ROOT/run/vnetd/ports, ``var/ids``
    ROOT/var/lib/vnetd/ids; each is made when first written to. All verbs raise ``Invalid`` for a kind or name
    that cannot be one and ``HostError`` for what the file system refuses.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._worker = Worker("vnetd-store")
        self._memory: dict[str, bool] = {}
        self._paths: dict[str, str] = {}
        self._mark = os.urandom(4).hex()
        """What the temporary files of no other run have in their names."""
        self._numbers = itertools.count()

    async def load(self, kind: str) -> Mapping[str, object]:
        """Every document of a kind by name.

        A file that does not parse is renamed to NAME.json.broken and logged as an error. What an interrupted
        write left is removed. Symbolic links and other special files are logged and ignored.
        """
        return await self._do(kind, self._load, kind)

    async def save(self, kind: str, name: str, document: object) -> None:
        """Write a JSON value atomically; it must not be changed before this returns."""
        await self._do(kind, self._save, kind, name, document)

    async def delete(self, kind: str, name: str) -> None:
        """Remove a document; one that is gone already is no error."""
        await self._do(kind, self._delete, kind, name)

    async def close(self) -> None:
        """Finish what is under way and end the thread."""
        await self._worker.close()

    async def broken(self, kind: str) -> frozenset[str]:
        """Names of documents that were set aside and not written anew: what they described is unknown."""
        return await self._do(kind, self._broken, kind)

    async def installed(self, name: str) -> str:
        """Text of ROOT/etc/vnetd/NAME, else of ROOT/usr/share/vnetd/NAME, else "". Raises ``HostError``."""
        return await self._worker.run(self._installed, name)

    async def _do(self, kind: str, function: Callable[[*Args], T], *args: *Args) -> T:
        """All verbs of a kind go the same way, so that they are done in the order of their calls."""
        if self._in_memory(kind):
            return function(*args)
        return await self._worker.run(function, *args)

    def _in_memory(self, kind: str) -> bool:
        place = kind.partition("/")[0]
        if place not in self._memory:
            self._memory[place] = place in ROOTS and is_in_memory(self._root / ROOTS[place])
        return self._memory[place]

    def _sync(self, kind: str, fd: int) -> None:
        if not self._in_memory(kind):
            os.fsync(fd)

    def _installed(self, name: str) -> str:
        for place in INSTALLED:
            with _reporting("read", f"/{place}/{name}"), suppress(FileNotFoundError):
                return (self._root / place / name).read_text(encoding="utf-8", errors="replace")
        return ""

    def _load(self, kind: str) -> Mapping[str, object]:
        documents: dict[str, object] = {}
        with _reporting("load", kind), self._existing(kind) as directory:
            for entry in _entries(directory):
                if entry.startswith(".") and entry.endswith(TEMPORARY):
                    _unlink(directory, entry)
                elif entry.endswith(SUFFIX) and is_name(name := entry.removesuffix(SUFFIX)):
                    with suppress(_Unusable):
                        documents[name] = _read(directory, entry)
        return documents

    def _save(self, kind: str, name: str, document: object) -> None:
        target = _file(name)
        temporary = f".{target}.{self._mark}{next(self._numbers)}{TEMPORARY}"
        # Laid out for people where people look; the compact form is much faster to make.
        data = (_LAID_OUT if kind.startswith("etc/") else _COMPACT).encode(document)
        with _reporting("save", f"{kind}/{name}"), self._made(kind) as directory:
            try:
                self._write(kind, directory, temporary, data.encode() + b"\n")
                os.rename(temporary, target, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                _unlink(directory, temporary)
                raise
            self._sync(kind, directory)

    def _write(self, kind: str, directory: int, name: str, data: bytes) -> None:
        file = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        try:
            while data:
                data = data[os.write(file, data) :]
            self._sync(kind, file)
        finally:
            os.close(file)

    def _delete(self, kind: str, name: str) -> None:
        target = _file(name)
        with _reporting("delete", f"{kind}/{name}"), self._existing(kind) as directory:
            if _unlink(directory, target):
                self._sync(kind, directory)

    def _broken(self, kind: str) -> frozenset[str]:
        with _reporting("load", kind), self._existing(kind) as directory:
            entries = _entries(directory)
        aside = {entry.rpartition(SUFFIX + BROKEN)[0] for entry in entries}
        return frozenset(name for name in aside if name and f"{name}{SUFFIX}" not in entries)

    @contextmanager
    def _existing(self, kind: str) -> Iterator[int]:
        """The directory of a kind, -1 if there is none."""
        try:
            directory = _open_directory(self._path(kind))
        except FileNotFoundError:
            yield -1
            return
        try:
            yield directory
        finally:
            os.close(directory)

    @contextmanager
    def _made(self, kind: str) -> Iterator[int]:
        """The directory of a kind, made durably if there is none."""
        path = self._path(kind)
        try:
            directory = _open_directory(path)
        except FileNotFoundError:
            directory = self._make(Path(path))
        try:
            yield directory
        finally:
            os.close(directory)

    def _make(self, path: Path) -> int:
        above = path.parents[: path.parents.index(self._root) + 1]
        for one in reversed(above):
            _make_directory(one, 0o755)
        _make_directory(path, 0o700)
        return _open_directory(path)

    def _path(self, kind: str) -> str:
        """The directory of a kind. It is remembered, for guests that come are in a hurry."""
        if kind not in self._paths:
            place, _, rest = kind.partition("/")
            if place not in ROOTS or not re.fullmatch(r"[a-z][a-z0-9-]*", rest):
                raise Invalid(f"{kind!r} is no kind of document")
            self._paths[kind] = str(self._root / ROOTS[place] / rest)
        return self._paths[kind]


def is_in_memory(path: Path) -> bool:
    """Whether a path is, or would be made, in a file system that is kept in memory (proc_pid_mountinfo(5))."""
    there = next(one for one in (path, *path.parents) if one.exists())
    device = there.stat().st_dev
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        about, _, rest = line.partition(" - ")
        if about.split()[2] == f"{os.major(device)}:{os.minor(device)}":
            return rest.split()[0] in IN_MEMORY
    return False


class _Unusable(Exception):
    """A file that holds no document."""


def is_name(name: str) -> bool:
    """Whether a document may have this name: a file name, not hidden, without control characters."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < length <= LONGEST_NAME and name[0] != "." and "/" not in name and name.isprintable()


def _file(name: str) -> str:
    if not is_name(name):
        raise Invalid(f"{name[:LONGEST_NAME]!r} cannot name a document: it is no plain file name")
    return name + SUFFIX


def _entries(directory: int) -> list[str]:
    return sorted(os.listdir(directory)) if directory != -1 else []


def _read(directory: int, entry: str) -> object:
    """The document in a file. What does not parse is set aside; raises ``_Unusable`` then."""
    try:
        # Not blocking: a FIFO of that name must not hold up the start.
        fd = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        log.error("%s is a symbolic link: ignored", entry)
        raise _Unusable from error
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            log.error("%s is no regular file: ignored", entry)
            raise _Unusable
        data = file.read()
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        log.error("%s does not parse and is kept as %s: %s", entry, _set_aside(directory, entry), error)
        raise _Unusable from error
    return document


def _set_aside(directory: int, entry: str) -> str:
    taken = set(os.listdir(directory))
    names = (entry + BROKEN + (f".{number}" if number else "") for number in itertools.count())
    aside = next(name for name in names if name not in taken)
    os.rename(entry, aside, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
    return aside


def _unlink(directory: int, name: str) -> bool:
    """Remove a file; ``False`` if there is none."""
    if directory == -1:
        return False
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _make_directory(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode)
    except FileExistsError:
        return
    parent = _open_directory(path.parent)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _open_directory(path: str | Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextmanager
def _reporting(operation: str, subject: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(operation, subject, error.errno or errno.EIO) from error
