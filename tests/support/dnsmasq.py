"""A dnsmasq host in a namespace with a bridge: what tests of real dnsmasq processes share."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.netns import Namespace

from vnetd.dnsmasq import layout
from vnetd.dnsmasq.render import render
from vnetd.host.events import HostEvent
from vnetd.linux.dnsmasq import DnsmasqHost
from vnetd.model.network import Network
from vnetd.plan.dnsmasq import Instance

TOP = Path(__file__).resolve().parents[2]
UUID = "8a54c7f3-e910-4d12-8312-34a11467ac86"
BRIDGE = "virbr0"
RANGE4 = {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.99"}]}
RANGE6 = {"ranges": [{"start": "fd77::10", "end": "fd77::ff"}]}
LEASE = "1900000000 52:54:00:11:22:33 192.168.77.50 guest1 *\n"
TOP = Path(__file__).resolve().parents[2]
ADDRESSES = [{"address": "192.168.77.1/24", "dhcp": RANGE4}, {"address": "fd77::1/64", "dhcp": RANGE6}]


@dataclass(slots=True)
class Served:
    """A ``DnsmasqHost`` below ``root`` with all it has reported."""

    root: Path
    host: DnsmasqHost
    events: list[HostEvent] = field(default_factory=list)

    def instance(self, uuid: str = UUID, **fields: Any) -> Instance:
        """The files of a network of mode nat with these other fields."""
        document = {"name": "lab", "mode": "nat", "addresses": ADDRESSES} | fields
        return render(
            Network.model_validate_json(json.dumps(document)),
            uuid=uuid,
            bridge=BRIDGE,
            directory=layout.state_directory(str(self.root), uuid),
            run_directory=layout.run_directory(str(self.root)),
            upstream=(),
        )

    def data(self, name: str, uuid: str = UUID) -> Path:
        """A file of the network's state directory."""
        return Path(layout.state_directory(str(self.root), uuid)) / name

    def run(self, suffix: str, uuid: str = UUID) -> Path:
        """A file of the network below /run."""
        return Path(layout.run_directory(str(self.root))) / f"{uuid}.{suffix}"

    def left(self) -> list[str]:
        """Names of all files below the root."""
        return sorted(path.name for path in self.root.rglob("*") if path.is_file())


def make_host(root: Path, **options: Any) -> Served:
    """A ``DnsmasqHost`` that writes down what it reports, and has none wait for the next start unless it is asked."""
    events: list[HostEvent] = []
    return Served(root, DnsmasqHost(root, events.append, **{"refill": 3600.0} | options), events)


def make_bridge(host: Namespace) -> None:
    """``virbr0`` with the addresses a network's kernel part would give it."""
    for command in (
        f"link add {BRIDGE} type bridge",
        f"address add 192.168.77.1/24 dev {BRIDGE}",
        f"address add fd77::1/64 dev {BRIDGE} nodad",
        f"link set {BRIDGE} up",
    ):
        host.run("ip", *command.split())


def ended(pid: int) -> bool:
    """Whether no process of this id runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def daemon_that(does: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that does this to a dnsmasq host, then says so, and waits to be killed."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from support.dnsmasq import make_host\n"
        "async def main():\n"
        "    served = make_host(Path(sys.argv[1]))\n"
        f"    {does}\n"
        "    print('done', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{TOP}:{TOP}/tests"}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE, text=True, env=environment
    ) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == "done\n"
            yield daemon
        finally:
            daemon.kill()
