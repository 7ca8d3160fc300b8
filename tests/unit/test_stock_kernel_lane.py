"""Tests that name an ability are sent where it is if it is missing here, and their results come back as items."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CONFTEST = """
import os, subprocess, sys
import pytest
from support import stock_kernel
from support.debian_package import Unprepared
from support.machine import NoKernel

stock_kernel.missing_feature = lambda *names: "no" if {"absent", "too old"} & set(names) else ""
stock_kernel.OF_LIBRARIES = {"too old"}
if INSIDE := os.environ.get("INSIDE"):
    from support import reporting
    reporting.SHARE = INSIDE

class OtherProcess:
    # Stands for a machine: runs the same command, as far as it is not about the machine, in a process.
    def run(self, command, *, share, output, **_):
        if os.environ["MACHINE"] == "none":
            raise NoKernel("no kernel package is prepared")
        names = (share / "tests").read_text().split()
        command = [sys.executable, "-m", "pytest", "-p", "support.reporting", *names]
        if os.environ["MACHINE"] == "ends early":
            command += ["--maxfail=1"]
        done = subprocess.run(command, env=os.environ | {"INSIDE": str(share)}, stdout=subprocess.PIPE)
        output(done.stdout)
        return done.returncode

stock_kernel.prepared = lambda: None
stock_kernel.Machine = lambda *_, **__: OtherProcess()

def run_in_newer_system(command, environment, share):
    if os.environ["MACHINE"] == "none":
        raise Unprepared("no newer system is prepared")
    printed = []
    OtherProcess().run(command, share=share, output=printed.append)
    return b"".join(printed).decode()

stock_kernel.run_in_newer_system = run_in_newer_system

def pytest_configure(config):
    config.addinivalue_line("markers", "stock_kernel")
    config.addinivalue_line("markers", "timeout")
    config.addinivalue_line("markers", "machine")
    if not INSIDE:
        config.pluginmanager.register(stock_kernel.StockKernel())
"""
MODULE = """
import os
import pytest

INSIDE = "INSIDE" in os.environ

def test_plain(): assert not INSIDE
@pytest.mark.stock_kernel("present")
def test_possible(): assert not INSIDE
@pytest.mark.stock_kernel("absent")
def test_impossible(): assert INSIDE
@pytest.mark.stock_kernel("absent", here=True)
def test_both(): pass
@pytest.mark.stock_kernel("absent")
def test_wrong(): assert not INSIDE, "wrong there"
@pytest.mark.stock_kernel("absent")
def test_skipped(): pytest.skip("not there either")
@pytest.mark.stock_kernel("too old", "present")
def test_library(): assert INSIDE
@pytest.mark.stock_kernel("too old", "absent")
def test_library_and_kernel(): assert INSIDE
@pytest.mark.stock_kernel("too old")
def test_last(): assert INSIDE
"""


def outcomes(directory: Path, machine: str, *options: str) -> tuple[dict[str, str], str]:
    """Run the module; each test's outcome, and all that was printed."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_module.py").write_text(MODULE)
    (directory / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"MACHINE": machine, "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rs", *options, "test_module.py"]
    printed = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=100, check=False
    ).stdout
    lines = [line.split() for line in printed.splitlines() if line.startswith("test_module.py::")]
    return {words[0].split("::")[1]: words[1] for words in lines if len(words) > 1}, printed


HERE = {"test_plain": "PASSED", "test_possible": "PASSED", "test_both": "PASSED"}


def test_each_test_runs_where_it_can_and_is_reported_under_its_name(tmp_path: Path) -> None:
    found, printed = outcomes(tmp_path, "there")
    assert found == HERE | {
        "test_impossible@stock-kernel": "PASSED",
        "test_both@stock-kernel": "PASSED",
        "test_wrong@stock-kernel": "FAILED",
        "test_skipped@stock-kernel": "SKIPPED",
        "test_library@debian-13": "PASSED",
        "test_library_and_kernel@stock-kernel": "PASSED",
        "test_last@debian-13": "PASSED",
    }, printed
    assert "wrong there" in printed
    assert "not there either" in printed


def test_what_needs_a_machine_can_be_left_out(tmp_path: Path) -> None:
    found, printed = outcomes(tmp_path, "there", "-m", "not machine")
    assert found == HERE | {"test_library@debian-13": "PASSED", "test_last@debian-13": "PASSED"}, printed


def test_they_are_chosen_by_the_names_and_marks_they_have_here(tmp_path: Path) -> None:
    chosen = ("-m", "stock_kernel and not flaky", "-k", "test_module and library")
    found, printed = outcomes(tmp_path, "there", *chosen)
    assert found == {"test_library@debian-13": "PASSED", "test_library_and_kernel@stock-kernel": "PASSED"}, printed


def test_without_a_machine_they_are_skipped_and_the_reason_is_named(tmp_path: Path) -> None:
    found, printed = outcomes(tmp_path, "none")
    away = ("test_impossible", "test_both", "test_wrong", "test_skipped", "test_library_and_kernel")
    skipped = [f"{name}@stock-kernel" for name in away] + ["test_library@debian-13", "test_last@debian-13"]
    assert found == HERE | dict.fromkeys(skipped, "SKIPPED"), printed
    assert "no kernel package is prepared" in printed
    assert "no newer system is prepared" in printed


def test_what_did_not_get_to_its_end_fails_with_what_was_printed(tmp_path: Path) -> None:
    found, printed = outcomes(tmp_path, "ends early")
    assert found["test_wrong@stock-kernel"] == "FAILED"
    assert found["test_skipped@stock-kernel"] == "FAILED", printed
    assert "this test did not get to its end" in printed
