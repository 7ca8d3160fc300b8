"""What is prepared once, below ``.cache/vm``: whole or not at all, by one process at a time."""

import errno
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.machine.errors import NoSpace, Unavailable

TOP = Path(__file__).resolve().parents[3]
CACHE = TOP / ".cache" / "vm"


class CommandFailed(Unavailable):
    """A command that prepares something; the message says which, and what it said."""


def once(target: Path, what: str, needed: int, make: Callable[[Path], Path]) -> None:
    """Unless ``target`` is there, have ``make`` make it in a directory it is given; ``what`` it is, in words.

    ``needed`` bytes must be free. Raises ``NoSpace``, and what ``make`` raises; nothing is left then.
    """
    cache = target.parent
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "prepare.lock"):
        if target.exists():
            return
        if (free := shutil.disk_usage(cache).free) < needed:
            raise NoSpace(f"no space for {what} in {cache}: {free // 10**6} MB are free, {needed // 10**6} are needed")
        with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as work, _space_permitting(what, cache):
            make(Path(work)).rename(target)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes that lock ``path``; waits for the others."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(*command: str, cwd: Path | None = None) -> str:
    """What a command prints. Raises ``CommandFailed``, ``OSError`` if the disk is full."""
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False, env=_environment()
        )
    except FileNotFoundError:
        raise CommandFailed(f"there is no {command[0]} on this host") from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{' '.join(command)} did not end within ten minutes") from None
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr or done.stdout).strip()
    if "No space left" in said:
        raise OSError(errno.ENOSPC, said.splitlines()[-1])
    raise CommandFailed(f"{' '.join(command)}: {said}")


@contextmanager
def _space_permitting(what: str, where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoSpace(f"no space for {what} in {where}: {error.strerror}") from None


def _environment() -> dict[str, str]:
    return os.environ | {"LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"}
