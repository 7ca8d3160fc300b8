"""Names of processes, as hints for people about who changed something."""

import os
from pathlib import Path

PID_BITS = 0x3FFFFF


def process_name(pid: int) -> str:
    """The command name of a live process (at most 15 bytes, printable), "" if there is none with this id."""
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        return ""
    return "".join(c if c.isprintable() else "?" for c in name.decode(errors="replace").rstrip("\n"))


def port_owner(port: int) -> str:
    """Name of the process behind a netlink port id, "" for the kernel's, our own and unknown ones.

    By convention a process's first socket has its pid as port id and further ones carry a counter above bit 22;
    the kernel's own fallback is a negative number that tells nothing.
    """
    pid = port & PID_BITS
    if port <= 0 or port >= 1 << 31 or pid in {0, os.getpid()}:
        return ""
    return process_name(pid)
