"""All services joined, and the loop's reports turned into what callers see."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from uuid import UUID

from vnetd.host.protocols import Host
from vnetd.model.capability import Capability
from vnetd.model.learned import LearnedAddress
from vnetd.reconcile.backoff import Quarrel, in_words
from vnetd.reconcile.desired import Surroundings
from vnetd.reconcile.errands import Errands
from vnetd.reconcile.loop import Loop
from vnetd.service.diagnosis import DiagnosisService
from vnetd.service.filter_uses import Bound
from vnetd.service.filters import FilterService
from vnetd.service.learning import leased
from vnetd.service.network_object import NetworkObject
from vnetd.service.networks import NetworkService
from vnetd.service.notices import Notices, by_turns
from vnetd.service.port_object import PortObject
from vnetd.service.ports import PortService
from vnetd.service.recovery import Recovery
from vnetd.service.shared_problems import SharedProblems
from vnetd.service.switch_object import SwitchObject
from vnetd.service.switches import SwitchService
from vnetd.service.views import Added, Caller, Changed, Healed, Notice, ObjectKind, Removed

log = logging.getLogger(__name__)


class ServiceRoot:
    """Implements ``service.api.Services`` and ``reconcile.healer.Reporter``."""

    def __init__(self, host: Host, around: Surroundings) -> None:
        self._notices = Notices()
        self._loop = Loop(host, self, self._leases_changed, self._resolvers_changed)
        self._errands = Errands()
        self.networks = NetworkService(self._loop, self._notices, around)
        self._shared = SharedProblems(self._loop, self._notices, self._errands, self.networks.objects, self._object)
        self.filters = FilterService(self._loop, self._notices)
        self.ports = PortService(
            self._loop, self._notices, self.networks.objects, self.filters, self.networks.leases_of
        )
        self.switches = SwitchService(self._loop, self._notices)
        self.switches.bridges_elsewhere = self.networks.bridges
        self.networks.bridges_elsewhere = self.switches.bridges
        self.networks.usage = self.ports.usage
        self.diagnosis = DiagnosisService(self._loop, self.networks, self.filters, self.ports)
        self.switches.ports_on = lambda bridge: tuple(port.uuid for port in self._ports_on(bridge))
        self.switches.activation.carried = self._carried
        self._notices.subscribe(self._ports_changed)
        self.networks.detach_ports = self.ports.detach_all
        self.networks.follow_ports = self.ports.follow
        self.filters.switched = self.ports.refiltered
        self.filters.learning.leases = self._leases_of

    async def start(self) -> None:
        """Take over what is there and start what boots. Raises ``VnetError`` if the host cannot be read."""
        await self._read_resolvers()
        await Recovery(self._loop, self.networks, self.switches, self.filters, self.ports).run()

    async def close(self) -> None:
        """Stop looking after the host; everything on it stays as it is."""
        await self._loop.healer.close()
        await self.switches.confirmations.close()
        await self.ports.close()
        await self.filters.learning.close()
        await self._errands.ended()
        await self._loop.rules.close()

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        """See ``service.api.Services``."""
        self._notices.subscribe(listener)

    def connections(self) -> frozenset[str]:
        """Connections that ports end with."""
        return self.ports.connections()

    def left(self, connection: str) -> None:
        """A connection is gone: so are its ports, soon."""
        self.ports.left(connection)

    async def reconcile(self, caller: Caller) -> None:
        """Compare everything with the host now."""
        log.info("full pass asked for by uid %d (pid %d)", caller.uid, caller.pid)
        self._loop.host.capabilities.forget()
        await self.full_pass()

    async def full_pass(self) -> None:
        """Compare everything with the host now; also run every few minutes, in case an event was lost."""
        self._loop.routes.changed()
        await self._loop.healer.sweep()

    async def capabilities(self) -> tuple[Capability, ...]:
        """See ``service.api.Services``."""
        return await self._loop.host.capabilities.all()

    def healed(self, key: str, repaired: tuple[str, ...], cause: str) -> None:
        """Count and announce repairs with the network or port they were made for."""
        if key == self._loop.rules.key:
            self._errands.run(self._healed_many(self._loop.rules.repaired, cause))
        elif key == self._loop.forwarding.key:
            log.warning("healed %s%s", ", ".join(repaired), f" changed by {cause}" if cause else "")
            served = (f"network:{network.uuid}" for network in self._shared.sharers(key))
            self._errands.run(self._healed_many(dict.fromkeys(served, repaired), cause))
        else:
            self._healed_one(key, repaired, cause)

    def problems(self, key: str, failure: str, fought: Mapping[str, Quarrel]) -> None:
        """Show problems with the networks or the ports they concern; none take earlier ones back."""
        if key in self._shared.keys:
            self._shared.show(key, failure, fought)
            return
        text = "; ".join(text for text in (failure, *in_words(fought)) if text)
        if (one := self._object(key)) and one.problem != text:
            returned, one.problem = not text, text
            if returned and isinstance(one, NetworkObject):
                self.ports.touch(one)  # they may have waited for what was away
            self._notices.tell(Changed(_kind_of(key), one.view()))

    async def _healed_many(self, repaired: Mapping[str, tuple[str, ...]], cause: str) -> None:
        """Count and announce what was repaired for each owner."""
        async for owner, what in by_turns(repaired.items()):
            self._healed_one(owner, what, cause)

    def _healed_one(self, key: str, repaired: tuple[str, ...], cause: str) -> None:
        one = self._object(key)
        if one is None:
            return
        log.warning("healed %s of %s%s", ", ".join(repaired), one.name, f" changed by {cause}" if cause else "")
        whole = one.network if isinstance(one, PortObject) else one
        whole.healed += 1
        if isinstance(one, NetworkObject) and any(what.startswith("bridge") for what in repaired):
            self.ports.touch(one)
        for what in repaired:
            self._notices.tell(Healed(whole.kind, whole.uuid, whole.name, what, {"cause": cause}))
        self._notices.tell(Changed(whole.kind, whole.view()))

    def _object(self, key: str) -> NetworkObject | SwitchObject | PortObject | None:
        kind, _, uuid = key.partition(":")
        if kind == "switch":
            return self.switches.objects.by_uuid(UUID(uuid))
        if kind == "network":
            return self.networks.objects.by_uuid(UUID(uuid))
        return self.ports.objects.by_uuid(UUID(uuid)) if kind in {"port", "place"} else None

    def _ports_on(self, bridge: str) -> list[PortObject]:
        return [port for port in self.ports.objects if bridge and port.target.desired.bridge == bridge]

    def _carried(self, bridge: str) -> frozenset[int]:
        """VLANs the ports on a bridge take part in."""
        return frozenset(vlan.id for port in self._ports_on(bridge) for vlan in port.target.desired.vlans or ())

    def _ports_changed(self, notice: Notice) -> None:
        if isinstance(notice, Added | Changed | Removed) and notice.kind == "port" and len(self.switches.objects):
            self._errands.run(self.switches.follow_ports())

    def _leases_changed(self, uuid: str) -> None:
        one = self._object(f"network:{uuid}")
        if isinstance(one, NetworkObject):
            self._errands.run(self.networks.leases_of.refresh(one.current, one.uuid))

    async def _leases_of(self, bound: Bound) -> Iterable[LearnedAddress]:
        """What the DHCP server of a port's network has given its guest, as far as it knows guests by MAC address."""
        port = self._object(bound.owner)
        if not isinstance(port, PortObject):
            return ()
        leases = await self.networks.leases_of.read(port.network.current, port.network.uuid)
        return [leased(ip_address(one.address), one.expiry) for one in leases if one.mac == bound.mac]

    def _resolvers_changed(self) -> None:
        self._errands.run(self._read_resolvers())

    async def _read_resolvers(self) -> None:
        activation = self.networks.activation
        activation.around = replace(activation.around, upstream=await self._loop.host.dnsmasq.upstream())
        await activation.follow()


def _kind_of(key: str) -> ObjectKind:
    """The kind of object a target is of."""
    return "port" if key.startswith("port:") else "switch" if key.startswith("switch:") else "network"
