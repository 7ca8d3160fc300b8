"""dnsmasq's files, and those of the host it depends on: who may read them, and who hears of changes."""

import asyncio
import stat
from pathlib import Path

import pytest
from support.dnsmasq import LEASE, UUID, Served, make_host
from support.netns import Namespace, run
from support.waiting import eventually

from vnetd.host.events import FileEvent, Overflow
from vnetd.linux.dnsmasq_files import find_account
from vnetd.linux.watch import RESOLV_CONF


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
    own = {FileEvent(UUID, name) for name in ("hosts", "servers", "dnsmasq.conf")}
    assert not own.intersection(served.events), "it was written before anybody watched"
    served.data("hosts").write_text("52:54:00:00:00:01,192.168.77.66\n")
    served.data("servers").unlink()
    served.run("conf").write_text("port=0\n")
    await eventually(lambda: own <= set(served.events), "all three are reported")
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
