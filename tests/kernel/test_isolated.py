"""scripts/isolated: what keeps tests, demonstration and bench off the machine."""

import os
import signal
import subprocess
from pathlib import Path

from support.waiting import wait_until

ISOLATED = Path(__file__).resolve().parents[2] / "scripts" / "isolated"


def isolated(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ISOLATED, *command], capture_output=True, text=True, check=False, timeout=30)


def sleeping(length: str) -> bool:
    """Whether ``sleep`` runs with this argument."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if process.read_bytes() == f"sleep\0{length}\0".encode():
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


def test_it_has_networks_names_and_devices_of_its_own() -> None:
    inner = isolated("sh", "-c", "readlink /proc/self/ns/net; ls /run/netns /sys/class/net")
    namespace, *rest = inner.stdout.split()
    assert namespace != os.readlink("/proc/thread-self/ns/net")
    assert rest == ["/run/netns:", "/sys/class/net:", "lo"]


def test_it_passes_input_output_and_status_on() -> None:
    command = [ISOLATED, "sh", "-c", "tr a b; exit 7"]
    done = subprocess.run(command, input="aha", capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.returncode) == ("bhb", 7)


def test_what_was_left_running_ends_with_it() -> None:
    assert isolated("sh", "-c", "sleep 86413 >/dev/null 2>&1 & echo started").stdout == "started\n"
    wait_until(lambda: not sleeping("86413"), "the orphan is gone")


def test_everything_ends_when_it_is_told_to_end() -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        outer = subprocess.Popen([ISOLATED, "sleep", "86414"], stderr=subprocess.DEVNULL)
        wait_until(lambda: sleeping("86414"), "it runs")
        outer.send_signal(number)
        outer.wait(timeout=10)
        wait_until(lambda: not sleeping("86414"), f"nothing is left after {number.name}")
