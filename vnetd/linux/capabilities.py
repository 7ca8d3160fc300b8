"""``host.Capabilities``: what this kernel and the programs beside it can do, by trying.

What needs a device, a rule or a qdisc is tried in a network namespace made for it, on a thread that ends with it.
Nothing else is touched, but the kernel may load modules, as it would at the first real use.
"""

import asyncio
import ctypes
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from vnetd.linux.capabilities_links import probe_links
from vnetd.linux.capabilities_nft import probe_nft
from vnetd.linux.capabilities_tc import probe_tc
from vnetd.linux.dnsmasq_process import NOT_INSTALLED
from vnetd.linux.netns import CLONE_NEWNET
from vnetd.linux.packet_log import probe_packet_log
from vnetd.linux.passt import NOT_INSTALLED as PASST_NOT_INSTALLED
from vnetd.linux.processes import SEARCH
from vnetd.linux.threads import Worker
from vnetd.model.capability import ABILITIES, Capability

PATIENCE = 10.0
"""Seconds a program is given to say its version."""

NOT_TRIED = "it could not be tried, as no network namespace could be made for that"

log = logging.getLogger(__name__)

Probe = Callable[[], Iterable[Capability]]
Exclusively = Callable[[Callable[[], list[Capability]]], Awaitable[list[Capability]]]


class LinuxCapabilities:
    """Probes at the first question, in about a twentieth of a second. ``exclusively`` runs a function while nobody
    else uses libnftables, which is not made for two threads.
    """

    def __init__(self, exclusively: Exclusively) -> None:
        self._exclusively = exclusively
        self._lock = asyncio.Lock()
        self._known: tuple[Capability, ...] = ()

    async def all(self) -> tuple[Capability, ...]:
        """See ``host.Capabilities``."""
        async with self._lock:
            if not self._known:
                self._known = await self._probe()
            return self._known

    def forget(self) -> None:
        """See ``host.Capabilities``."""
        self._known = ()

    async def _probe(self) -> tuple[Capability, ...]:
        worker = Worker("vnetd-probe")
        try:
            found = await worker.run(probe_kernel)
            found += await self._exclusively(probe_rules)
            found += await worker.run(probe_programs)
        finally:
            await worker.close()
        tried = {capability.name: capability for capability in found}
        return tuple(tried.get(name) or Capability(name, False, NOT_TRIED) for name in ABILITIES)


def probe_kernel() -> list[Capability]:
    """Links, traffic control, the log of packets."""
    return _in_scratch_namespace([probe_links, probe_tc, probe_packet_log])


def probe_rules() -> list[Capability]:
    """nftables; nothing else in this process may use libnftables meanwhile."""
    return _in_scratch_namespace([probe_nft])


def probe_programs() -> list[Capability]:
    """Programs vnetd starts, and network cards with virtual functions."""
    return [*_dnsmasq(), _passt(), _virtual_functions()]


def _in_scratch_namespace(probes: list[Probe]) -> list[Capability]:
    found: list[Capability] = []

    def visit() -> None:
        try:
            _unshare()
        except OSError as error:
            log.warning("abilities of the kernel cannot be tried, for want of a network namespace: %s", error.strerror)
            return
        for probe in probes:
            found.extend(probe())

    visitor = threading.Thread(target=visit, name="vnetd-scratch")
    visitor.start()
    visitor.join()
    return found


def _unshare() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _dnsmasq() -> list[Capability]:
    path = shutil.which("dnsmasq", path=SEARCH)
    if path is None:
        return [Capability(name, False, NOT_INSTALLED) for name in ("dnsmasq", "dnsmasq-dhcpv6", "dnsmasq-tftp")]
    said = _says(path, "--version")
    options = said.partition("Compile time options:")[2].split("\n")[0].split()
    found = [Capability("dnsmasq", bool(said), f"{_version(said)} at {path}" if said else f"{path} does not run")]
    for name, option in (("dnsmasq-dhcpv6", "DHCPv6"), ("dnsmasq-tftp", "TFTP")):
        found.append(Capability(name, option in options, "" if option in options else f"{path} is built without it"))
    return found


def _passt() -> Capability:
    path = shutil.which("passt", path=SEARCH)
    if path is None:
        return Capability("passt", False, PASST_NOT_INSTALLED)
    return Capability("passt", True, path)


def _says(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _version(said: str) -> str:
    """``2.90`` of ``Dnsmasq version 2.90  Copyright …``."""
    words = said.split()
    return words[words.index("version") + 1] if "version" in words[:-1] else "of unknown version"


def _virtual_functions() -> Capability:
    """Of this namespace's cards only: others' are not for vnetd to use."""
    cards = []
    for path in Path("/sys/class/net").glob("*/device/sriov_totalvfs"):
        try:
            total = int(path.read_text())
        except (OSError, ValueError):
            continue
        if total:
            cards.append(f"{path.parts[4]} ({total})")
    if not cards:
        return Capability("sr-iov", False, "no network card of this host has virtual functions")
    return Capability("sr-iov", True, ", ".join(sorted(cards)))
