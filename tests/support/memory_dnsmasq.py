"""``host.Dnsmasq`` in memory: processes that serve nobody, with files that others can change."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from vnetd.host.events import FileEvent, HostEvent, ProcessEvent
from vnetd.model.errors import HostError
from vnetd.plan.dnsmasq import DnsmasqState, Instance

CONFIGURATION, LEASES = "dnsmasq.conf", "leases"


@dataclass(frozen=True, slots=True)
class Process:
    """A running dnsmasq and the configuration it was started with."""

    pid: int
    started_with: str


class MemoryDnsmasq:
    """``running`` are processes, ``files`` their rendered files and ``kept`` the lease files, each by network.

    A host outlives the daemon: a second daemon on the same object finds by ``adopt`` what the first left.
    """

    def __init__(self, emit: Callable[[HostEvent], None]) -> None:
        self.running: dict[str, Process] = {}
        self.files: dict[str, dict[str, str]] = {}
        self.kept: dict[str, str] = {}
        self.resolvers: tuple[str, ...] = ()
        self.reloads: list[str] = []
        self._emit = emit
        self._pids = count(1000)

    async def adopt(self) -> tuple[str, ...]:
        """Networks that are served."""
        return tuple(sorted(self.running))

    async def upstream(self) -> tuple[str, ...]:
        """The host's name servers."""
        return self.resolvers

    def prepare(self, instance: Instance) -> None:
        """Write the files."""
        self.files[instance.network] = dict(instance.files)
        self.kept.setdefault(instance.network, "")

    async def start(self, instance: Instance) -> DnsmasqState:
        """Write the files and run."""
        self.prepare(instance)
        self.running[instance.network] = Process(next(self._pids), instance.files[CONFIGURATION])
        return await self.observe(instance.network)

    async def observe(self, network: str) -> DnsmasqState:
        """What runs and what its files hold."""
        process = self.running.get(network)
        files = dict(self.files.get(network, {}))
        return DnsmasqState(process.pid if process else 0, process.started_with if process else None, files)

    async def reload(self, instance: Instance) -> None:
        """Write the files; only a running process can be told to read them."""
        if instance.network not in self.running:
            raise HostError("reload dnsmasq", f"of network {instance.network}", "it does not run")
        self.files[instance.network] = dict(instance.files)
        self.reloads.append(instance.network)

    async def stop(self, network: str, *, forget: bool) -> None:
        """End it, remove its files, and the leases if they are to be forgotten."""
        self.running.pop(network, None)
        self.files.pop(network, None)
        if forget:
            self.kept.pop(network, None)

    async def give_leases(self, network: str, text: str) -> None:
        """Make it the lease file."""
        assert network not in self.running
        self.kept[network] = text

    async def leases(self, network: str) -> str | None:
        """The lease file."""
        return self.kept.get(network)

    def kill(self, network: str) -> None:
        """The process ends by itself."""
        del self.running[network]
        self._emit(ProcessEvent(network))

    def write(self, network: str, name: str, text: str) -> None:
        """Another process writes a file, or dnsmasq itself its leases."""
        if name == LEASES:
            self.kept[network] = text
        else:
            self.files[network][name] = text
        self._emit(FileEvent(network, name))

    def change_resolvers(self, *addresses: str) -> None:
        """The host gets other name servers."""
        self.resolvers = addresses
        self._emit(FileEvent("", "resolv.conf"))
