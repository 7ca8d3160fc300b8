"""The machines that tests run in: what they give, and what they say when there is none."""

import os
import subprocess
from pathlib import Path

import pytest
from support.machine import Broken, Machine, NoEmulator, NoKernel, NoSpace, StockKernel, TimedOut, prepared, qemu
from support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def marked(tmp_path: Path) -> str:
    """An argument that processes of this test alone have on their command line."""
    return f"guest=test-{os.getpid()}-{tmp_path.name}"


def running(marked: str) -> bool:
    """Whether a process with this argument runs."""
    return subprocess.run(["pgrep", "--full", "--", marked], capture_output=True, check=False).returncode == 0


def test_a_command_runs_on_the_stock_kernel_with_this_root_file_system(kernel: StockKernel, tmp_path: Path) -> None:
    here, share = tmp_path / "here", tmp_path / "share"
    here.write_text("from outside")
    share.mkdir()
    output: list[bytes] = []
    script = f"""uname -r; cat {here}; echo changed >{here}; rm -f /etc/passwd; echo written >/machine/result
ip link add d0 type dummy && echo $GREETING $PWD; exit 7"""
    machine = Machine(kernel, environment={"GREETING": "it's me"})
    status = machine.run(["sh", "-c", script], limit=600, share=share, directory=tmp_path, output=output.append)
    printed = b"".join(output).decode()
    assert (status, printed.split("\n", 1)) == (7, [kernel.version, f"from outsideit's me {tmp_path}\n"])
    assert here.read_text() == "from outside" and Path("/etc/passwd").exists(), "what it writes stays inside"
    assert (share / "result").read_text() == "written\n"


def test_one_that_hangs_is_ended_alone_and_said_to_hang(
    kernel: StockKernel, marked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "1000"], env={"PATH": "/usr/bin:/bin"}) as other:
        monkeypatch.setattr(qemu, "BOOTING", 1.0)
        with pytest.raises(TimedOut, match="did not start within 1 s"):
            Machine(kernel, devices=("-S", "-name", marked)).run(["true"], limit=60)
        with pytest.raises(TimedOut, match="did not end within 0 s"):
            Machine(kernel, devices=("-name", marked)).run(["true"], limit=0.2)
        wait_until(lambda: not running(marked), "QEMU is gone")
        assert other.poll() is None
        other.kill()


def test_one_whose_root_holds_no_system_is_said_to_be_broken(kernel: StockKernel, tmp_path: Path) -> None:
    with pytest.raises(Broken, match="its console says: machine: the root file system holds no shell"):
        Machine(kernel, root=tmp_path).run(["true"], limit=600)


def test_the_words_of_qemu_are_passed_on(kernel: StockKernel) -> None:
    with pytest.raises(Broken, match="nonsense"):
        Machine(kernel, devices=("-device", "nonsense")).run(["true"], limit=60)


def test_a_host_without_qemu_is_told_from_one_without_memory_or_kernel(
    kernel: StockKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoSpace, match="no space for a machine of 99999999 MiB"):
        Machine(kernel, memory=99999999).run(["true"], limit=60)
    with pytest.raises(NoKernel, match="no kernel package is prepared"):
        prepared(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoEmulator, match="no QEMU: qemu-system-x86_64 is not installed"):
        Machine(kernel).run(["true"], limit=60)
