"""The distribution's own kernel, unpacked where it can be booted from. Made once, kept below ``.cache/vm``."""

import lzma
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.machine.errors import NoEmulator, NoKernel
from support.machine.preparing import CACHE, CommandFailed, once, run

NEEDED = 1_200_000_000
"""Bytes: the package, and what is in it, for the moment in which both are there."""
METAPACKAGE = "linux-image-amd64"
ELF = b"\x7fELF"
XZ, ZSTD = b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class StockKernel:
    """A kernel below ``directory``: ``modules/VERSION``, and ``image``, which QEMU boots."""

    directory: Path
    version: str

    @property
    def image(self) -> Path:
        """What is booted: unpacked if that could be done, for the machine would be slow at it."""
        unpacked = self.directory / "vmlinux"
        return unpacked if unpacked.exists() else self.directory / "vmlinuz"

    @property
    def modules(self) -> Path:
        """The directory that belongs at ``/lib/modules/VERSION``."""
        return self.directory / "modules" / self.version


def prepared(cache: Path = CACHE) -> StockKernel:
    """The kernel that was prepared. ``NoKernel`` if none was."""
    try:
        version = (cache / "kernel" / "version").read_text().strip()
    except FileNotFoundError:
        raise NoKernel("no kernel package is prepared: ./test does, where packages can be downloaded") from None
    return StockKernel((cache / "kernel").resolve(), version)


def prepare(cache: Path = CACHE) -> StockKernel:
    """Download and unpack the kernel unless that was done before. Needs root, apt and the network.

    Raises ``NoEmulator`` on another architecture, ``NoKernel`` if the package cannot be had or is not as expected,
    ``NoSpace`` if the disk is too full for it.
    """
    if platform.machine() != "x86_64":
        raise NoEmulator(f"only a kernel for x86_64 is prepared, and this machine is {platform.machine()}")
    try:
        once(cache / "kernel", "a kernel", NEEDED, lambda work: _unpack(_download(work), work))
    except CommandFailed as error:
        raise NoKernel(f"no kernel package: {error}") from None
    return prepared(cache)


def _download(work: Path) -> Path:
    """The package of the newest stock kernel, as a file in ``work``."""
    try:
        return _fetch(work)
    except CommandFailed:
        # The lists are missing, or so old that the archive no longer has what they name.
        run("apt-get", "-q", "update")
        return _fetch(work)


def _fetch(work: Path) -> Path:
    depends = run("apt-cache", "depends", "--important", METAPACKAGE)
    names = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise CommandFailed(f"apt knows none that {METAPACKAGE} depends on")
    # The unprivileged user that apt likes to download as cannot enter the checkout, perhaps.
    run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", names[0], cwd=work)
    return next(work.glob("linux-image-*.deb"))


def _unpack(package: Path, work: Path) -> Path:
    """A directory as ``StockKernel`` describes it."""
    tree, made = work / "tree", work / "kernel"
    run("dpkg-deb", "--extract", str(package), str(tree))
    package.unlink()
    modules = next((path for path in (tree / "lib/modules", tree / "usr/lib/modules") if path.is_dir()), None)
    images = list((tree / "boot").glob("vmlinuz-*"))
    if modules is None or len(images) != 1:
        raise NoKernel(f"{package.name} holds no kernel with modules")
    version = images[0].name.removeprefix("vmlinuz-")
    made.mkdir()
    modules.rename(made / "modules")
    images[0].rename(made / "vmlinuz")
    _index(made, version)
    if unpacked := decompressed((made / "vmlinuz").read_bytes()):
        (made / "vmlinux").write_bytes(unpacked)
    (made / "version").write_text(f"{version}\n")
    return made


def _index(made: Path, version: str) -> None:
    """Have depmod write ``modules.dep``: it expects the modules below ``lib``."""
    (made / "lib").mkdir()
    (made / "lib" / "modules").symlink_to("../modules")
    run("depmod", "--basedir", str(made), version)


def decompressed(image: bytes) -> bytes:
    """The ELF image inside a bootable one (Linux, Documentation/arch/x86/boot.rst: payload), empty if none is found."""
    for magic, open_it in ((XZ, _unxz), (ZSTD, _unzstd)):
        at = image.find(magic)
        while at >= 0:
            if (found := open_it(image[at:])).startswith(ELF):
                return found
            at = image.find(magic, at + 1)
    return b""


def _unxz(data: bytes) -> bytes:
    # What follows the stream is not its business, so this cannot be lzma.decompress.
    with suppress(lzma.LZMAError):
        return lzma.LZMADecompressor().decompress(data)
    return b""


def _unzstd(data: bytes) -> bytes:
    if not shutil.which("zstd"):
        return b""
    return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=False).stdout
