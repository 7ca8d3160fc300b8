"""A dnsmasq host in a namespace with a bridge: what tests of real dnsmasq processes share."""

import json
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

UUID = "8a54c7f3-e910-4d12-8312-34a11467ac86"
BRIDGE = "virbr0"
RANGE4 = {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.99"}]}
RANGE6 = {"ranges": [{"start": "fd77::10", "end": "fd77::ff"}]}
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
    """A ``DnsmasqHost`` that writes down what it reports."""
    events: list[HostEvent] = []
    return Served(root, DnsmasqHost(root, events.append, **options), events)


def make_bridge(host: Namespace) -> None:
    """``virbr0`` with the addresses a network's kernel part would give it."""
    for command in (
        f"link add {BRIDGE} type bridge",
        f"address add 192.168.77.1/24 dev {BRIDGE}",
        f"address add fd77::1/64 dev {BRIDGE} nodad",
        f"link set {BRIDGE} up",
    ):
        host.run("ip", *command.split())
