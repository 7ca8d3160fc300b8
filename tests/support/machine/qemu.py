"""Runs a machine: QEMU's arguments, its one process, its output, its time."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.machine import guest
from support.machine.emulator import OWN, Emulator
from support.machine.errors import Broken, NoEmulator, NoSpace, TimedOut
from support.machine.initramfs import initramfs
from support.machine.kernel import StockKernel
from support.machine.preparing import CACHE, locked

MIB = 1024 * 1024
BOOTING = 600.0
"""Seconds until the command must have been started; about five on a quiet machine, systemd about thirty."""
# A stock kernel wants no five-level page tables here: the emulation of them is what does not work.
EMULATION = ("-accel", "tcg", "-machine", "q35", "-cpu", "max,la57=off")
IN_INSTRUCTIONS = ("-icount", "shift=0")
"""Devices of a machine in which an instruction takes a nanosecond: deadlines hold however slow the emulation, and
however busy this machine. Only while it is idle its time is the real one."""
BARE = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"
# What starts in a second elsewhere takes half a minute here.
KERNEL_ARGUMENTS += " systemd.default_timeout_start_sec=600"

Output = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is there for one command.

    ``root`` is shared read-only as its root file system, ``memory`` is in MiB. With ``systemd`` the command runs once
    multi-user.target is reached. ``before`` is a shell script that runs first of all; its output is in ``before.log``
    of the shared directory. ``masked`` are units that shall not start. ``disk`` is a file with an ext4 file system
    that keeps what the machine writes; without one it is forgotten. ``devices`` are further arguments of QEMU,
    which is the host's own unless ``emulator`` names another.
    """

    kernel: StockKernel
    root: Path = Path("/")
    memory: int = 2048
    processors: int = 1
    systemd: bool = False
    before: str = ""
    masked: tuple[str, ...] = ()
    disk: Path | None = None
    devices: tuple[str, ...] = ()
    emulator: Emulator = OWN
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        command: Sequence[str],
        *,
        limit: float,
        share: Path | None = None,
        directory: Path | None = None,
        output: Output = lambda _: None,
    ) -> int:
        """Boot, run ``command`` in ``directory`` (this one), and return its exit status.

        ``output`` gets what it prints as it comes. ``share`` is a directory the machine finds as ``/machine`` and may
        write to. One machine runs at a time; the time spent waiting for others does not count to ``limit``, in seconds.
        Raises ``NoEmulator``, ``NoSpace``, ``TimedOut``, ``Broken``; QEMU has ended in every case.
        """
        self._check()
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="machine-") as private, locked(CACHE / "running.lock"):
            shared = share or Path(private) / "share"
            shared.mkdir(exist_ok=True)
            self._write_scripts(shared, command, directory or Path.cwd())
            archive = Path(private) / "initramfs"
            archive.write_bytes(
                initramfs(self.kernel, guest.init(disk=self.disk is not None), disk=self.disk is not None)
            )
            run = _Run(self._arguments(shared, archive), shared, output)
            return run.finish(limit)

    def _check(self) -> None:
        if shutil.which(self.emulator[0]) is None:
            raise NoEmulator(f"no QEMU: {self.emulator[0]} is not installed")
        if (free := _available_memory()) < self.memory * MIB:
            raise NoSpace(f"no space for a machine of {self.memory} MiB: {free // MIB} MiB of memory are available")

    def _write_scripts(self, shared: Path, command: Sequence[str], directory: Path) -> None:
        for stale in ("started", "status"):
            (shared / stale).unlink(missing_ok=True)
        (shared / "start").write_text(guest.start(self.kernel.version, systemd=self.systemd))
        (shared / "run").write_text(guest.run(command, directory, self.environment))
        (shared / "end").write_text(guest.END)
        (shared / "before").write_text(self.before)
        _lay_out(shared / "runtime", guest.runtime(self.masked))

    def _arguments(self, shared: Path, archive: Path) -> list[str]:
        disk = ("-drive", f"file={self.disk},if=virtio,format=raw,cache=unsafe") if self.disk else ()
        return [
            *(*self.emulator, *EMULATION, *BARE),
            *("-smp", str(self.processors), "-m", str(self.memory)),
            *("-kernel", str(self.kernel.image), "-initrd", str(archive), "-append", KERNEL_ARGUMENTS),
            *("-serial", f"file:{shared / 'console'}"),
            *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=output,name=output"),
            *("-chardev", "file,id=output,path=/dev/fdset/1,append=on"),
            *("-device", "virtio-rng-pci"),
            *_shared_directory("root", self.root, "readonly=on,multidevs=remap"),
            *_shared_directory("modules", self.kernel.modules, "readonly=on"),
            *_shared_directory("share", shared, "readonly=off"),
            *disk,
            *self.devices,
        ]


class _Run:
    """One process of QEMU. It dies with this one, and is the only one that is ever killed here."""

    def __init__(self, arguments: list[str], shared: Path, output: Output) -> None:
        self._shared = shared
        reading, writing = os.pipe()
        command = ["setpriv", "--pdeathsig", "KILL", *arguments, "-add-fd", f"fd={writing},set=1"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(writing,),
                text=True,
            )
        finally:
            os.close(writing)
        self._reader = threading.Thread(target=_pass_on, args=(reading, output), daemon=True)
        self._reader.start()

    def finish(self, limit: float) -> int:
        """Wait for the end and return the command's exit status."""
        try:
            self._wait(limit)
        finally:
            self._process.kill()
            errors = self._process.communicate()[1]
            self._reader.join(timeout=10)
        with suppress(FileNotFoundError, ValueError):
            return int((self._shared / "status").read_text())
        raise Broken(f"the machine ended without a result: {errors.strip() or self._last_words()}")

    def _wait(self, limit: float) -> None:
        begin = time.monotonic()
        while self._process.poll() is None:
            spent = time.monotonic() - begin
            if spent > limit:
                raise TimedOut(f"the machine's command hung: it did not end within {limit:.0f} s; {self._last_words()}")
            if spent > BOOTING and not (self._shared / "started").exists():
                raise TimedOut(f"the machine hung: it did not start within {BOOTING:.0f} s; {self._last_words()}")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.2)

    def _last_words(self) -> str:
        """What the machine's kernel printed: why it gave up if it said so, else the end."""
        with suppress(FileNotFoundError):
            printed = [line.strip() for line in (self._shared / "console").read_text(errors="replace").splitlines()]
            telling = [line for line in printed if "panic" in line or line.startswith("machine:")]
            return f"its console says: {' / '.join(telling or printed[-5:])}"
        return "its console says nothing"


def _lay_out(directory: Path, files: Mapping[str, str | None]) -> None:
    """Make these files and no others; links to ``/dev/null`` where there is no text."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.symlink_to("/dev/null")
        else:
            path.write_text(text)


def _pass_on(reading: int, output: Output) -> None:
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while data := pipe.read(65536):
            output(data)


def _shared_directory(tag: str, path: Path, options: str) -> tuple[str, ...]:
    share = f"local,id={tag},path={path},security_model=none,{options}"
    return ("-fsdev", share, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}")


def _available_memory() -> int:
    """Bytes that programs can still have (proc(5), MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
