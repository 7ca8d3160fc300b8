"""Why there is no machine, or no result from it."""


class MachineError(Exception):
    """Base of all; the message is one sentence that says what is missing or what happened."""


class Unavailable(MachineError):
    """This host cannot have such a machine: what would run in one is skipped, and the reason named."""


class NoEmulator(Unavailable):
    """QEMU or what else the host needs is not installed, or the host is of another architecture."""


class NoKernel(Unavailable):
    """The stock kernel's package is not prepared and cannot be had."""


class NoSpace(Unavailable):
    """Too little disk for the kernel's files, or too little memory for the machine."""


class TimedOut(MachineError):
    """The machine did not start, or its command did not end, within its time: it hung and was ended."""


class Broken(MachineError):
    """The machine ended without a result: its kernel panicked, or QEMU failed."""
