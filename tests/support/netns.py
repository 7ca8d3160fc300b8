"""Throwaway network namespaces: a host, guests, an outside world, and questions to their kernels.

A ``Lab`` makes namespaces by name and takes all of them away again, with every process that still runs in one,
however its block ends. Commands run to their end or die at their time-out; nothing here waits without a limit.
"""

import ctypes
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = count(1)


class CommandFailed(AssertionError):
    """A command ended with a status other than 0; the message holds what it printed."""


def run(*argv: str, check: bool = True, timeout: float = 30, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end; ``timeout`` in seconds. Raises ``CommandFailed`` unless told not to."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named network namespace."""

    name: str

    @property
    def path(self) -> str:
        """Where it is bound."""
        return f"/run/netns/{self.name}"

    def argv(self, *argv: str) -> tuple[str, ...]:
        """The command line that runs ``argv`` inside."""
        return ("ip", "netns", "exec", self.name, *argv)

    def run(self, *argv: str, check: bool = True, timeout: float = 30, stdin: str = "") -> str:
        """Run a command inside and return its standard output; ``timeout`` in seconds."""
        return run(*self.argv(*argv), check=check, timeout=timeout, stdin=stdin).stdout

    def succeeds(self, *argv: str, timeout: float = 30) -> bool:
        """Whether a command inside ends with status 0."""
        return run(*self.argv(*argv), check=False, timeout=timeout).returncode == 0

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command inside and return at once. ``Lab.close`` ends it if nobody did."""
        defaults: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True}
        return subprocess.Popen(self.argv(*argv), **defaults | {"stdin": subprocess.DEVNULL} | options)

    def ip(self, *args: str) -> list[dict[str, Any]]:
        """What ``ip -json …`` shows; [] for what does not exist."""
        shown = run("ip", "-netns", self.name, "-json", "-details", *args, check=False)
        return [entry for entry in json.loads(shown.stdout or "[]") if entry]

    def link(self, device: str) -> dict[str, Any] | None:
        """A link as ``ip -json link show`` has it, ``None`` if there is none of that name."""
        return next(iter(self.ip("link", "show", "dev", device)), None)

    def addresses(self, device: str) -> set[str]:
        """Addresses of a device, ``address/length``, without link-local ones."""
        return {
            f"{address['local']}/{address['prefixlen']}"
            for link in self.ip("address", "show", "dev", device)
            for address in link["addr_info"]
            if address["scope"] != "link"
        }

    def nft(self, *what: str) -> list[dict[str, Any]]:
        """Objects of ``nft -j list …`` (by default the whole ruleset), without its metainfo; [] if there is none."""
        shown = run(*self.argv("nft", "-j", "list", *(what or ("ruleset",))), check=False)
        objects = json.loads(shown.stdout)["nftables"] if shown.stdout else []
        return [entry for entry in objects if "metainfo" not in entry]

    def sysctl(self, name: str) -> str:
        """A value below /proc/sys, named with slashes or dots."""
        return self.run("sysctl", "-n", name).strip()

    def ping(self, address: str, *, count: int = 1, wait: float = 1, interval: float = 0.2, source: str = "") -> int:
        """Send ``count`` echo requests, ``interval`` seconds apart, and return how many were answered.

        ``wait`` is how long the last one may take, in seconds, ``source`` the address to send from.
        """
        sent = ("-n", "-c", str(count), "-W", str(wait), "-i", str(interval), *(("-I", source) if source else ()))
        shown = self.run("ping", *sent, address, check=False)
        return shown.count("bytes from")

    def pids(self) -> list[int]:
        """Processes that live inside, ourselves left out."""
        shown = run("ip", "netns", "pids", self.name, check=False).stdout
        return [int(pid) for pid in shown.split() if int(pid) != os.getpid()]

    @contextmanager
    def entered(self) -> Iterator[Self]:
        """Move this thread inside for the length of the block; threads started meanwhile stay there."""
        with entered(self.path):
            yield self


@contextmanager
def entered(path: str) -> Iterator[None]:
    """Move this thread into the network namespace bound at ``path`` for the length of the block."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _set_namespace(os.open(path, os.O_RDONLY | os.O_CLOEXEC), close=True)
        try:
            yield
        finally:
            _set_namespace(before)
    finally:
        os.close(before)


def _set_namespace(fd: int, *, close: bool = False) -> None:
    try:
        if _libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        if close:
            os.close(fd)


class Lab:
    """Makes namespaces and takes them away again. Each name gets a suffix of its own, so that none ever clash."""

    def __init__(self) -> None:
        self._made: list[Namespace] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def namespace(self, name: str) -> Namespace:
        """A fresh namespace with its loopback up."""
        made = Namespace(f"{name}-{os.getpid():x}-{next(_serial)}")
        run("ip", "netns", "add", made.name)
        self._made.append(made)
        run("ip", "-netns", made.name, "link", "set", "lo", "up")
        return made

    def veth(self, near: Namespace, near_device: str, far: Namespace, far_device: str, mac: str = "") -> None:
        """A cable between two namespaces, both ends down; ``mac`` is the far end's."""
        address = ("address", mac) if mac else ()
        run(
            *("ip", "-netns", near.name, "link", "add", near_device, "type", "veth"),
            *("peer", "name", far_device, *address, "netns", far.name),
        )

    def guest(self, host: Namespace, bridge: str, name: str = "guest", mac: str = "") -> "Guest":
        """A namespace whose ``eth0`` is plugged into a bridge of ``host`` without vnetd's doing, both ends up."""
        inside = self.namespace(name)
        device = f"g{len(self._made)}-{next(_serial)}"
        self.veth(host, device, inside, "eth0", mac)
        run("ip", "-netns", host.name, "link", "set", device, "master", bridge, "up")
        run("ip", "-netns", inside.name, "link", "set", "eth0", "up")
        return Guest(inside.name, device=device)

    def close(self) -> None:
        """End what runs inside and delete every namespace; goes on whatever fails."""
        for namespace in reversed(self._made):
            for pid in namespace.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run("ip", "netns", "delete", namespace.name, check=False)
        self._made.clear()


DHCP_SCRIPT = Path(__file__).resolve().parents[2] / "clients" / "examples" / "udhcpc.script"
DHCPV6_SCRIPT = Path(__file__).with_name("dhclient6.script")


@dataclass(frozen=True, slots=True)
class Guest(Namespace):
    """A namespace that plays a guest; ``device`` is the host's end of its cable."""

    device: str = ""

    def lease(self, *, device: str = "eth0", hostname: str = "", timeout: float = 10) -> str:
        """Get a DHCPv4 lease by udhcpc, configure it and return the address; ``timeout`` in seconds."""
        named = ("-x", f"hostname:{hostname}") if hostname else ()
        self.run(
            *("udhcpc", "-i", device, "-f", "-n", "-q", "-t", "20", "-T", "1", "-s", str(DHCP_SCRIPT), *named),
            timeout=timeout,
        )
        return next(address.split("/")[0] for address in self.addresses(device) if "." in address)

    def lease_ipv6(self, *, device: str = "eth0", timeout: float = 20) -> str:
        """Get a DHCPv6 lease by dhclient, configure it and return the address; ``timeout`` in seconds."""
        with tempfile.TemporaryDirectory(prefix="dhclient-") as directory:
            files = "-cf", "/dev/null", "-lf", f"{directory}/leases", "-pf", f"{directory}/pid"
            # In the foreground it would not end, in the background it returns once it is bound.
            self.run("dhclient", "-6", "-1", *files, "-sf", str(DHCPV6_SCRIPT), device, timeout=timeout)
        return next(address.split("/")[0] for address in self.addresses(device) if address.endswith("/128"))
