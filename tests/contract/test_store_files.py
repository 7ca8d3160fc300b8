"""What the store does with the files below it."""

import errno
import json
import logging
import os
import resource
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import pytest

from vnetd.linux.store import FileStore, is_in_memory
from vnetd.model.errors import HostError


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    made = FileStore(tmp_path / "root")
    yield made
    await made.close()


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    made = tmp_path / "root/etc/vnetd/networks"
    made.mkdir(parents=True)
    return made


async def test_each_kind_has_its_directory(store: FileStore, tmp_path: Path) -> None:
    for kind in ("etc/networks", "run/ports", "var/ids"):
        await store.save(kind, "lab", {})
    files = {str(path.relative_to(tmp_path / "root")) for path in tmp_path.rglob("*") if path.is_file()}
    expected = {"etc/vnetd/networks/lab.json", "run/vnetd/ports/lab.json", "var/lib/vnetd/ids/lab.json"}
    assert files == expected


async def test_only_root_may_read_what_is_stored(store: FileStore, tmp_path: Path) -> None:
    await store.save("etc/networks", "lab", {})
    directory = tmp_path / "root/etc/vnetd/networks"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "lab.json").stat().st_mode) == 0o600


async def test_what_an_interrupted_write_left_is_removed(store: FileStore, networks: Path) -> None:
    (networks / "lab.json").write_text('{"a": 1}')
    (networks / ".lab.json.1a2b3c4d.tmp").write_text('{"a"')
    assert await store.load("etc/networks") == {"lab": {"a": 1}}
    assert os.listdir(networks) == ["lab.json"]


async def test_what_an_interrupted_write_left_is_not_in_the_way_of_the_next_run(
    store: FileStore, networks: Path
) -> None:
    interrupted = FileStore(networks.parents[2])
    for number in range(3):
        (networks / f".lab.json.{interrupted._mark}{number}.tmp").write_text('{"a"')
    for number in range(3):
        await store.save("etc/networks", "lab", {"a": number})
    assert json.loads((networks / "lab.json").read_text()) == {"a": 2}
    await interrupted.close()


async def test_a_directory_that_goes_between_two_writes_is_made_again(store: FileStore, tmp_path: Path) -> None:
    for kind in ("etc/networks", "run/ports"):
        await store.save(kind, "lab", {"a": 1})
    rmtree(tmp_path / "root")
    for kind in ("etc/networks", "run/ports"):
        assert await store.load(kind) == {}
        await store.save(kind, "lab", {"a": 2})
        assert await store.load(kind) == {"lab": {"a": 2}}
    assert stat.S_IMODE((tmp_path / "root/run/vnetd/ports").stat().st_mode) == 0o700


async def test_nothing_but_documents_is_touched(store: FileStore, networks: Path) -> None:
    for name in ("README", "lab.json~", ".lab.json.swp", "lab.json.dpkg-new"):
        (networks / name).write_text("x")
    assert await store.load("etc/networks") == {}
    assert len(os.listdir(networks)) == 4


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1} trailing'])
async def test_a_broken_file_is_kept_and_named_in_the_log(
    store: FileStore, networks: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (networks / "torn.json").write_bytes(content)
    assert await store.load("etc/networks") == {}
    assert (networks / "torn.json.broken").read_bytes() == content
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "torn.json" in caplog.text


async def test_a_second_broken_file_does_not_replace_the_first(store: FileStore, networks: Path) -> None:
    for content in ("1st", "2nd", "3rd"):
        (networks / "torn.json").write_text(content)
        await store.load("etc/networks")
    kept = {path.name: path.read_text() for path in networks.iterdir()}
    assert kept == {"torn.json.broken": "1st", "torn.json.broken.1": "2nd", "torn.json.broken.2": "3rd"}
    assert await store.broken("etc/networks") == {"torn"}


async def test_a_symbolic_link_is_neither_read_nor_written_through(
    store: FileStore, networks: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "secret"
    outside.write_text('{"secret": true}')
    (networks / "lab.json").symlink_to(outside)
    assert await store.load("etc/networks") == {}
    await store.save("etc/networks", "lab", {"a": 1})
    assert outside.read_text() == '{"secret": true}'
    assert await store.load("etc/networks") == {"lab": {"a": 1}}


async def test_a_directory_that_is_a_symbolic_link_is_refused(store: FileStore, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "root/etc/vnetd").mkdir(parents=True)
    (tmp_path / "root/etc/vnetd/networks").symlink_to(elsewhere)
    with pytest.raises(HostError) as refusal:
        await store.save("etc/networks", "lab", {})
    assert refusal.value.errno in {errno.ELOOP, errno.ENOTDIR}
    assert list(elsewhere.iterdir()) == []


async def test_a_fifo_does_not_hold_up_the_start(store: FileStore, networks: Path) -> None:
    os.mkfifo(networks / "lab.json")
    assert await store.load("etc/networks") == {}


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 1 KiB. Only inside a test: pytest's own report may go to a file that is larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_failed_write_leaves_the_old_document_and_nothing_else(store: FileStore, networks: Path) -> None:
    await store.save("etc/networks", "lab", {"a": 1})
    with small_files(), pytest.raises(HostError) as refusal:
        await store.save("etc/networks", "lab", {"a": "x" * 2000})
    assert str(refusal.value) == "save etc/networks/lab: File too large"
    assert await store.load("etc/networks") == {"lab": {"a": 1}}
    assert os.listdir(networks) == ["lab.json"]


async def test_the_administrators_file_stands_before_the_installed_one(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    for place, text in (("usr/share/vnetd", "installed"), ("etc/vnetd", "mine")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "example.xml").write_text(text)
        assert await store.installed("example.xml") == text
    (tmp_path / "etc/vnetd/example.xml").unlink()
    (tmp_path / "etc/vnetd/example.xml").symlink_to("/dev/null")
    assert await store.installed("example.xml") == ""
    await store.close()


@pytest.mark.parametrize("path", ["/dev/shm", "/proc", "/sys", "/", "/dev/shm/not/there"])
def test_what_is_kept_in_memory_is_told_from_what_is_not(path: str) -> None:
    there = next(one for one in (Path(path), *Path(path).parents) if one.exists())
    kind = subprocess.run(["stat", "--file-system", "--format=%T", there], capture_output=True, text=True, check=True)
    assert is_in_memory(Path(path)) is (kind.stdout.strip() in {"tmpfs", "ramfs"})


@pytest.mark.parametrize(("where", "done"), [("/dev/shm", True), (None, False)])
async def test_what_is_kept_in_memory_is_written_at_once(where: str | None, done: bool, tmp_path: Path) -> None:
    if where is None and is_in_memory(tmp_path):
        pytest.skip("temporary files of this host are kept in memory, so none is on a disk")
    with TemporaryDirectory(dir=where or tmp_path) as root:
        store = FileStore(Path(root))
        saving = store.save("run/ports", "one", {})
        with suppress(StopIteration):
            waiting = saving.send(None)
            assert not done, f"it waits for {waiting}"
        assert Path(root, "run/vnetd/ports/one.json").exists() is done
        if not done:
            saving.close()
        await store.close()
