"""vnetd's packages, bare systems of Debian's releases to install them on, and one with an installed checkout.

``python -m support.debian_package`` makes all where that was not done for these very files; ./test runs it first, for
tests have no network to fetch anything from. Kept below ``.cache/packaging``.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / ".cache" / "packaging"
RELEASES = ("bookworm", "trixie")
"""Debian 12 and 13."""
CHECKOUT_ON = "bookworm"
"""Where packaging/install is run."""
INPUTS = ("packaging", "vnetd", "clients", "dbus", "systemd", "docs/man", "LICENSE", "MANIFEST.in")
INPUTS += ("README.md", "CHANGELOG.md", "pyproject.toml", "setup.py")
SYSTEM = ("systemd", "systemd-sysv", "dbus", "python3", "libnftables1", "dnsmasq-base", "udev", "kmod", "iproute2")
SYSTEM += ("busybox", "procps", "nftables", "sudo", "network-manager", "firewalld")
"""What a bare system has: what boots it, what packages depend on (tests have no archive), tools of tests, guests and
who installs something, other network services."""
MOUNTS = """
root=$1; shift
while [ "$1" != -- ]; do
    mkdir -p "$root$1" && mount --bind "$2" "$root$1" || exit 125
    shift 2
done
shift
mkdir -p "$root/dev"
for device in null zero urandom random; do
    touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device" || exit 125
done
mkdir -p "$root/dev/net" && touch "$root/dev/net/tun" && mount --bind /dev/net/tun "$root/dev/net/tun"
mount -t proc proc "$root/proc" && mount -t sysfs sysfs "$root/sys" && mount -t tmpfs tmpfs "$root/run" || exit 125
"""
INSIDE = """
exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive "$@"
"""
SERVING = """
mkdir -p /run/dbus && dbus-daemon --system --fork
vnetd >/tmp/log 2>&1 & daemon=$!
for i in $(seq 300); do vnetctl status >/dev/null 2>&1 && break; sleep 0.2; done
vnetctl --json network list; cat /tmp/log >&2
vnetctl network stop --all >/dev/null; kill $daemon; wait $daemon
"""


class Unprepared(Exception):
    """There is no package or no system; the message says why."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Both, as files: the package, and an archive of the system."""

    package: Path
    system: Path


@dataclass(frozen=True, slots=True)
class System:
    """A Debian system below ``root`` on which nothing runs. ``shared``: directories of ours, by where it finds them."""

    root: Path
    shared: Mapping[str, Path] = field(default_factory=dict)

    def run(self, *command: str, check: bool = True, timeout: float = 300) -> str:
        """What a command prints there, in namespaces of its own: without network, and all it starts ends with it."""
        return self._run(MOUNTS + INSIDE, *command, check=check, timeout=timeout)

    def outside(self, *command: str) -> str:
        """What a command of this host prints, while the system below ``root`` has all its mounts."""
        return self._run(MOUNTS + 'exec "$@"', *command)

    def _run(self, script: str, *command: str, check: bool = True, timeout: float = 300) -> str:
        shared = [str(word) for place in self.shared.items() for word in place]
        isolated = [str(TOP / "scripts/isolated"), "sh", "-c", script, "inside", str(self.root), *shared, "--"]
        done = subprocess.run([*isolated, *command], capture_output=True, text=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def networks(self) -> list[dict[str, Any]]:
        """Run the daemon that is installed there, and return the networks it lists."""
        return list(json.loads(self.run("sh", "-c", SERVING)))

    def files(self, word: str = "vnet") -> set[str]:
        """Every path with this word in its last part; what is below is not listed."""
        found: set[str] = set()
        for directory, below, names in os.walk(self.root):
            here = f"/{Path(directory).relative_to(self.root)}".replace("/.", "")
            found |= {f"{here}/{name}" for name in (*names, *below) if word in name}
            below[:] = [name for name in below if word not in name and here + name not in {"proc", "sys", "dev"}]
        return found


def unpacked(archive: Path, directory: Path, shared: Mapping[str, Path] | None = None) -> System:
    """The system in an archive, below a directory that is made."""
    directory.mkdir()
    command = ["tar", "--extract", "--file", str(archive), "--directory", str(directory), "--exclude", "./dev/*"]
    subprocess.run(command, check=True, timeout=300)
    return System(directory, shared or {})


def contents(package: Path) -> set[str]:
    """Files of a package, those left out that only Debian wants."""
    listed = subprocess.run(["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True).stdout
    files = {words[5][1:] for line in listed.splitlines() if not (words := line.split())[5].endswith("/")}
    return {path for path in files if not path.startswith(("/usr/share/doc/", "/usr/share/lintian/"))}


def newer(package: Path, work: Path) -> Path:
    """A later version of a package, in which one of the files is gone."""
    tree, made = work / "tree", work / "newer.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: (.*)$", r"Version: \1.1", control.read_text(), flags=re.MULTILINE))
    (tree / "usr/share/bash-completion/completions/vnetctl").unlink()
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made], check=True, capture_output=True)
    return made


def prepared(release: str) -> Prepared:
    """What was prepared for these files. Raises ``Unprepared``."""
    package, system = _package(release), _system(release)
    if package is None or not system.exists():
        raise _unprepared(release, f"no package of these files for {release}, or no system to install it on")
    return Prepared(package, system)


def installed_checkout() -> Path:
    """An archive of a system on which packaging/install ran, these files in ``/source``. Raises ``Unprepared``."""
    prepared(CHECKOUT_ON)
    if not _installed().exists():
        raise _unprepared(CHECKOUT_ON, "no system with an installed checkout")
    return _installed()


def rpm_package() -> Path:
    """The RPM package of these files, made for this host's Python. Raises ``Unprepared``."""
    if made := next(_output("rpm").glob("*.rpm"), None):
        return made
    raise _unprepared("rpm", "no RPM package of these files")


def _unprepared(what: str, sentence: str) -> Unprepared:
    reason = _failure(what)
    said = reason.read_text() if reason.exists() else "./test makes it, where packages can be downloaded"
    return Unprepared(f"{sentence}: {said}")


def own_release() -> str:
    """This host's."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def prepare() -> list[Path]:
    """Make what is missing; returns the packages. Needs root, mmdebstrap and the archives. Raises ``Unprepared``."""
    CACHE.mkdir(parents=True, exist_ok=True)
    _forget_old()
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(_prepare, what) for what in (*RELEASES, "rpm")]:
            done.result()
    return [*(prepared(release).package for release in RELEASES), rpm_package()]


def _prepare(what: str) -> None:
    _failure(what).unlink(missing_ok=True)
    try:
        _make_rpm() if what == "rpm" else _make_release(what)
    except Unprepared as error:
        _failure(what).write_text(str(error))
        raise


def _make_rpm() -> None:
    if not list(_output("rpm").glob("*.rpm")):
        _run(str(TOP / "packaging/rpm/build"), "--output", str(_output("rpm")), "--nodeps")


def _make_release(release: str) -> None:
    if not _system(release).exists():
        _make_system(release)
    if _package(release) is None:
        _run(str(TOP / "packaging/deb/build"), "--release", release, "--output", str(_output(release)))
    if release == CHECKOUT_ON and not _installed().exists():
        _install_checkout()


def _make_system(release: str) -> None:
    made = _system(release).with_suffix(".new")
    bare = ("--quiet", "--format=tar", "--variant=minbase", f"--include={','.join(SYSTEM)}")
    _run("mmdebstrap", *bare, release, str(made))
    made.rename(_system(release))


def _install_checkout() -> None:
    made = _installed().with_suffix(".new")
    with tempfile.TemporaryDirectory(prefix="installing-", dir=CACHE) as work:
        root = f"{work}/root"
        _run(str(TOP / "packaging/deb/root"), CHECKOUT_ON, root, "/source/packaging/install")
        _run("tar", "--create", "--zstd", "--file", str(made), "--directory", root, "--exclude=./dev", ".")
    made.rename(_installed())


def _forget_old() -> None:
    """Packages of other states of the files, once no test of another checkout can be using them any more."""
    for old in CACHE.glob("package-*"):
        if old.stat().st_mtime < time.time() - 86400:
            shutil.rmtree(old, ignore_errors=True)


def _package(release: str) -> Path | None:
    return next(_output(release).glob("vnetd_*.deb"), None)


def _output(release: str) -> Path:
    return CACHE / f"package-{release}-{_key()}"


def _installed() -> Path:
    return _output(CHECKOUT_ON) / "installed.tar.zst"


def _system(release: str) -> Path:
    return CACHE / f"system-{release}-{_digest(' '.join(SYSTEM).encode())}.tar"


def _failure(release: str) -> Path:
    return CACHE / f"failed-{release}"


def _key() -> str:
    files = [path for name in INPUTS for path in ([TOP / name] if (TOP / name).is_file() else (TOP / name).rglob("*"))]
    kept = sorted(path for path in files if path.is_file() and "__pycache__" not in path.parts)
    modes = (f"{path.relative_to(TOP)} {path.stat().st_mode & 0o111}\n".encode() + path.read_bytes() for path in kept)
    return _digest(b"".join(modes))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    except FileNotFoundError:
        raise Unprepared(f"there is no {command[0]} on this host") from None
    except subprocess.TimeoutExpired:
        raise Unprepared(f"{command[0]} did not end within twenty minutes") from None
    if done.returncode:
        raise Unprepared(f"{command[0]}: {' / '.join((done.stderr or done.stdout).strip().splitlines()[-5:])}")


if __name__ == "__main__":
    try:
        print(f"{', '.join(made.name for made in prepare())} are built")
    except Unprepared as error:
        sys.exit(f"error: {error}")
