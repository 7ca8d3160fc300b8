"""What is in force on a device, and what stands between a guest and somebody else. Changes nothing."""

from collections.abc import AsyncIterator, Iterator, Mapping

from vnetd.model.errors import NotFound
from vnetd.model.network import Mode
from vnetd.packets.sightings import Address
from vnetd.plan.links import Link
from vnetd.plan.rules import Count, Fragment, port_owner
from vnetd.reconcile.loop import Loop
from vnetd.ruleset.filter_explain import Met, met, words
from vnetd.service.api import Options
from vnetd.service.diagnosis_plugs import of_plug
from vnetd.service.filter_uses import Bound
from vnetd.service.filters import FilterService
from vnetd.service.network_object import NetworkObject
from vnetd.service.networks import NetworkService
from vnetd.service.port_object import PortObject
from vnetd.service.ports import PortService
from vnetd.service.probing import Ask, Probing, ask_of
from vnetd.service.views import Finding, RuleView

NO_COUNT = Count()


class DiagnosisService:
    """Implements ``service.api.Diagnosis``."""

    def __init__(self, loop: Loop, networks: NetworkService, filters: FilterService, ports: PortService) -> None:
        self._loop = loop
        self._networks = networks
        self._filters = filters
        self._ports = ports
        self._probing = Probing(loop, filters)

    async def explain(self, device: str) -> tuple[RuleView, ...]:
        """The rules in force on a device or port (its UUID), as packets meet them, with what they have counted.

        Raises ``NotFound`` if no filter is in force there.
        """
        bound = self._bound(device)
        fragment = self._loop.rules.fragment(bound.owner) or Fragment()
        rules = [one for towards in (False, True) for one in met(fragment, bound.device, towards)]
        places = {chain for one in rules for chain, _ in one.places}
        counts = await self._loop.host.nft.counts(bound.family, places)
        values = self._values(bound)
        sharers = {chain: self._loop.rules.sharers(bound.family, chain) for chain in places}
        return tuple(_rule(one, counts, values, sharers) for one in rules)

    async def examine(self, target: str, probe: Options) -> tuple[Finding, ...]:
        """Check a port (UUID or device) or a network (name or UUID), a port also with a made-up packet.

        ``probe`` has ``to`` or ``from``, an address, with ``protocol`` (tcp, udp, icmp) and ``port``. Raises
        ``NotFound`` for what is neither, ``Invalid`` for a probe that cannot be.
        """
        ask = ask_of(probe)
        port = self._port(target)
        if port:
            return tuple([one async for one in self._of_port(port, ask)])
        bound = next((one for one in self._filters.users.values() if one.device == target), None)
        if bound:
            device = [one async for one in self._of_device(bound.device, "", bridged=bound.family == "bridge")]
            return (*device, *await self._probing.filtered(bound, ask, ""))
        network = self._networks.objects.by_name(target) or self._networks.objects.get(target)
        return tuple(self._of_network(network))

    def _values(self, bound: Bound) -> Mapping[str, tuple[str, ...]]:
        known = {
            name: tuple(map(str, self._filters.addresses(bound, version))) for name, version in (("IP", 4), ("IPV6", 6))
        }
        return {"MAC": (bound.mac,), **known, **bound.parameters}

    def _bound(self, device: str) -> Bound:
        port = self._port(device)
        wanted = port.name if port else device
        for bound in self._filters.users.values():
            if wanted == bound.device:
                return bound
        raise NotFound(
            f"no filter is in force on {device!r}: 'vnetctl port list' and 'filter bindings' show where one is"
        )

    def _port(self, target: str) -> PortObject | None:
        return next((port for port in self._ports.objects if target in {port.name, str(port.uuid)}), None)

    def _of_network(self, network: NetworkObject) -> Iterator[Finding]:
        view = network.view()
        state = "ok" if view.state == "active" else "problem"
        yield Finding("network", state, f"network {network.name} is {view.state}")
        for text in view.problems:
            yield Finding("network", "problem", text)

    async def _of_port(self, port: PortObject, ask: Ask | None) -> AsyncIterator[Finding]:
        for finding in self._of_network(port.network):
            yield finding
        bridged = not (port.record.plug or port.record.kind.inside)
        device = self._of_device(port.name, port.network.bridge) if bridged else of_plug(self._loop.host, port)
        async for finding in device:
            yield finding
        if port.problem:
            yield Finding("port", "problem", port.problem)
        if not port.record.link:
            yield Finding("link", "problem", f"the guest's cable is unplugged: port {port.name} was given link down")
        bound = self._filters.users.get(port_owner(str(port.uuid)))
        addresses = await self._addresses(port, bound)
        yield _of_addresses(port, addresses)
        if ask is None:
            return
        own = next((one for one in addresses if one.version == ask.other.version), None)
        if bound:
            for finding in await self._probing.filtered(bound, ask, port.network.bridge, own):
                yield finding
        else:
            yield Finding("filter", "ok", f"port {port.name} has no filter")
        if not bridged:
            yield Finding(
                "path", "unknown", f"what port {port.name} sends passes no bridge of this host: see its network"
            )
            return
        async for finding in self._beyond(port, ask, own):
            yield finding

    async def _beyond(self, port: PortObject, ask: Ask, own: Address | None) -> AsyncIterator[Finding]:
        """What is looked at only by packets that are routed, or go to the host itself."""
        network, other = port.network.current, ask.other
        if any(other == one.address.ip for one in network.addresses):
            async for finding in self._probing.by_host(ask, own, port.network.bridge, "input", port.record.mac):
                yield finding
        elif not any(other in one.address.network for one in network.addresses):
            if network.mode is Mode.ISOLATED:
                yield Finding("network", "problem", f"network {network.name} is isolated: nothing of it is routed")
            async for finding in self._probing.routed(ask, own, port.network.bridge, port.record.mac):
                yield finding

    async def _of_device(self, name: str, bridge: str, bridged: bool = True) -> AsyncIterator[Finding]:
        kernel = self._loop.host.kernel
        link = await kernel.link(name)
        if link is None:
            yield Finding("device", "problem", f"there is no network device {name}")
            return
        yield _up(link)
        if not bridged:
            return
        master = await kernel.link_at(link.master) if link.master else None
        if master is None or (bridge and master.name != bridge):
            where = f"in {master.name}" if master else "in no bridge"
            yield Finding("bridge", "problem", f"device {name} is {where}{f', not in {bridge}' if bridge else ''}")
        else:
            yield Finding("bridge", "ok", f"device {name} is in bridge {master.name}")

    async def _addresses(self, port: PortObject, bound: Bound | None) -> tuple[Address, ...]:
        """What is known of the guest's addresses, from its filter or from DHCP."""
        known = [*self._filters.addresses(bound, 4), *self._filters.addresses(bound, 6)] if bound else []
        leased = await self._networks.leases_of.current(port.network.current, port.network.uuid, port.record.mac)
        return tuple(dict.fromkeys([*known, *leased]))


def _rule(
    one: Met,
    counts: Mapping[str, tuple[Count, ...]],
    values: Mapping[str, tuple[str, ...]],
    sharers: Mapping[str, int],
) -> RuleView:
    seen = [counts[chain][place] for chain, place in one.places if place < len(counts.get(chain, ()))]
    return RuleView(
        towards="guest" if one.towards_guest else "network",
        filter=one.origin.origin,
        chain=one.origin.chain,
        rule=words(one.origin, one.towards_guest, values),
        packets=sum(count.packets for count in seen),
        bytes=sum(count.bytes for count in seen),
        shared=sharers[one.places[0][0]],
    )


def _of_addresses(port: PortObject, addresses: tuple[Address, ...]) -> Finding:
    if addresses:
        return Finding("addresses", "ok", f"known of the guest: {', '.join(map(str, addresses))}")
    return Finding("addresses", "unknown", f"no address of the guest of port {port.name} is known: it has no lease")


def _up(link: Link) -> Finding:
    if not link.up:
        return Finding("device", "problem", f"device {link.name} is down")
    if not link.carrier:
        return Finding(
            "link", "problem", f"device {link.name} has no carrier: the guest's end is down, or nobody has it open"
        )
    return Finding("device", "ok", f"device {link.name} is up, with carrier")
