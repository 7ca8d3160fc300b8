"""The command as a process: what it imports, and how it ends."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TOP}:{TOP / 'clients'}"}


def vnetctl(
    *words: str, python: tuple[str, ...] = (), stdin: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, "-m", "vnetctl", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **(environment or {})},
        timeout=60,
        check=False,
    )


def imported(*words: str) -> set[str]:
    """Top-level names of modules a command line makes Python import."""
    report = vnetctl(*words, python=("-X", "importtime")).stderr
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in report.splitlines() if "|" in line}


def test_help_starts_without_bus_tables_or_model() -> None:
    assert not imported("--help") & {"asyncio", "dbus_next", "rich", "pydantic", "vnetd"}
    assert not imported("network", "lst") & {"asyncio", "dbus_next", "rich", "pydantic", "vnetd"}


def test_a_command_for_the_daemon_starts_without_tables_or_model() -> None:
    modules = imported("--bus", "unix:path=/nonexistent", "network", "list")
    assert "dbus_next" in modules
    assert not modules & {"rich", "pydantic", "vnetd"}


def test_nobody_on_the_bus_is_unreachable() -> None:
    done = vnetctl("--bus", "unix:path=/nonexistent", "network", "list")
    assert done.returncode == 5
    assert done.stderr == "error: cannot reach the bus at unix:path=/nonexistent: No such file or directory\n"


def test_an_address_that_is_none_is_wrong_usage() -> None:
    done = vnetctl("--bus", "pigeon:to=home", "network", "list")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_session_without_a_bus_is_unreachable() -> None:
    hidden = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"}
    assert vnetctl("--bus", "session", "status", environment=hidden).returncode == 5


def test_a_bus_that_hangs_up_in_the_handshake_is_unreachable(tmp_path: Path) -> None:
    import socket
    import threading

    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "bus"))
    server.listen()

    def hang_up() -> None:
        connection, _ = server.accept()
        connection.recv(100)
        connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    done = vnetctl("--bus", f"unix:path={tmp_path / 'bus'}", "status")
    thread.join()
    server.close()
    assert done.returncode == 5
    assert done.stderr.startswith("error: cannot reach the bus")


def into(stream: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command line that writes to an open file."""
    command = [sys.executable, "-m", "vnetctl", *words]
    return subprocess.run(
        command, env=ENVIRONMENT, stdout=stream, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("words", [("--help",), ("schema", "network")])
def test_a_reader_that_left_is_no_fault(words: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = into(write, *words)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("words", [("--help",), ("schema", "network")])
def test_a_full_disk_is_an_error(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = into(full.fileno(), *words)
    assert (done.returncode, done.stderr) == (1, "error: cannot write the result: No space left on device\n")


def test_closed_output_is_no_fault() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m vnetctl schema network >&-"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_the_daemons() -> None:
    from vnetd import __version__

    assert vnetctl("--version").stdout == f"vnetctl {__version__}\n"


@pytest.mark.parametrize("noun", [(), ("network",), ("filter", "bind"), ("port", "attach")])
def test_help_is_there_at_every_level(noun: tuple[str, ...]) -> None:
    done = vnetctl(*noun, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(" ".join(["usage: vnetctl", *noun]))
