"""Machines that run a distribution's own kernel, under software emulation, on this machine's root file system.

No image is built: QEMU shares ``/`` read-only over 9p, and what the machine writes goes to an overlay in its memory (or
on a disk, to outlive a reboot). So a test finds the same programs, checkout and paths inside as outside, with another
kernel below: one that has what this machine's own lacks, and one on which systemd can really boot.

``kernel`` prepares what is booted, ``emulator`` a QEMU with devices that this host's own may lack, ``initramfs`` packs
what a machine starts with, ``guest`` writes the scripts that run inside, ``qemu`` runs it. Nothing here needs the
network except to prepare, and that once.
"""

from support.machine.emulator import CARD, prepare_card, with_card
from support.machine.errors import Broken, MachineError, NoEmulator, NoKernel, NoSpace, TimedOut
from support.machine.kernel import StockKernel, prepare, prepared
from support.machine.qemu import IN_INSTRUCTIONS, Machine

__all__ = [
    "CARD",
    "IN_INSTRUCTIONS",
    "Broken",
    "Machine",
    "MachineError",
    "NoEmulator",
    "NoKernel",
    "NoSpace",
    "StockKernel",
    "TimedOut",
    "prepare",
    "prepare_card",
    "prepared",
    "with_card",
]
