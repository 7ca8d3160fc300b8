"""QEMU as a guest: a whole machine whose firmware (iPXE) is a real DHCP client, run by a user without privileges."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PROGRAM = "qemu-system-x86_64"
NOBODY = 65534
# A checkout may lie where root alone can look: the user keeps the right to read, and no other.
READER = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def as_user(groups: Sequence[int] = ()) -> list[str]:
    """The beginning of a command line that is run as nobody, in these groups besides."""
    supplementary = [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", *supplementary, *READER]


@contextmanager
def machine(
    netdev: str,
    mac: str,
    *,
    log: Path,
    groups: Sequence[int] = (),
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A machine that boots from the network over ``-netdev netdev,id=net0``; it ends with the block."""
    command = [
        *as_user(groups), PROGRAM, "-accel", "tcg", "-m", "64", "-nodefaults", "-display", "none", "-boot", "n",
        "-netdev", f"{netdev},id=net0", "-device", f"virtio-net-pci,netdev=net0,mac={mac}",
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds, env=environment
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def helper_script(path: Path) -> Path:
    """``vnet-bridge-helper`` of this checkout, as a program QEMU can start."""
    python_path = f"{TOP}:{TOP / 'clients'}"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={python_path} exec {sys.executable} -m vnetctl.bridge_helper "$@"\n')
    path.chmod(0o755)
    return path
