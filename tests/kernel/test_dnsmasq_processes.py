"""dnsmasq processes: started, watched, adopted, ended; and what is left when something fails."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.dnsmasq import ADDRESSES, LEASE, UUID, Served, daemon_that, ended, make_host
from support.netns import Namespace
from support.waiting import eventually, wait_until

from vnetd.host.events import ProcessEvent
from vnetd.model.errors import HostError, Invalid, Unsupported
from vnetd.plan.dnsmasq import DnsmasqState

RTMGRP_ADDRESSES = 0x10 | 0x100


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
    await eventually(lambda: served.data("leases").read_text(), "it has written its own identifier")
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


async def test_a_foreign_process_that_is_on_record_is_never_ended(served: Served) -> None:
    served.run("pid").parent.mkdir(parents=True)
    # It even looks the part, but for its user: dnsmasq's own could write the file, but not run a process as root.
    imitation = f"exec -a dnsmasq {os.path.realpath(sys.executable)} -c 'import time; time.sleep(60)' $0"
    known = f"--pid-file={served.run('pid').parent}/ab"
    bystander = subprocess.Popen(["setpriv", "--reuid=4711", "--clear-groups", "bash", "-c", imitation, known])
    wait_until(lambda: Path(f"/proc/{bystander.pid}/cmdline").read_bytes().startswith(b"dnsmasq\0"))
    try:
        served.run("state").write_text(f"ab {bystander.pid}\n")
        served.run("conf").write_text("")
        assert await served.host.adopt() == ()
        await served.host.stop(UUID, forget=True)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


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
