"""The dnsmasq that waits, loaded, for the next network to start."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.dnsmasq import UUID, Served, daemon_that, make_bridge, make_host
from support.netns import Namespace
from support.waiting import eventually

from vnetd.linux import dnsmasq_files as files
from vnetd.linux import dnsmasq_process as process
from vnetd.linux import dnsmasq_spare
from vnetd.linux.dnsmasq_files import find_account, paths_of
from vnetd.linux.dnsmasq_process import running_below
from vnetd.linux.processes import ends, reap


@pytest.fixture
def root() -> Iterator[Path]:
    """A daemon's root with a dnsmasq of its own, which dnsmasq's user can enter."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        shutil.copy2(process.find_binary(), made)
        yield Path(made)


@pytest.fixture
async def served(root: Path, inside_host: Namespace) -> AsyncIterator[Served]:
    """A host whose bridge is there, and where one waits as soon as it was adopted."""
    make_bridge(inside_host)
    made = make_host(root, refill=0.0, binary=str(root / "dnsmasq"))
    await made.host.adopt()
    await eventually(lambda: len(launched(made)) == 1)
    yield made
    await made.host.close()


def launched(served: Served) -> dict[str, int]:
    """Process ids of all there are, by the name they were launched under."""
    return dict(running_below(served.run("pid").parent))


def serving(served: Served) -> str:
    """The name of the one that serves the network."""
    note = files.noted(paths_of(served.root, UUID))
    return note.name if note else ""


async def test_the_next_network_gets_the_one_that_waits_and_another_waits_then(served: Served) -> None:
    (waiting,) = launched(served)
    await served.host.start(served.instance())
    assert serving(served) == waiting
    await eventually(lambda: len(launched(served)) == 2)


def replace_program(served: Served) -> None:
    """Install another dnsmasq."""
    shutil.copy(served.root / "dnsmasq", served.root / "new")
    os.rename(served.root / "new", served.root / "dnsmasq")


def install_libraries(served: Served) -> None:
    """Have other libraries than before."""
    (served.root / "ld.so.cache").write_text("changed")


def kill_it(served: Served) -> None:
    """Kill the one that waits."""
    (pid,) = launched(served).values()
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert ends(pidfd, patience=10)
    os.close(pidfd)


@pytest.mark.parametrize("happens", [replace_program, install_libraries, kill_it])
async def test_one_that_is_not_what_would_be_started_now_is_not_used(
    root: Path, inside_host: Namespace, monkeypatch: pytest.MonkeyPatch, happens: object
) -> None:
    (root / "ld.so.cache").write_text("")
    monkeypatch.setattr(dnsmasq_spare, "LIBRARIES", str(root / "ld.so.cache"))
    make_bridge(inside_host)
    served = make_host(root, refill=0.0, binary=str(root / "dnsmasq"))
    try:
        await served.host.adopt()
        await eventually(lambda: len(launched(served)) == 1)
        (waiting,) = launched(served)
        assert callable(happens)
        happens(served)
        state = await served.host.start(served.instance())
        assert launched(served)[serving(served)] == state.pid
        assert waiting not in launched(served)
    finally:
        await served.host.close()


async def test_it_goes_with_the_daemon(served: Served) -> None:
    await served.host.close()
    assert launched(served) == {}


async def test_it_goes_with_a_daemon_that_is_killed(root: Path, inside_host: Namespace) -> None:
    served = make_host(root)
    with daemon_that("await make_host(Path(sys.argv[1]), refill=0.0).host.adopt()", root) as daemon:
        await eventually(lambda: len(launched(served)) == 1)
        daemon.kill()
    await eventually(lambda: launched(served) == {})
    await served.host.close()


async def test_none_waits_where_dnsmasq_is_not_installed(served: Served) -> None:
    (served.root / "dnsmasq").unlink()
    with pytest.raises(process.Unsupported):
        await served.host.start(served.instance())
    assert launched(served) == {}


async def test_one_that_was_told_what_to_serve_and_is_on_no_record_is_ended(root: Path, inside_host: Namespace) -> None:
    make_bridge(inside_host)
    dead = make_host(root)
    paths, instance = paths_of(root, UUID), dead.instance()
    files.write(paths, instance.files, find_account())
    begun = process.launch(process.find_binary(), paths.run, find_account())
    process.direct(begun, paths.configuration)
    process.release(begun)
    assert ends(begun.ready, patience=10)
    assert process.settled(begun, paths.pid)
    heir = make_host(root)
    assert await heir.host.adopt() == ()
    assert ends(begun.pidfd, patience=10)
    reap(begun.pidfd)
    await heir.host.start(instance)
    assert list(launched(heir)) == [serving(heir)]
    await dead.host.close()
    await heir.host.close()
