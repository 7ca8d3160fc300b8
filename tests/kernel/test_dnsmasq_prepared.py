"""A dnsmasq that is loaded ahead and waits for its configuration: started, or ended without a trace."""

from pathlib import Path

import pytest
from support.dnsmasq import UUID, Served, daemon_that, make_bridge, make_host
from support.netns import Namespace, run
from support.waiting import eventually

from vnetd.linux.dnsmasq_files import find_account, noted, paths_of
from vnetd.linux.dnsmasq_process import find_binary, launch, outcome, release, running_below
from vnetd.linux.processes import ends
from vnetd.model.errors import HostError


def loaded(served: Served) -> list[int]:
    """Processes of dnsmasq for networks below the root, whatever state they are in."""
    return [pid for _, pid in running_below(served.run("pid").parent)]


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
    assert [waiting] == loaded(served) == [state.pid]
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
        await eventually(lambda: noted(paths_of(served.root, UUID)), "it was told all there is, and is on record")
        await eventually(lambda: [pid for pid in loaded(served) if waits_for_input(pid)])
        daemon.kill()
    await eventually(served.run("pid").exists)
    assert await served.host.adopt() == (UUID,)
    state = await served.host.observe(UUID)
    assert state.files == served.instance().files
    assert state.started_with == state.files["dnsmasq.conf"]
    assert "192.168.77.1:53" in listening()


def test_a_dnsmasq_that_was_never_told_its_configuration_ends(root: Path) -> None:
    launched = launch(find_binary(), root, find_account())
    release(launched)
    assert ends(launched.pidfd, patience=10)
    assert "bad option" in outcome(launched)
    assert running_below(root) == []
