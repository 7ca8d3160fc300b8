"""Sysctls in memory: one for each link that is there, and what the kernel writes to others when one is written."""

import errno
import socket
from typing import TYPE_CHECKING

from support.memory_words import words

from vnetd.host.events import SysctlEvent
from vnetd.model.errors import HostError
from vnetd.plan.kernel import WriteSysctl

if TYPE_CHECKING:
    from support.memory_kernel import MemoryKernel

Path = tuple[str, ...]
IP_FORWARD = ("net", "ipv4", "ip_forward")
PER_LINK = {
    "ipv4": {"forwarding": "0", "rp_filter": "0", "arp_ignore": "0", "promote_secondaries": "0"},
    "ipv6": {
        "forwarding": "0",
        "disable_ipv6": "0",
        "addr_gen_mode": "0",
        "accept_ra": "1",
        "autoconf": "1",
        "accept_dad": "1",
    },
}
REPORTED = frozenset({"forwarding", "rp_filter"})


def write_sysctl(kernel: "MemoryKernel", operation: WriteSysctl, cause: str) -> None:
    """Write one. Raises ``HostError`` as the kernel would."""
    if operation.path in kernel.values:
        _write(kernel, operation.path, operation.value, cause)
    elif not operation.optional:
        raise HostError(*words(operation), errno.ENOENT)


def _write(kernel: "MemoryKernel", path: Path, value: str, cause: str) -> None:
    kernel.values[path] = value
    if path == IP_FORWARD:
        _write(kernel, ("net", "ipv4", "conf", "all", "forwarding"), value, cause)
        return
    if path[2:] == ("conf", "all", "forwarding"):
        if path[1] == "ipv4":
            kernel.values[IP_FORWARD] = value
        for other in [p for p in kernel.values if p[:3] == path[:3] and p[4:] == ("forwarding",) and p != path]:
            _write(kernel, other, value, cause)
    if path[2:3] == ("conf",) and path[-1] in REPORTED:
        family = socket.AF_INET if path[1] == "ipv4" else socket.AF_INET6
        index = _index(kernel, path[3])
        kernel.emit(SysctlEvent(family, index, name=path[3] if index > 0 else ""))


def _index(kernel: "MemoryKernel", name: str) -> int:
    special = {"all": -1, "default": -2}
    entry = kernel.find(name)
    return special.get(name, entry.link.index if entry else 0)


def add_sysctls(kernel: "MemoryKernel", name: str) -> None:
    """Make those of a link."""
    for family, values in PER_LINK.items():
        for key, value in values.items():
            inherited = kernel.values.get(("net", family, "conf", "default", key), value)
            kernel.values["net", family, "conf", name, key] = inherited
