"""One port with everything the daemon knows of it, and all of them together."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from uuid import UUID

from vnetd.model.errors import Denied, Exists
from vnetd.model.networkport import DirectPlug, HostdevPlug
from vnetd.model.port import PortRecord
from vnetd.reconcile.port import PortTarget
from vnetd.service.bandwidth import flat
from vnetd.service.network_object import NetworkObject
from vnetd.service.registry import Registry
from vnetd.service.views import Caller, PortView

PORTS = "run/ports"


@dataclass(eq=False, slots=True)
class PortObject:
    """A port with its record, its network and its target; ``name`` is its device.

    ``problem`` is why it is not as it should be.
    """

    record: PortRecord
    network: NetworkObject
    target: PortTarget
    problem: str = ""
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Problems of what it shares with others, by target."""

    @property
    def uuid(self) -> UUID:
        """Of the port."""
        return self.record.uuid

    @property
    def name(self) -> str:
        """The device."""
        return self.record.device

    def view(self) -> PortView:
        """As callers see it."""
        record = self.record
        problems = tuple(text for text in (record.blocked, self.problem, *chain(*self.shared.values())) if text)
        return PortView(
            uuid=record.uuid,
            network=record.network,
            network_name=self.network.name,
            device=record.device,
            kind=str(record.kind),
            state="degraded" if problems else "active",
            mac="" if record.unseen else record.mac,
            filter=record.filter or "",
            owner=record.owner,
            link_up=record.link,
            lifetime=str(record.lifetime),
            problems=problems,
            isolated=self.target.desired.isolated,
            portgroup=record.portgroup or "",
            bandwidth=flat(record.limits),
        )


class PortTable:
    """All ports: ``kept`` are whole and may be seen, others are being made. Iteration is over both."""

    def __init__(self) -> None:
        self.kept: Registry[PortObject] = Registry("port")
        self._attaching: set[PortObject] = set()
        self._by_mac: dict[str, set[PortObject]] = {}  # also under addresses they had before
        self._by_device: dict[str, dict[PortObject, None]] = {}  # of a pool, in the order they came

    def __iter__(self) -> Iterator[PortObject]:
        yield from self.kept.unordered()
        yield from self._attaching

    def of(self, network: NetworkObject) -> tuple[PortObject, ...]:
        """The whole ports of a network, by device."""
        return tuple(port for port in self.kept if port.network is network)

    def find(self, uuid: UUID) -> PortObject:
        """Raises ``NotFound``."""
        return self.kept.find(uuid)

    def with_mac(self, network: NetworkObject, mac: str) -> PortObject | None:
        """A port of this network whose guest has this MAC address."""
        return next(iter(self.sharing(network, mac)), None)

    def sharing(self, network: NetworkObject, mac: str) -> list[PortObject]:
        """All ports of this network whose guests have this MAC address."""
        known = self._by_mac.get(mac, ())
        return [port for port in known if port.record.mac == mac and port.network is network]

    def using(self, device: str) -> Collection[PortObject]:
        """Ports of all networks that have this device of a pool (``devices_of``)."""
        return tuple(self._by_device.get(device, ()))

    def refuse_duplicate(self, network: NetworkObject, mac: str) -> None:
        """Raise ``Exists`` naming the port of this network that has this MAC address already."""
        if other := self.with_mac(network, mac):
            raise Exists(
                f"MAC address {mac} belongs to port {other.name} of network {network.name} already: "
                "choose another, or say duplicate_mac if two guests are really to share it"
            )

    def refuse_theft(self, caller: Caller, network: NetworkObject, mac: str) -> None:
        """Raise ``Denied`` to who is not root and wants the MAC address, and so the frames, of others' ports."""
        for port in self.sharing(network, mac):
            if not caller.administrator and port.record.owner != caller.uid:
                raise Denied(f"MAC address {mac} belongs to port {port.name} of another user: only root may share it")

    def refuse_gone(self, port: PortObject) -> None:
        """Raise ``NotFound`` if the port was detached since it was found."""
        self.kept.refuse_gone(port, how="detached")

    def begin(self, port: PortObject) -> None:
        """It is being made."""
        self._attaching.add(port)
        self.note_mac(port)
        self._note_devices(port)

    def note_mac(self, port: PortObject) -> None:
        """It is found by the MAC address of its record from now on."""
        self._by_mac.setdefault(port.record.mac, set()).add(port)

    def add(self, port: PortObject) -> None:
        """It is whole."""
        self._attaching.discard(port)
        self.kept.add(port)
        self.note_mac(port)
        self._note_devices(port)
        port.network.members.add(port.uuid)

    def move(self, port: PortObject, network: NetworkObject) -> None:
        """It is in this network now."""
        port.network.members.discard(port.uuid)
        port.network = network
        network.members.add(port.uuid)

    def remove(self, port: PortObject) -> None:
        """It is no more."""
        self._attaching.discard(port)
        self.kept.remove(port)
        port.shared.clear()
        port.network.members.discard(port.uuid)
        for mac in {port.record.mac, port.record.made_for or port.record.mac}:
            known = self._by_mac.get(mac, set())
            known.discard(port)
            if not known:
                self._by_mac.pop(mac, None)
        for device in devices_of(port.record):
            users = self._by_device.get(device, {})
            users.pop(port, None)
            if not users:
                self._by_device.pop(device, None)

    def _note_devices(self, port: PortObject) -> None:
        """What a port is plugged into is picked before it is made, and stays for as long as there is the port."""
        for device in devices_of(port.record):
            self._by_device.setdefault(device, {})[port] = None


def devices_of(record: PortRecord) -> Iterator[str]:
    """Devices of a pool a port has: a card's name, or the PCI address of a function."""
    if isinstance(record.plug, DirectPlug):
        yield record.plug.dev
    elif isinstance(record.plug, HostdevPlug):
        yield record.plug.address.text
    elif record.lower:
        yield record.lower
