"""dnsmasq processes and their files: started, watched, adopted, ended; and what is left when something fails."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.dnsmasq import ADDRESSES, UUID, Served, make_bridge, make_host
from support.netns import Namespace, run
from support.waiting import eventually, wait_until

from vnetd.host.events import FileEvent, Overflow, ProcessEvent
from vnetd.linux.dnsmasq_files import find_account
from vnetd.linux.dnsmasq_process import find_binary, launch, outcome, release, running_with
from vnetd.linux.watch import RESOLV_CONF
from vnetd.model.errors import HostError, Invalid, Unsupported
from vnetd.plan.dnsmasq import DnsmasqState

TOP = Path(__file__).resolve().parents[2]
RTMGRP_ADDRESSES = 0x10 | 0x100
LEASE = "1900000000 52:54:00:11:22:33 192.168.77.50 guest1 *\n"


@pytest.fixture
def root() -> Iterator[Path]:
    """A daemon's root which, unlike pytest's own directories, dnsmasq's user can enter."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture
async def served(root: Path, inside_host: Namespace) -> AsyncIterator[Served]:
    """A host whose bridge is there; what runs at the end is ended with the namespace."""
    make_bridge(inside_host)
    made = make_host(root)
    yield made
    await made.host.close()


def ended(pid: int) -> bool:
    """Whether no process of this id runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_started_dnsmasq_is_observed_with_its_files(served: Served) -> None:
    instance = served.instance()
    await served.host.start(instance)
    state = await served.host.observe(UUID)
    assert b"dnsmasq" in Path(f"/proc/{state.pid}/cmdline").read_bytes()
    assert state == DnsmasqState(state.pid, instance.files["dnsmasq.conf"], instance.files)


IPV4_ONLY: dict[str, Any] = {"addresses": ADDRESSES[:1]}
HEARS: list[tuple[dict[str, Any], int]] = [
    (IPV4_ONLY, 0),
    ({}, RTMGRP_ADDRESSES),
    ({**IPV4_ONLY, "mode": "open"}, RTMGRP_ADDRESSES),
    ({**IPV4_ONLY, "dnsmasq_options": ["cache-size=7"]}, RTMGRP_ADDRESSES),
]


@pytest.mark.parametrize(("fields", "hears"), HEARS, ids=["IPv4", "IPv4 and IPv6", "open", "options of its own"])
async def test_dnsmasq_hears_of_no_routes_and_of_addresses_only_if_it_acts_on_them(
    served: Served, fields: dict[str, Any], hears: int
) -> None:
    await served.host.start(served.instance(**fields))
    pid = (await served.host.observe(UUID)).pid
    sockets = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    table = [line.split() for line in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]]
    groups = [int(line[3], 16) for line in table if line[1] == "0" and f"socket:[{line[9]}]" in sockets]
    assert groups == [hears], "it has one routing socket, and nobody closed it"


async def test_stopping_ends_the_process_and_leaves_only_the_leases(served: Served) -> None:
    await served.host.start(served.instance())
    pid = (await served.host.observe(UUID)).pid
    served.data("leases").write_text(LEASE)
    await served.host.stop(UUID, forget=False)
    assert ended(pid)
    assert served.left() == ["leases"]
    assert await served.host.observe(UUID) == DnsmasqState(0, None, {})
    await served.host.stop(UUID, forget=True)
    assert served.left() == []
    await served.host.stop(UUID, forget=True)
    assert ProcessEvent(UUID) not in served.events


async def test_starting_again_replaces_the_running_one_and_keeps_its_leases(served: Served) -> None:
    await served.host.start(served.instance())
    first = (await served.host.observe(UUID)).pid
    served.data("leases").write_text(LEASE)
    await served.host.start(served.instance(dnsmasq_options=["cache-size=7"]))
    state = await served.host.observe(UUID)
    assert ended(first)
    assert state.pid != first
    assert "cache-size=7" in (state.started_with or "")
    assert "192.168.77.50" in (await served.host.leases(UUID) or "")


async def test_a_killed_dnsmasq_is_noticed(served: Served) -> None:
    await served.host.start(served.instance())
    os.kill((await served.host.observe(UUID)).pid, signal.SIGKILL)
    await eventually(lambda: ProcessEvent(UUID) in served.events)
    assert (await served.host.observe(UUID)).pid == 0
    await served.host.start(served.instance())
    assert (await served.host.observe(UUID)).pid


async def test_a_reload_keeps_the_process_and_drops_files_no_longer_wanted(served: Served) -> None:
    await served.host.start(served.instance())
    pid = (await served.host.observe(UUID)).pid
    wanted = served.instance(dns={"hosts": [{"address": "192.168.77.9", "hostnames": ["printer"]}]})
    await served.host.reload(wanted)
    state = await served.host.observe(UUID)
    assert (state.pid, state.files) == (pid, wanted.files)


async def test_a_reload_without_a_process_says_so(served: Served) -> None:
    with pytest.raises(HostError, match=f"reload dnsmasq of network {UUID}: it does not run"):
        await served.host.reload(served.instance())


@pytest.mark.parametrize("pid_file", ["kept", "lost", "of another process"])
async def test_a_new_daemon_adopts_what_an_earlier_one_started(served: Served, pid_file: str) -> None:
    instance = served.instance()
    await served.host.start(instance)
    before = await served.host.observe(UUID)
    await served.host.close()
    if pid_file == "lost":
        served.run("pid").unlink()
    elif pid_file != "kept":
        served.run("pid").write_text(f"{os.getpid()}\n")
    successor = make_host(served.root)
    try:
        assert await successor.host.adopt() == (UUID,)
        assert await successor.host.observe(UUID) == before
        os.kill(before.pid, signal.SIGKILL)
        await eventually(lambda: ProcessEvent(UUID) in successor.events)
    finally:
        await successor.host.close()


async def test_nothing_is_adopted_where_the_process_is_gone(served: Served) -> None:
    await served.host.start(served.instance())
    pid = (await served.host.observe(UUID)).pid
    await served.host.close()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: ended(pid))
    successor = make_host(served.root)
    assert await successor.host.adopt() == ()
    assert (await successor.host.observe(UUID)).pid == 0
    await successor.host.close()


async def test_a_foreign_process_named_by_the_pid_file_is_never_ended(served: Served) -> None:
    served.run("pid").parent.mkdir(parents=True)
    # It even looks the part, but for its user: dnsmasq's own could write the file, but not run a process as root.
    imitation = f"exec -a dnsmasq {os.path.realpath(sys.executable)} -c 'import time; time.sleep(60)' $0"
    bystander = subprocess.Popen(
        ["setpriv", "--reuid=4711", "--clear-groups", "bash", "-c", imitation, f"--pid-file={served.run('pid')}"]
    )
    wait_until(lambda: Path(f"/proc/{bystander.pid}/cmdline").read_bytes().startswith(b"dnsmasq\0"))
    try:
        served.run("pid").write_text(f"{bystander.pid}\n")
        served.run("conf").write_text("")
        assert await served.host.adopt() == ()
        await served.host.stop(UUID, forget=True)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@contextmanager
def daemon_that(does: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that does this to a dnsmasq host, then says so, and waits to be killed."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from support.dnsmasq import make_host\n"
        "async def main():\n"
        "    served = make_host(Path(sys.argv[1]))\n"
        f"    {does}\n"
        "    print('done', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{TOP}:{TOP}/tests"}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE, text=True, env=environment
    ) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "done\n"
            yield daemon
        finally:
            daemon.kill()


async def test_dnsmasq_outlives_a_daemon_that_is_killed(served: Served) -> None:
    with daemon_that("await served.host.start(served.instance())", served.root):
        pass
    assert await served.host.adopt() == (UUID,)
    assert (await served.host.observe(UUID)).started_with == served.instance().files["dnsmasq.conf"]


async def test_a_missing_program_is_named_and_leaves_nothing(root: Path, inside_host: Namespace) -> None:
    served = make_host(root, binary="dnsmasq-that-is-not-there")
    with pytest.raises(Unsupported, match=r"dnsmasq-that-is-not-there.*install"):
        await served.host.start(served.instance())
    assert served.left() == []
    await served.host.close()


async def test_a_failed_start_quotes_dnsmasq_and_leaves_nothing(served: Served) -> None:
    bad = served.instance(dnsmasq_options=["dhcp-option=option:no-such-option,1"])
    with pytest.raises(HostError, match=r"start dnsmasq of network .*: bad dhcp-option at line \d+"):
        await served.host.start(bad)
    assert served.left() == []
    assert not served.data("leases").parent.exists()


def loaded(served: Served) -> list[int]:
    """Processes of dnsmasq for the network, whatever state they are in."""
    return [pid for _, pid in running_with([served.run("pid")])]


async def prepare(served: Served) -> None:
    """Prepare a start; returns when the program waits for it."""
    served.host.prepare(served.instance())
    await eventually(served.data("leases").exists, pause=0)
    await eventually(lambda: [pid for pid in loaded(served) if waits_for_input(pid)])


def waits_for_input(pid: int) -> bool:
    """Whether it waits in a read of its standard input, a pipe."""
    return Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 ")


def listening() -> str:
    return run("ss", "--listening", "--udp", "--tcp", "--numeric", "--no-header").stdout


async def test_what_was_prepared_waits_until_its_network_is_there(root: Path, inside_host: Namespace) -> None:
    served = make_host(root)
    await prepare(served)
    prepared = {name: served.data(name).stat().st_ino for name in ("hosts", "addnhosts", "servers", "leases")}
    (waiting,) = loaded(served)
    make_bridge(inside_host)
    assert listening() == ""
    state = await served.host.start(served.instance())
    assert state.files == served.instance().files
    assert prepared == {name: served.data(name).stat().st_ino for name in prepared}
    assert "192.168.77.1:53" in listening()
    assert ended(waiting)
    assert loaded(served) == [state.pid]
    await served.host.close()


async def test_what_was_prepared_for_another_configuration_is_not_used(served: Served) -> None:
    await prepare(served)
    state = await served.host.start(served.instance(dnsmasq_options=["cache-size=7"]))
    assert "cache-size=7" in (state.started_with or "")
    assert loaded(served) == [state.pid]


@pytest.mark.parametrize("end", ["stop", "close"])
async def test_what_was_prepared_goes_unless_it_is_started(served: Served, end: str) -> None:
    await prepare(served)
    await (served.host.stop(UUID, forget=True) if end == "stop" else served.host.close())
    assert loaded(served) == []
    assert listening() == ""
    assert end == "close" or served.left() == []


async def test_what_was_prepared_goes_when_its_start_fails(served: Served) -> None:
    bad = served.instance(dnsmasq_options=["dhcp-option=option:no-such-option,1"])
    served.host.prepare(bad)
    with pytest.raises(HostError):
        await served.host.start(bad)
    assert served.left() == []
    assert loaded(served) == []


async def test_a_daemon_killed_before_it_starts_what_it_prepared_leaves_a_whole_dnsmasq(served: Served) -> None:
    with daemon_that("served.host.prepare(served.instance())", served.root) as daemon:
        await eventually(lambda: [pid for pid in loaded(served) if waits_for_input(pid)])
        daemon.kill()
    await eventually(served.run("pid").exists)
    assert await served.host.adopt() == (UUID,)
    state = await served.host.observe(UUID)
    assert state.files == served.instance().files
    assert state.started_with == state.files["dnsmasq.conf"]
    assert "192.168.77.1:53" in listening()


def test_a_dnsmasq_that_was_never_told_its_configuration_serves_nobody(root: Path, inside_host: Namespace) -> None:
    make_bridge(inside_host)
    launched = launch(find_binary(), root / "pid", find_account())
    release(launched)
    assert outcome(launched) == ""
    assert listening() == ""
    os.kill(int((root / "pid").read_text()), signal.SIGKILL)


async def test_a_failed_start_forgets_no_leases(served: Served) -> None:
    await served.host.start(served.instance())
    served.data("leases").write_text(LEASE)
    with pytest.raises(HostError):
        await served.host.start(served.instance(dnsmasq_options=["dhcp-option=option:no-such-option,1"]))
    assert served.left() == ["leases"]
    assert served.data("leases").read_text() == LEASE


async def test_a_root_dnsmasq_cannot_enter_is_refused_by_name(served: Served) -> None:
    served.root.chmod(0o700)
    with pytest.raises(HostError, match=f"pass the directory {served.root}: "):
        await served.host.start(served.instance())
    assert served.left() == []


async def test_a_cancelled_start_leaves_nothing_unattended(served: Served) -> None:
    starting = asyncio.create_task(served.host.start(served.instance()))
    await eventually(served.run("conf").exists, pause=0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    pid = (await served.host.observe(UUID)).pid
    assert pid
    await served.host.stop(UUID, forget=True)
    assert ended(pid)
    assert served.left() == []


async def test_a_network_is_never_a_path(served: Served) -> None:
    for name in ("../../etc", "", "a/b", ".", "a\n"):
        with pytest.raises(Invalid, match="identifies no network"):
            await served.host.stop(name, forget=True)


async def test_dnsmasq_may_read_its_files_and_nobody_else_may(served: Served) -> None:
    await served.host.start(served.instance())
    account = find_account()
    as_dnsmasq = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
    as_stranger = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups"]
    for name in ("hosts", "addnhosts", "servers", "leases"):
        path = served.data(name)
        assert (path.owner(), stat.S_IMODE(path.stat().st_mode)) == ("root", 0o640)
        run(*as_dnsmasq, "cat", str(path))
        for who, what in ((as_stranger, "-r"), (as_dnsmasq, "-w")):
            assert run(*who, "test", what, str(path), check=False).returncode != 0
    directory = served.data("hosts").parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750
    assert run(*as_dnsmasq, "touch", str(directory / "x"), check=False).returncode != 0
    assert run(*as_dnsmasq, "test", "-r", str(served.run("conf")), check=False).returncode != 0


async def test_changes_of_files_are_reported_and_a_reload_undoes_them(served: Served) -> None:
    instance = served.instance()
    await served.host.start(instance)
    await eventually(lambda: FileEvent(UUID, "leases") in served.events)  # dnsmasq's own first write
    served.events.clear()
    served.data("hosts").write_text("52:54:00:00:00:01,192.168.77.66\n")
    served.data("servers").unlink()
    served.run("conf").write_text("port=0\n")
    for name in ("hosts", "servers", "dnsmasq.conf"):
        await eventually(partial(served.events.__contains__, FileEvent(UUID, name)), name)
    drifted = await served.host.observe(UUID)
    assert drifted.files != instance.files
    assert drifted.started_with == instance.files["dnsmasq.conf"]
    await served.host.reload(instance)
    assert (await served.host.observe(UUID)).files == instance.files


async def test_a_directory_that_was_removed_is_reported_and_comes_back(served: Served) -> None:
    instance = served.instance()
    await served.host.start(instance)
    served.data("leases").parent.rename(served.root / "elsewhere")
    await eventually(lambda: FileEvent(UUID, "dnsmasq.conf") in served.events)
    assert (await served.host.observe(UUID)).started_with is None
    await served.host.start(instance)
    served.events.clear()
    served.data("hosts").write_text("")
    await eventually(lambda: FileEvent(UUID, "hosts") in served.events)


async def test_leases_survive_the_removal_of_their_file(served: Served) -> None:
    instance = served.instance()
    await served.host.start(instance)
    await eventually(lambda: served.data("leases").read_text())  # the server's own DUID
    before = served.data("leases").read_text()
    served.data("leases").unlink()
    await eventually(lambda: FileEvent(UUID, "dnsmasq.conf") in served.events)
    assert await served.host.leases(UUID) is None
    assert (await served.host.observe(UUID)).started_with is None
    await served.host.start(instance)
    assert await served.host.leases(UUID) == before
    assert (await served.host.observe(UUID)).started_with == instance.files["dnsmasq.conf"]


async def test_leases_are_not_read_in_the_middle_of_a_write(served: Served) -> None:
    path = served.data("leases")
    path.parent.mkdir(parents=True)
    path.write_text(LEASE + LEASE[:20])
    reading = asyncio.create_task(served.host.leases(UUID))
    await asyncio.sleep(0.05)
    assert not reading.done()
    path.write_text(LEASE * 2)
    assert await reading == LEASE * 2


async def test_what_stays_cut_off_is_given_as_far_as_it_goes(served: Served) -> None:
    path = served.data("leases")
    path.parent.mkdir(parents=True)
    path.write_text(LEASE + LEASE[:20])
    assert await served.host.leases(UUID) == LEASE


async def test_the_hosts_name_servers_are_read_and_followed(root: Path, inside_host: Namespace) -> None:
    etc, elsewhere = root / "etc", root / "resolve"
    etc.mkdir()
    elsewhere.mkdir()
    (elsewhere / "stub").write_text("nameserver 127.0.0.53\n")
    (etc / "resolv.conf").symlink_to(elsewhere / "stub")
    served = make_host(root, resolv_conf=etc / "resolv.conf")
    await served.host.adopt()
    assert await served.host.upstream() == ("127.0.0.53",)
    (elsewhere / "stub").write_text("nameserver 192.0.2.1\n")
    await eventually(lambda: FileEvent("", RESOLV_CONF) in served.events)
    assert await served.host.upstream() == ("192.0.2.1",)
    served.events.clear()
    (etc / "new").write_text("nameserver 192.0.2.2\n")
    (etc / "new").rename(etc / "resolv.conf")
    await eventually(lambda: FileEvent("", RESOLV_CONF) in served.events)
    assert await served.host.upstream() == ("192.0.2.2",)
    (etc / "resolv.conf").unlink()
    assert await served.host.upstream() == ()
    await served.host.close()


async def test_lost_file_events_are_confessed(served: Served) -> None:
    await served.host.start(served.instance())
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip(f"the queue of this host holds {limit} events: too many to fill")
    for number in range(limit // 2 + 10):
        (served.data("hosts").with_name(f"x{number % 50}")).write_bytes(b"")
    await eventually(lambda: Overflow("inotify") in served.events)
