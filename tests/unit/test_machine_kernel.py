"""Preparing a stock kernel, and what a machine starts with, without booting one."""

import lzma
import os
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest
from support.machine import NoEmulator, NoKernel, NoSpace, StockKernel, initramfs, kernel, prepare, prepared

APT = """#!/bin/sh
echo "$0 $*" >>{log}
case "$*" in
    *depends*) printf 'linux-image-amd64\\n  Depends: linux-image-6.1.0-1-amd64\\n' ;;
    *download*) [ -e {package} ] || {{ echo "E: Unable to locate package" >&2; exit 100; }}; cp {package} . ;;
esac
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a kernel that could not be booted, but looks like one."""
    tree = tmp_path / "tree"
    modules = tree / "lib/modules/6.1.0-1-amd64"
    modules.mkdir(parents=True)
    for name in ("modules.builtin", "modules.order"):
        (modules / name).write_text("")
    (tree / "boot").mkdir()
    payload = lzma.compress(b"\x7fELF kernel")
    (tree / "boot/vmlinuz-6.1.0-1-amd64").write_bytes(b"MZ setup " + b"\xfd7zXZ\x00 not this" + payload + b"trailer")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text("Package: linux-image-6.1.0-1-amd64\nVersion: 1\nArchitecture: amd64\n"
                                         "Maintainer: nobody <nobody@example.org>\nDescription: kernel\n")  # fmt: skip
    built = tmp_path / "linux-image-6.1.0-1-amd64_1_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(built)], check=True, capture_output=True)
    return built


@pytest.fixture
def archive(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """apt's programs, answering from this package alone; the file they note their calls in."""
    log = tmp_path / "calls"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("apt-get", "apt-cache"):
        (programs / name).write_text(APT.format(log=log, package=package))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin")
    return log


def test_a_kernel_is_downloaded_and_unpacked_once(archive: Path, tmp_path: Path) -> None:
    made = prepare(tmp_path / "cache")
    assert made == prepared(tmp_path / "cache")
    assert made.version == "6.1.0-1-amd64"
    assert made.image.read_bytes() == b"\x7fELF kernel"
    assert (made.modules / "modules.dep").exists()
    calls = archive.read_text()
    prepare(tmp_path / "cache")
    assert archive.read_text() == calls
    assert {one.name for one in (tmp_path / "cache").iterdir()} == {"kernel", "prepare.lock"}


def test_lists_that_are_out_of_date_are_renewed_before_it_is_said_that_there_is_no_package(
    archive: Path, package: Path, tmp_path: Path
) -> None:
    package.unlink()
    with pytest.raises(NoKernel, match=r"no kernel package: .*Unable to locate package"):
        prepare(tmp_path / "cache")
    called = [line.split("/")[-1].split()[:3] for line in archive.read_text().splitlines()]
    assert ["apt-get", "-q", "update"] in called
    assert not (tmp_path / "cache/kernel").exists()


def test_a_full_disk_is_said_to_be_full(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 10**12, 5_000_000)
    monkeypatch.setattr(kernel.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoSpace, match=r"no space for a kernel in .*: 5 MB are free"):
        prepare(tmp_path / "cache")


def test_a_disk_that_fills_up_meanwhile_is_said_to_be_full(archive: Path, tmp_path: Path) -> None:
    broken = archive.parent / "bin/dpkg-deb"
    broken.write_text("#!/bin/sh\necho 'dpkg-deb: error: cannot write: No space left on device' >&2; exit 2\n")
    broken.chmod(0o755)
    with pytest.raises(NoSpace, match=r"no space for a kernel in .*: dpkg-deb: error: .*No space left on device"):
        prepare(tmp_path / "cache")
    assert {one.name for one in (tmp_path / "cache").iterdir()} == {"prepare.lock"}, "what was unpacked is gone"


def test_another_architecture_has_no_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.platform, "machine", lambda: "riscv64")
    with pytest.raises(NoEmulator, match="riscv64"):
        prepare(tmp_path / "cache")


def test_an_image_that_cannot_be_unpacked_is_booted_as_it_is(tmp_path: Path) -> None:
    assert kernel.decompressed(b"MZ \xfd7zXZ\x00 \x28\xb5\x2f\xfd nothing of the kind") == b""
    assert StockKernel(tmp_path, "1").image == tmp_path / "vmlinuz"


def test_modules_are_packed_in_the_order_in_which_they_can_be_loaded(tmp_path: Path) -> None:
    stock = StockKernel(tmp_path, "1")
    stock.modules.mkdir(parents=True)
    (stock.modules / "modules.builtin").write_text("kernel/overlay.ko\n")
    needs = {"virtio": "", "virtio_ring": "k/virtio.ko", "virtio-pci": "k/virtio_ring.ko k/virtio.ko",
             "virtio_console": "k/virtio.ko", "9pnet": "", "9pnet_virtio": "k/9pnet.ko k/virtio.ko",
             "9p": "k/9pnet.ko"}  # fmt: skip
    (stock.modules / "modules.dep").write_text("".join(f"k/{name}.ko: {rest}\n" for name, rest in needs.items()))
    (stock.modules / "k").mkdir()
    for name in needs:
        (stock.modules / f"k/{name}.ko").write_bytes(name.encode())
    packed = initramfs.initramfs(stock, "#!/bin/sh\nexit\n", disk=False)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["busybox", "cpio", "-i"], input=packed, cwd=unpacked, check=True, capture_output=True)
    order = [path.name.split("-", 1)[1] for path in sorted((unpacked / "modules").iterdir())]
    loaded = [name.removesuffix(".ko") for name in order]
    assert sorted(loaded) == sorted(needs)
    for name, rest in needs.items():
        assert all(loaded.index(Path(one).stem) < loaded.index(name) for one in rest.split()), loaded
    assert (unpacked / "init").read_text() == "#!/bin/sh\nexit\n"
    assert os.access(unpacked / "bin/busybox", os.X_OK)


def test_a_kernel_without_a_module_that_is_needed_is_refused_by_name(tmp_path: Path) -> None:
    stock = StockKernel(tmp_path, "5")
    stock.modules.mkdir(parents=True)
    for name in ("modules.builtin", "modules.dep"):
        (stock.modules / name).write_text("")
    with pytest.raises(NoKernel, match="kernel 5 has no module virtio_pci"):
        initramfs.initramfs(stock, "", disk=False)
