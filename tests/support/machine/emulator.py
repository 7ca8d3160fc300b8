"""Which QEMU runs a machine: this host's own, or one of a later Debian where its own knows too few devices.

That one is unpacked below ``.cache/vm``, not installed, and started by its own dynamic loader with its own libraries.
"""

import subprocess
from pathlib import Path

from support.machine.errors import NoEmulator
from support.machine.preparing import CACHE, CommandFailed, once, run

Emulator = tuple[str, ...]
"""The words that start a QEMU."""
QEMU = "qemu-system-x86_64"
OWN: Emulator = (QEMU,)
CARD = (
    *("-netdev", "user,id=cable,restrict=on"),
    *("-device", "pcie-root-port,id=port0"),
    *("-device", "igb,bus=port0,netdev=cable"),
)
"""Devices of a machine: a network card (Intel 82576) with seven virtual functions. QEMU has it since version 8."""
RELEASE, PACKAGE = "trixie", "qemu-system-x86"
NEEDED = 600_000_000
"""Bytes: packages, and what is in them, for the moment in which both are there."""


def with_card(cache: Path = CACHE) -> Emulator:
    """A QEMU that knows ``CARD``. Raises ``NoEmulator`` if this host has none and none was prepared."""
    unpacked = _unpacked(cache / "qemu")
    for emulator in (OWN, unpacked):
        if _knows_card(emulator):
            return emulator
    raise NoEmulator("no QEMU that emulates igb: ./test prepares one, where packages can be downloaded")


def prepare_card(cache: Path = CACHE) -> Emulator:
    """Download and unpack such a QEMU unless there is one. Needs root, mmdebstrap and the network.

    Raises ``NoEmulator`` if it cannot be had, ``NoSpace`` if the disk is too full for it.
    """
    if not _knows_card(OWN):
        try:
            once(cache / "qemu", "a QEMU", NEEDED, _unpack)
        except CommandFailed as error:
            raise NoEmulator(f"no QEMU that emulates igb: {error}") from None
    return with_card(cache)


def _unpack(work: Path) -> Path:
    """The package with all it depends on, in a directory in which nothing was configured."""
    made = work / "qemu"
    run("mmdebstrap", "--quiet", "--variant=extract", f"--include={PACKAGE}", RELEASE, str(made))
    return made


def _unpacked(root: Path) -> Emulator:
    libraries = root / "usr/lib/x86_64-linux-gnu"
    data = [word for name in ("qemu", "seabios") for word in ("-L", str(root / "usr/share" / name))]
    loader = (str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries))
    return (*loader, str(root / "usr/bin" / QEMU), *data)


def _knows_card(emulator: Emulator) -> bool:
    try:
        shown = subprocess.run(
            [*emulator, "-device", "igb,help"], capture_output=True, text=True, check=False, timeout=60
        )
    except FileNotFoundError:
        return False
    return shown.stdout.startswith("igb options")
