"""The lab itself: if it leaked, no other kernel test could be believed."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.netns import CommandFailed, Guest, Lab, Namespace, run
from support.outside import Outside
from support.waiting import NeverHappened, wait_until


def test_a_kernel_test_never_runs_in_the_machines_own_namespace() -> None:
    assert os.readlink("/proc/thread-self/ns/net") != os.environ["VNETD_INITIAL_NETNS"]


@pytest.mark.parametrize("_time", ["first", "second"])
def test_a_kernel_test_sees_nothing_another_left(_time: str) -> None:
    assert "leftover" not in run("ip", "link").stdout
    run("ip", "link", "add", "leftover", "type", "bridge")


def test_a_lab_takes_its_namespaces_and_processes_away_even_when_its_block_fails() -> None:
    with pytest.raises(CommandFailed), Lab() as lab:
        host = lab.namespace("host")
        sleeper = host.start("sleep", "1000")
        wait_until(lambda: sleeper.pid in host.pids(), "sleep runs inside")
        host.run("false")
    assert not Path(host.path).exists()
    assert sleeper.wait(timeout=5) != 0


def test_threads_started_inside_a_namespace_stay_there(host_ns: Namespace) -> None:
    seen = []
    with host_ns.entered():
        thread = threading.Thread(target=lambda: seen.append(os.readlink("/proc/thread-self/ns/net")))
        thread.start()
        thread.join()
    assert seen == [host_ns.run("readlink", "/proc/self/ns/net").strip()]
    assert seen != [os.readlink("/proc/thread-self/ns/net")]


def test_a_guest_reaches_the_host_by_its_bridge(host_ns: Namespace, guest: Callable[..., Guest]) -> None:
    host_ns.run("ip", "link", "add", "br0", "type", "bridge")
    host_ns.run("ip", "address", "add", "192.0.2.1/24", "dev", "br0")
    host_ns.run("ip", "link", "set", "br0", "up")
    one = guest("br0", mac="52:54:00:00:00:01")
    one.run("ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
    assert one.ip("link", "show", "dev", "eth0")[0]["address"] == "52:54:00:00:00:01"
    assert one.addresses("eth0") == {"192.0.2.2/24"}
    wait_until(lambda: one.ping("192.0.2.1"), "the host answers")


def test_the_outside_answers_on_both_families_and_knows_no_guest(host_ns: Namespace, outside: Outside) -> None:
    assert wait_until(lambda: host_ns.ping(outside.ipv4), "IPv4")
    assert wait_until(lambda: host_ns.ping(outside.ipv6), "IPv6")
    assert not outside.ip("route", "show", "default")


def test_waiting_says_what_was_last_seen() -> None:
    with pytest.raises(NeverHappened, match=r"a miracle: not within 0.05 s; last seen: \[\]"):
        wait_until(list, "a miracle", deadline=0.05)
