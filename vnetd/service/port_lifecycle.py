"""How ports come to be and end: made whole or not at all, and gone with their device."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from uuid import UUID

from vnetd.host.commit import Commit
from vnetd.model.errors import Denied, Invalid, VnetError
from vnetd.model.port import PortKind, PortRecord, PortSpec
from vnetd.plan.kernel import DeleteLink
from vnetd.plan.macvtap import Stacked
from vnetd.plan.rules import EMPTY, port_owner
from vnetd.reconcile.desired import alias_of
from vnetd.reconcile.errands import Errands
from vnetd.reconcile.function import FunctionTarget
from vnetd.reconcile.healer import RETRY
from vnetd.reconcile.inner_port import InnerPortTarget
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.macvtap import MacvtapTarget
from vnetd.reconcile.passt import PasstTarget
from vnetd.reconcile.port import DesiredPort, PortTarget, Seen, placement
from vnetd.reconcile.together import together
from vnetd.service import reservations
from vnetd.service.bandwidth import refuse_unable
from vnetd.service.filters import FilterService
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_devices import AT_ONCE, PortDevices
from vnetd.service.port_making import Made, Making
from vnetd.service.port_object import PORTS, PortObject, PortTable
from vnetd.service.port_plugs import plug_of
from vnetd.service.port_wishes import UNTAGGED, PortWishes
from vnetd.service.views import Caller, Changed, LifecycleEvent, Removed

MOST_TAMPERING = 3
"""How often the holder of a tap may do what only a hostile one does before the port is detached."""

log = logging.getLogger(__name__)

TARGETS: Mapping[PortKind, type[PortTarget]] = {
    PortKind.MACVTAP: MacvtapTarget,
    PortKind.MACVTAP_FD: MacvtapTarget,
    PortKind.HOSTDEV: FunctionTarget,
    PortKind.PASST: PasstTarget,
    PortKind.MACVLAN: InnerPortTarget,
    PortKind.IPVLAN: InnerPortTarget,
}
"""What keeps ports of a kind that joins no bridge."""


class PortLifecycle:
    """Makes ports, takes them out, and forgets those whose device went. Implements ``reconcile.port.Watcher``."""

    def __init__(
        self, loop: Loop, notices: Notices, ports: PortTable, filters: FilterService, wishes: PortWishes
    ) -> None:
        self.devices = PortDevices(loop.host)
        self._loop = loop
        self._notices = notices
        self._ports = ports
        self._filters = filters
        self._wishes = wishes
        self._errands = Errands()
        self._closed = False

    def object(self, record: PortRecord, network: NetworkObject) -> PortObject:
        """The port of a record, its device claimed. Raises what its filter raises."""
        desired = self._wishes.desired(record, network)
        self._loop.devices.claim(record.device, port_owner(desired.uuid))
        target = TARGETS.get(record.kind, PortTarget)(self._loop, desired, self)
        return PortObject(record, network, target)

    async def make(self, caller: Caller, port: PortObject, spec: PortSpec) -> Made:
        """Filter, device and its place in the bridge; on failure nothing is left, on success the port is kept."""
        self._ports.begin(port)
        # From here on events of the device count: what happens to it meanwhile is looked at once this is done.
        self._loop.healer.add(port.target)
        made = Made()
        async with port.target.lock:
            try:
                await self._refuse_limits(port)
                async with self._namespace(caller, spec) as netns:
                    await self._locate(port, netns)
                    making = self._making(port, spec, netns)
                    made, seen = await self._begin(port, making)
                    await port.target.converge(seen)
                    await self.devices.of(port.record.kind).finish(making)
            except BaseException as failure:
                await self._undo(port, made.fds, failure)
                raise
            self._ports.add(port)
        return made

    def adopt(self, port: PortObject) -> None:
        """Look after a port of an earlier run."""
        port.target.doubt()
        reservations.restore(port.network, port.record)
        self._wishes.note_use(port.record, port.network)
        self._ports.add(port)
        self._loop.healer.add(port.target)

    async def clear_away(self, record: PortRecord) -> None:
        """Undo what is left of a port whose network runs no more, and forget it."""
        if (plug := plug_of(record, None)) is not None:
            desired = DesiredPort(
                uuid=str(record.uuid),
                device=record.device,
                bridge="",
                alias="" if record.kind in UNTAGGED else alias_of("port", str(record.uuid)),
                mac=None,
                mtu=record.mtu,
                isolated=False,
                fragment=EMPTY,
                plug=plug,
            )
            await TARGETS[record.kind](self._loop, desired, self).take_down()
        await self._loop.host.store.delete(PORTS, str(record.uuid))

    async def detach(self, port: PortObject) -> None:
        """Take a port out and forget it."""
        self._loop.healer.discard(port.target.key)
        async with port.target.lock:
            await port.target.take_down()
        await self._forget(port)

    async def save(self, record: PortRecord) -> None:
        """Keep a record."""
        await self._loop.host.store.save(PORTS, str(record.uuid), record.model_dump(mode="json"))

    async def close(self) -> None:
        """Wait for ports that are being forgotten."""
        self._closed = True
        await self._errands.ended()

    def announce(self, network: NetworkObject) -> None:
        """Tell that the ports of a network are others now."""
        self._notices.tell(Changed("network", network.view()))

    async def _refuse_foreign(self, caller: Caller, reference: str, netns: int) -> None:
        """Raise ``Denied`` to whoever wants devices, addresses and routes in the namespace of another user."""
        owner = await self._loop.host.namespaces.owner(netns)
        if owner is None:
            raise Invalid(f"netns {reference!r} is the host's own network namespace: a guest needs one of its own")
        if not caller.administrator and owner != caller.uid:
            raise Denied(
                f"network namespace {reference!r} belongs to uid {owner}: only that user and root may attach it"
            )

    async def _locate(self, port: PortObject, netns: int) -> None:
        """Note where a port will be that is wholly in its guest's namespace."""
        if port.record.kind.inside:
            number = await self._loop.host.namespaces.number(netns)
            port.record = port.record.model_copy(update={"namespace": number})
            port.target.desired = self._wishes.desired(port.record, port.network)

    async def _begin(self, port: PortObject, making: Making) -> tuple[Made, Seen | None]:
        """Put its filter in force and make its device: before it is in a bridge, or where rules are at it, after."""
        if port.record.kind in AT_ONCE:
            return await self._make_at_once(port, making)
        if isinstance(making.desired.plug, Stacked):
            return await self._make_filtered_device(port, making)
        device = asyncio.ensure_future(self._make_device(port, making))
        try:
            made: Made
            _, (made, seen) = await together(self._filter(port, port.target.write_rules), device)
        except BaseException:
            if not device.cancelled() and not device.exception():
                await self._loop.host.taps.close(device.result()[0].fds)
            raise
        return made, seen

    async def _make_at_once(self, port: PortObject, making: Making) -> tuple[Made, Seen | None]:
        """Rules and device in one hop: the maker knows when the rules have to be there."""
        kernel, maker = self._loop.host.kernel, self.devices.of(port.record.kind)
        desired, tries = making.desired, count()
        made = Made()

        async def make(commit: Commit) -> None:
            nonlocal made
            if next(tries):  # rules were refused: what was made before them is there still
                await kernel.apply([DeleteLink(desired.device, desired.alias)])
            made = await maker.make(replace(making, placing=placement(desired), commit=commit))

        await self._record(port)
        try:
            await self._filter(port, lambda: port.target.write_rules_by(make))
        except BaseException:
            await self._loop.host.taps.close(made.fds)
            raise
        return made, made.seen

    async def _make_filtered_device(self, port: PortObject, making: Making) -> tuple[Made, Seen | None]:
        """The device, and all its rules in one transaction, while it is down."""
        made, seen = await self._make_device(port, making)
        try:
            await self._filter(port, port.target.write_rules)
        except BaseException:
            await self._loop.host.taps.close(made.fds)
            raise
        return made, seen

    async def _make_device(self, port: PortObject, making: Making) -> tuple[Made, Seen | None]:
        """The device, on record before it is there."""
        await self._record(port)
        made = await self.devices.of(port.record.kind).make(making)
        try:
            return made, made.seen or await port.target.observe()
        except BaseException:
            await self._loop.host.taps.close(made.fds)
            raise

    async def _record(self, port: PortObject) -> None:
        """Before there is a device: that may outlive this process, as rules of nobody do not."""
        await self.save(port.record)
        await reservations.hold(port.network, port.record)

    async def _filter(self, port: PortObject, write: Callable[[], Awaitable[None]]) -> None:
        """Have its filter put in force as it is now by ``write``, with the rules of its place."""
        if not (port.record.filter or port.record.unseen):
            await write()
            return
        async with self._filters.changing:
            port.target.refilter(self._wishes.fragment(port.record, port.network))
            await write()
            self._wishes.note_use(port.record, port.network)

    def _making(self, port: PortObject, spec: PortSpec, netns: int) -> Making:
        assert port.network.live is not None
        return Making(port.record, spec, port.target.desired, port.network.live, netns)

    @asynccontextmanager
    async def _namespace(self, caller: Caller, spec: PortSpec) -> AsyncIterator[int]:
        """The guest's namespace, the same throughout whatever becomes of its name; -1 if there is none."""
        if not spec.netns:
            yield -1
            return
        netns = await self._loop.host.namespaces.open(spec.netns)
        try:
            await self._refuse_foreign(caller, spec.netns, netns)
            yield netns
        finally:
            os.close(netns)

    async def _refuse_limits(self, port: PortObject) -> None:
        assert port.network.live is not None
        reservations.refuse_without_place(port.network.live, port.record)
        await refuse_unable(self._loop.host.capabilities, f"port {port.name}", port.record.limits)

    async def _release(self, port: PortObject) -> None:
        try:
            await reservations.release(port.network, port.uuid)
        except VnetError as error:  # the network's next look sees to it
            log.warning("the reservation of port %s is still there: %s", port.name, error)
            if port.network.target:
                self._loop.healer.touch(port.network.target.key)

    async def _forget(self, port: PortObject) -> None:
        if self._ports.kept.by_uuid(port.uuid) is not port:
            return
        last = port.view()
        await self._loop.host.store.delete(PORTS, str(port.uuid))
        self._drop(port)
        await self._release(port)
        self._notices.tell(Removed("port", last))
        self._notices.tell(LifecycleEvent("detached", "port", port.uuid, port.name))
        self.announce(port.network)

    def _drop(self, port: PortObject) -> None:
        self._ports.remove(port)
        self._loop.devices.release(port.target.key)
        self._wishes.forget_use(port.record)

    async def _undo(self, port: PortObject, fds: Sequence[int], failure: BaseException) -> None:
        self._loop.healer.discard(port.target.key)
        self._wishes.forget_use(port.record)
        try:
            try:
                await self._loop.host.taps.close(fds)
            finally:
                await port.target.take_down()
            await self._loop.host.store.delete(PORTS, str(port.uuid))
        except VnetError as error:
            # What is left stays on record: the next run of the daemon takes it away.
            failure.add_note(f"and undoing it failed: {error}")
        finally:
            self._drop(port)
            await self._release(port)

    def ended(self, uuid: str) -> None:
        """The port's device is gone, with the guest that held it."""
        port = self._ports.kept.by_uuid(UUID(uuid))
        if port is None or self._closed:
            return
        self._loop.healer.discard(port.target.key)
        self._errands.run(self._bury(port))

    def tampered(self, uuid: str, text: str) -> None:
        """Note it; the port stays down until somebody who may plugs it in again. Whoever goes on is detached."""
        port = self._ports.kept.by_uuid(UUID(uuid))
        if port is None or self._closed:
            return
        times = port.record.tampered + 1
        blocked = f"{text} ({times} of {MOST_TAMPERING} times): the port is down until its link is set up again"
        port.record = port.record.model_copy(update={"blocked": blocked, "tampered": times})
        log.error("port %s: %s", port.name, blocked)
        if times >= MOST_TAMPERING:
            self.expel(port, blocked)
        else:
            self._errands.run(self._note(port))

    def expel(self, port: PortObject, why: str) -> None:
        """Detach a port soon, and again until that succeeds."""
        if not self._closed:
            self._errands.run(self._expel(port, why))

    async def _note(self, port: PortObject) -> None:
        async with port.target.lock:
            if self._ports.kept.by_uuid(port.uuid) is not port:
                return
            self._notices.tell(Changed("port", port.view()))
            try:
                await self.save(port.record)
            except VnetError as error:
                log.warning("what the holder of port %s did is not on record: %s", port.name, error)

    async def _expel(self, port: PortObject, why: str) -> None:
        async with port.network.lock:
            if self._ports.kept.by_uuid(port.uuid) is not port:
                return
            log.info("port %s is detached: %s", port.name, why)
            try:
                await self.detach(port)
            except VnetError as error:
                log.error("port %s cannot be detached yet: %s", port.name, error)
                asyncio.get_running_loop().call_later(RETRY, self.expel, port, why)

    async def _bury(self, port: PortObject) -> None:
        try:
            async with port.target.lock:
                await port.target.clear()
            await self._forget(port)
        except VnetError as error:
            log.warning("port %s is gone but not forgotten yet: %s", port.name, error)
            asyncio.get_running_loop().call_later(RETRY, self.ended, str(port.uuid))
            return
        log.info("port %s of network %s ended: its device is gone", port.name, port.network.name)
