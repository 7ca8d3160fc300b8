"""How a network becomes active and inactive: the transaction around its target."""

import logging
from collections.abc import Iterator

from vnetd.host.requirements import explained, require
from vnetd.model.base import IPNetwork
from vnetd.model.errors import Busy, InUse, NotFound, VnetError
from vnetd.model.network import Mode, Network
from vnetd.model.spans import span_of
from vnetd.reconcile.borrowed import BorrowedTarget, desired_borrowed
from vnetd.reconcile.desired import Compiled, Surroundings, compiled, desired_network, refuse_unrealised
from vnetd.reconcile.forwarding import Need
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.network import NetworkTarget
from vnetd.reconcile.together import together
from vnetd.service.bandwidth import refuse_unable
from vnetd.service.network_object import RUNNING, NetworkObject
from vnetd.service.registry import Registry
from vnetd.service.reservations import refuse_overcommitted

log = logging.getLogger(__name__)

AnyTarget = NetworkTarget | BorrowedTarget


class Activation:
    """Starts, changes and stops networks on the host; called with the network's ``lock`` held."""

    def __init__(self, loop: Loop, objects: Registry[NetworkObject], around: Surroundings) -> None:
        self.around = around
        self._loop = loop
        self._objects = objects

    def check(self, network: Network) -> Compiled | None:
        """Raise what realising ``network`` would raise for its document alone; what has no bridge of vnetd's passes.

        Returns what it means for the host: whoever keeps the document keeps that for its start.
        """
        return compiled(network, self.around) if network.mode.has_bridge else None

    async def start(self, known: NetworkObject, network: Network) -> None:
        """Realise ``network`` as the live form of ``known``; on failure nothing is left and the error is raised."""
        refuse_unrealised(network)
        await self._refuse_unable(network)
        await self.refuse_clash(network)
        target = self._target(known, network)
        target.remains = known.remains
        known.live, known.state, known.problem = network, "starting", ""
        try:
            self._claim(target)
            serving = explained(self._loop.host.capabilities, f"network {network.name}", "dnsmasq")
            async with target.lock, serving:
                await target.bring_up(self._intend(known, target, network))
        except BaseException as failure:
            await self._give_up(known, target, failure)
            raise
        self._watch(known, target)

    async def resume(self, known: NetworkObject) -> None:
        """Take over a network an earlier run of the daemon left active: repair what differs, change nothing else."""
        assert known.live is not None
        target = self._target(known, known.live)
        if isinstance(target, NetworkTarget):
            target.shaper.doubt()
        self._claim(target)
        self._watch(known, target)

    def _target(self, known: NetworkObject, network: Network) -> AnyTarget:
        if not network.mode.has_bridge:
            return BorrowedTarget(self._loop, desired_borrowed(network))
        if known.compiled is None or not known.compiled.fits(network, self.around):
            known.compiled = compiled(network, self.around)
        return NetworkTarget(self._loop, known.compiled.desired)

    async def _become(self, known: NetworkObject, target: AnyTarget, network: Network) -> None:
        """Turn what is there into this form; with the target locked."""
        async with target.lock:
            if isinstance(target, BorrowedTarget):
                await target.change(desired_borrowed(network))
            else:
                await target.change(desired_network(network, self.around, known.floors.values()))

    async def change(self, known: NetworkObject, network: Network) -> None:
        """Turn the running network into this form, guests attached; raises and stays as it was if that fails."""
        target, before = known.target, known.live
        assert target is not None and before is not None
        if _fixed(network) != _fixed(before):
            raise Busy(f"network {known.name} is active: stop it to change its bridge name or to mode {network.mode}")
        refuse_unrealised(network)
        await self.refuse_missing_uplink(network)
        refuse_overcommitted(network, tuple(known.floors.values()))
        await self._refuse_unable(network)
        await self.refuse_clash(network, apart_from=known)
        self.check(network)
        known.live = network
        try:
            await self.record(known)
            await self._become(known, target, network)
            await self._need(target, network)
        except BaseException as failure:
            known.live = before
            await self._go_back(known, target, before, failure)
            raise

    async def stop(self, known: NetworkObject, *, forget: bool) -> None:
        """Take it off the host, with ``forget`` its leases too.

        If something stays, it stays recorded as ``failed`` and the error is raised.
        """
        target = known.target
        assert target is not None
        known.state = "stopping"
        self._loop.healer.discard(target.key)
        try:
            await self.record(known)
            async with target.lock:
                await target.take_down()
            if forget:
                await self._loop.host.dnsmasq.stop(str(known.uuid), forget=True)
            await self._loop.forwarding.release(target.key)
            await self._loop.host.store.delete(RUNNING, str(known.uuid))
        except VnetError as error:
            known.state, known.problem = "failed", str(error)
            raise
        self._loop.devices.release(target.key)
        known.live, known.target, known.state, known.problem = None, None, "inactive", ""
        known.shared.clear()

    async def record(self, known: NetworkObject) -> None:
        """Write down what is, or is to be, active."""
        document = known.running_document(stopping=known.state == "stopping")
        await self._loop.host.store.save(RUNNING, str(known.uuid), document)

    async def _refuse_unable(self, network: Network) -> None:
        """Raise ``Unsupported`` naming what of this host's kernel is missing for what not every network asks for."""
        able, subject = self._loop.host.capabilities, f"network {network.name}"
        await refuse_unable(able, subject, network.bandwidth)
        if network.mode is Mode.MACVTAP and network.host_access:
            await require(able, f"{subject} with host_access", "macvlan", instead="leave host_access out")

    async def refuse_missing_uplink(self, network: Network) -> None:
        """Raise ``NotFound`` naming a device of the host's the network needs, if there is none of that name."""
        needed = [("forwards to", name) for name in (*network.devices.interfaces, *_given(network.devices.pf))]
        if network.mode is Mode.BRIDGE:
            needed += [("is on bridge", str(network.bridge.name))]
        for verb, name in needed:
            if await self._loop.host.kernel.link(name) is None:
                raise NotFound(
                    f"network {network.name} {verb} {name}, but there is no such network device: name one that exists"
                )

    async def refuse_clash(self, network: Network, apart_from: NetworkObject | None = None) -> None:
        """Raise ``InUse`` if a subnet or route overlaps one of the host or of another active network."""
        if not network.mode.has_bridge:
            return  # addresses beside macvtap guests are of the subnet the lower device is in
        subnets = [address.address.network for address in network.addresses]
        subnets += [route.destination for route in network.routes if route.destination.prefixlen]
        await self._loop.routes.refuse_clash(subnets)
        # Last, and without a pause until the caller notes what starts: two starts at once must see each other.
        for subnet in subnets:
            other = next((one for one in self._overlapping(subnet) if self._counts(one, network, apart_from)), None)
            if other is not None:
                assert other.live is not None
                raise InUse(
                    f"subnet {subnet} is already in use by interface {other.live.bridge.name} "
                    f"(network {other.name}): choose another subnet"
                )

    def _overlapping(self, subnet: IPNetwork) -> Iterator[NetworkObject]:
        """Networks whose active form has a subnet that overlaps this one: asked first, as hundreds do not."""
        version, first, last = span_of(subnet)
        for other in self._objects.unordered():
            for other_version, other_first, other_last in other.spans():
                if first <= other_last and other_first <= last and version == other_version:
                    yield other

    @staticmethod
    def _counts(other: NetworkObject, network: Network, apart_from: NetworkObject | None) -> bool:
        """Whether a clash of ``network`` with another is one: it is active, and another indeed."""
        return other.state != "inactive" and other is not apart_from and other.name != network.name

    async def follow(self) -> None:
        """Render every active network anew (its surroundings changed) and realise that, which is no drift."""
        for known in tuple(self._objects):
            if target := known.target:
                async with target.lock:
                    if known.target is target and known.state == "active" and isinstance(target, NetworkTarget):
                        await self._follow(known, target)

    async def _follow(self, known: NetworkObject, target: NetworkTarget) -> None:
        assert known.live is not None
        desired = desired_network(known.live, self.around, known.floors.values())
        if desired == target.desired:
            return
        await self._loop.healer.mend(target.key)
        target.desired = desired
        try:
            await target.converge()
        except VnetError as error:
            log.warning("network %s cannot follow the host's name servers: %s", known.name, error)
            self._loop.healer.touch(target.key)

    def _claim(self, target: AnyTarget) -> None:
        if isinstance(target, NetworkTarget):
            self._loop.devices.claim(target.desired.bridge.name, target.key)

    def _watch(self, known: NetworkObject, target: AnyTarget) -> None:
        known.target, known.state, known.remains = target, "active", False
        self._loop.healer.add(target)
        if isinstance(target, BorrowedTarget) and target.lacking:
            self._loop.healer.touch(target.key)

    async def _intend(self, known: NetworkObject, target: AnyTarget, network: Network) -> None:
        """Put on record what starts, and have forwarded what it needs."""
        await together(self.record(known), self._need(target, network))

    async def _need(self, target: AnyTarget, network: Network) -> None:
        if need := need_of(network):
            await self._loop.forwarding.require(target.key, need)
        else:
            await self._loop.forwarding.release(target.key)

    async def _give_up(self, known: NetworkObject, target: AnyTarget, failure: BaseException) -> None:
        known.state, known.problem, known.remains = "failed", str(failure), target.remains
        self._loop.devices.release(target.key)
        try:
            await self._loop.forwarding.release(target.key)
            if target.remains:  # the next start takes it over, or the next run of the daemon takes it away
                await self._loop.host.store.save(RUNNING, str(known.uuid), known.running_document(stopping=True))
            else:
                await self._loop.host.store.delete(RUNNING, str(known.uuid))
        except VnetError as error:
            failure.add_note(f"and cleaning up failed: {error}")
        finally:
            known.live = None

    async def _go_back(self, known: NetworkObject, target: AnyTarget, before: Network, failure: BaseException) -> None:
        try:
            await self._become(known, target, before)
            await self._need(target, before)
            await self.record(known)
        except VnetError as error:
            failure.add_note(f"and going back failed: {error}")


def _fixed(network: Network) -> tuple[object, ...]:
    """What cannot change while a network runs."""
    return network.bridge.name, network.mode.has_bridge or network.mode, network.macvtap_mode


def _given(name: str | None) -> tuple[str, ...]:
    return (name,) if name else ()


def need_of(network: Network) -> Need | None:
    """What a network needs forwarded; nothing if it is isolated."""
    versions = frozenset(address.address.version for address in network.addresses)
    if network.mode is Mode.ISOLATED or not network.mode.has_bridge or not versions:
        return None
    return Need(versions, network.devices.interfaces[0] if network.devices.interfaces else "")
