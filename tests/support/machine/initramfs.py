"""What the kernel starts with: busybox, the modules that reach the shared root, and a script that mounts it.

The archive is cpio's "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
"""

import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.machine.errors import NoEmulator, NoKernel
from support.machine.kernel import StockKernel

SHARED = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
DISK = ("virtio_blk", "crc32c_generic", "ext4")
"""ext4 asks for checksums by name, which modules.dep does not tell (a softdep)."""
DIRECTORY, PROGRAM, DATA = 0o040755, 0o100755, 0o100644


def initramfs(kernel: StockKernel, init: str, *, disk: bool) -> bytes:
    """The archive: ``init`` is the script the kernel starts, the modules lie in ``/modules`` in loading order."""
    files = {"init": (PROGRAM, init.encode())}
    for source, target in _busybox().items():
        files[target] = (PROGRAM, source.read_bytes())
    for number, path in enumerate(_modules(kernel, SHARED + DISK * disk)):
        name = path.name.removesuffix(".xz")
        files[f"modules/{number:02}-{name}"] = (DATA, _module(path))
    return _archive(files, directories=("root", "lower", "upper", "proc", "dev", "modules", "bin"))


def _busybox() -> dict[Path, str]:
    """busybox and the libraries it is linked with, by where they belong."""
    program = shutil.which("busybox", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    if program is None:
        raise NoEmulator("no emulated machine: busybox is not installed")
    # Prints nothing but an error for a static one.
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False, timeout=30).stdout
    libraries = re.findall(r"(/\S+) \(0x", linked)
    return {Path(program): "bin/busybox"} | {Path(one): one.lstrip("/") for one in libraries}


def _modules(kernel: StockKernel, wanted: tuple[str, ...]) -> list[Path]:
    """Files of these modules and of what they need, in the order in which they can be loaded."""
    dependencies = _dependencies(kernel.modules)
    builtin = {_name(line) for line in (kernel.modules / "modules.builtin").read_text().split()}
    ordered: dict[str, None] = {}
    for name in wanted:
        if name in builtin:
            continue
        if name not in dependencies:
            raise NoKernel(f"kernel {kernel.version} has no module {name}")
        path, *needs = dependencies[name]
        # depmod lists what is needed last first.
        ordered |= dict.fromkeys([*reversed(needs), path])
    return [kernel.modules / path for path in ordered]


def _dependencies(modules: Path) -> dict[str, list[str]]:
    """``modules.dep``: by a module's name its path and the paths of all it needs."""
    found = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        found[_name(path)] = [path, *needs.split()]
    return found


def _name(path: str) -> str:
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def _module(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _archive(files: dict[str, tuple[int, bytes]], directories: tuple[str, ...]) -> bytes:
    parents = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    entries = [(name, DIRECTORY, b"") for name in sorted(parents | set(directories))]
    entries += [(name, mode, data) for name, (mode, data) in files.items()]
    packed = [part for number, entry in enumerate(entries, 1) for part in _entry(number, *entry)]
    return b"".join([*packed, *_entry(0, "TRAILER!!!", 0, b"")])


def _entry(number: int, name: str, mode: int, data: bytes) -> Iterator[bytes]:
    links, encoded = 1, name.encode() + b"\0"
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    yield _padded(header + encoded)
    yield _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
