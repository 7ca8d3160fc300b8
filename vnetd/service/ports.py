"""Use cases of ports: attach, hand out taps, detach, filter."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from vnetd.model.errors import Busy, Exists, InUse, Invalid, NotFound, VnetError
from vnetd.model.port import PortKind, PortRecord, PortSpec
from vnetd.plan.rules import EMPTY, Fragment
from vnetd.reconcile.desired import alias_of
from vnetd.reconcile.healer import RETRY
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.port import DesiredPort, PortTarget, port_owner
from vnetd.service.api import Options
from vnetd.service.filters import Bound, FilterService
from vnetd.service.naming import free_name, random_mac
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_devices import PortDevices
from vnetd.service.port_spec import spec_of, validated
from vnetd.service.registry import Registry
from vnetd.service.views import Added, Attached, Caller, Changed, LifecycleEvent, PortView, Removed

log = logging.getLogger(__name__)

PORTS = "run/ports"
TEMPLATES = {PortKind.VETH: "veth%d", PortKind.TAP: "vnet%d", PortKind.TAP_FD: "vnet%d"}


@dataclass(eq=False, slots=True)
class PortObject:
    """A port with its record, its network and its target; ``name`` is its device."""

    record: PortRecord
    network: NetworkObject
    target: PortTarget

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
        return PortView(
            uuid=record.uuid,
            network=record.network,
            network_name=self.network.name,
            device=record.device,
            kind=str(record.kind),
            state="active",
            mac=record.mac,
            filter=record.filter or "",
            owner=record.owner,
        )


class PortService:
    """Ports. Implements ``service.api.Ports``."""

    def __init__(self, loop: Loop, notices: Notices, networks: Registry[NetworkObject], filters: FilterService) -> None:
        self.objects: Registry[PortObject] = Registry("port")
        self._loop = loop
        self._notices = notices
        self._networks = networks
        self._filters = filters
        self._devices = PortDevices(loop.host)
        self._naming = asyncio.Lock()
        self._attaching: set[PortObject] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    def list(self) -> tuple[PortView, ...]:
        """All ports, by device."""
        return tuple(port.view() for port in self.objects)

    def get(self, ref: str) -> PortView:
        """One port by UUID or device. Raises ``NotFound``."""
        return self.objects.get(ref).view()

    async def attach(self, caller: Caller, network: str, spec: Options) -> Attached:
        """Attach a guest by ``kind`` veth, tap (persistent) or existing; see ``model.port.PortSpec`` for the keys.

        Raises ``Busy`` if the network is not active, ``Exists``/``InUse`` for a taken device, ``Invalid`` for a bad
        spec or filter. The port's filter is in force before its device joins the bridge.
        """
        wanted = spec_of(spec)
        if wanted.kind is PortKind.TAP_FD:
            raise Invalid("kind 'tap-fd' is what OpenTap makes: attach takes veth, tap and existing")
        return await self._attach(caller, network, wanted)

    async def open_tap(self, caller: Caller, network: str, spec: Options) -> Attached:
        """Make a tap and hand out its queues; the kernel removes it, and the port goes, when the last fd closes."""
        return await self._attach(caller, network, spec_of({**spec, "kind": str(PortKind.TAP_FD)}))

    async def detach(self, caller: Caller, uuid: UUID) -> None:
        """Take a port out; a device vnetd made is deleted. Raises ``NotFound``."""
        port = self._find(uuid)
        async with port.network.lock:
            await self._detach(port)
        log.info("port %s detached by uid %d (pid %d)", port.name, caller.uid, caller.pid)

    async def set_filter(
        self, caller: Caller, uuid: UUID, filter: str, parameters: Mapping[str, Sequence[str]]
    ) -> None:
        """Replace a port's filter in one transaction; an empty name removes it. Raises what binding raises."""
        port = self._find(uuid)
        values = {name: tuple(texts) for name, texts in parameters.items()}
        async with port.target.lock, self._filters.changing:
            if self.objects.by_uuid(uuid) is not port:
                raise NotFound(f"port {port.name} was detached meanwhile")
            fields = {**dict(port.record), "filter": filter or None, "parameters": values}
            await self._refilter(port, validated(PortRecord, fields))
        log.info("filter of port %s set to %s by uid %d", port.name, filter or "none", caller.uid)
        self._notices.tell(Changed("port", port.view()))

    async def detach_all(self, network: NetworkObject) -> tuple[str, ...]:
        """Take every port of a network out (it stops); called with the network's lock held.

        Goes on when one fails; returns what went wrong. Such a port stays, to be detached again.
        """
        ports = [port for port in self.objects if port.network is network]
        results = await asyncio.gather(*(self._detach(port) for port in ports), return_exceptions=True)
        failures = []
        for port, result in zip(ports, results, strict=True):
            if isinstance(result, BaseException):
                log.error("port %s could not be taken out cleanly: %s", port.name, result)
                failures.append(f"port {port.name}: {result}")
        return tuple(failures)

    def restore(self, record: PortRecord, network: NetworkObject) -> tuple[PortObject, Fragment]:
        """Take over a port of an earlier run; returns it with its rules."""
        fragment = self._fragment(record)
        port = self._object(record, network, fragment)
        self._note_use(record)
        self._keep(port)
        self._loop.healer.add(port.target)
        return port, fragment

    def touch(self, network: NetworkObject) -> None:
        """Look at all ports of a network: its bridge was made anew."""
        for port in self.objects:
            if port.network is network:
                self._loop.healer.touch(port.target.key)

    def refiltered(self) -> None:
        """Filters were redefined: targets take over what the ruleset now holds for them."""
        for port in (*self.objects, *self._attaching):
            port.target.refilter(self._loop.rules.fragment(port.target.key) or EMPTY)

    async def close(self) -> None:
        """Wait for ports that are being forgotten."""
        self._closed = True
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _attach(self, caller: Caller, network_ref: str, spec: PortSpec) -> Attached:
        network = self._networks.get(network_ref)
        async with network.lock:
            if not network.active or network.state != "active":
                raise Busy(f"network {network.name} is not active: start it first")
            record = await self._record(caller, network, spec)
            # A first look at the filter, before anything is made; what is put in force is read under the lock.
            port = self._object(record, network, self._fragment(record))
            self._attaching.add(port)
            # From here on events of the device count: what happens to it meanwhile is looked at once this is done.
            self._loop.healer.add(port.target)
            async with port.target.lock:
                fds = await self._make(port, spec)
                self._keep(port)
        log.info(
            "port %s (%s) attached to %s by uid %d (pid %d)",
            record.device, record.kind, network.name, caller.uid, caller.pid,
        )  # fmt: skip
        self._notices.tell(Added("port", port.view()))
        self._announce(network)
        result = {"device": record.device, "mac": record.mac, "network": network.name}
        return Attached(port.view(), result, fds)

    async def _make(self, port: PortObject, spec: PortSpec) -> tuple[int, ...]:
        """Filter, device and its place in the bridge; on failure nothing is left."""
        fds: tuple[int, ...] = ()
        try:
            await self._save(port.record)
            if port.record.filter:
                async with self._filters.changing:
                    await self._refilter(port, port.record, save=False)
            fds = await self._devices.make(port.record, spec, port.target.desired)
            await port.target.converge()
            await self._devices.finish(spec, port.record)
        except BaseException as failure:
            await self._undo(port, fds, failure)
            raise
        finally:
            self._attaching.discard(port)
        return fds

    async def _refilter(self, port: PortObject, record: PortRecord, *, save: bool = True) -> None:
        """Put the record's filter in force; with filters and port locked. On failure everything is as it was."""
        fragment, before = self._fragment(record), port.record
        if save:
            await self._save(record)
        try:
            await self._loop.rules.put({port.target.key: fragment})
        except BaseException:
            if save:
                await self._save(before)
            raise
        port.target.refilter(fragment)
        port.record = record
        self._note_use(record)

    async def _record(self, caller: Caller, network: NetworkObject, spec: PortSpec) -> PortRecord:
        async with self._naming:
            device = await self._device_name(spec)
            assert network.target is not None
            inherited = None if spec.kind is PortKind.EXISTING else network.target.desired.bridge.mtu
            fields = {
                "uuid": uuid4(),
                "network": network.uuid,
                "kind": spec.kind,
                "device": device,
                "mac": spec.mac or random_mac(),
                "mtu": spec.mtu or inherited,
                "filter": spec.filter,
                "parameters": spec.parameters,
                "owner": caller.uid,
            }
            return validated(PortRecord, fields)

    async def _device_name(self, spec: PortSpec) -> str:
        kernel = self._loop.host.kernel
        taken = self._loop.devices.names()
        if spec.kind is PortKind.EXISTING:
            if not spec.device:
                raise Invalid("device is missing: kind 'existing' needs the name of a network device")
            if spec.device in taken:
                raise InUse(f"device {spec.device} belongs to vnetd already")
            if await kernel.link(spec.device) is None:
                raise NotFound(f"there is no network device {spec.device!r}")
            return spec.device
        name = spec.device or TEMPLATES[spec.kind]
        if name.count("%") > 1:
            raise Invalid(f"device {name!r} holds more than one '%d'")
        if "%d" in name:
            return await free_name(name, taken, kernel.link)
        if name in taken or await kernel.link(name):
            raise Exists(f"a network device {name!r} exists already: choose another name")
        return name

    def _object(self, record: PortRecord, network: NetworkObject, fragment: Fragment) -> PortObject:
        assert network.target is not None and network.live is not None
        desired = DesiredPort(
            uuid=str(record.uuid),
            device=record.device,
            bridge=network.target.desired.bridge.name,
            alias="" if record.kind is PortKind.EXISTING else alias_of("port", str(record.uuid)),
            mtu=record.mtu,
            isolated=bool(network.live.isolated_ports),
            fragment=fragment,
        )
        self._loop.devices.claim(record.device, port_owner(desired.uuid))
        return PortObject(record, network, PortTarget(self._loop, desired, self._ended))

    def _fragment(self, record: PortRecord) -> Fragment:
        if not record.filter:
            return EMPTY
        return self._filters.compile(Bound(record.device, record.filter, record.mac, record.parameters))

    def _note_use(self, record: PortRecord) -> None:
        owner = port_owner(str(record.uuid))
        if record.filter:
            self._filters.users[owner] = Bound(record.device, record.filter, record.mac, record.parameters)
        else:
            self._filters.users.pop(owner, None)

    def _keep(self, port: PortObject) -> None:
        self.objects.add(port)
        port.network.ports = (*port.network.ports, port.uuid)

    async def _detach(self, port: PortObject) -> None:
        self._loop.healer.discard(port.target.key)
        async with port.target.lock:
            await port.target.take_down()
        await self._forget(port)

    async def _forget(self, port: PortObject) -> None:
        if self.objects.by_uuid(port.uuid) is not port:
            return
        last = port.view()
        await self._loop.host.store.delete(PORTS, str(port.uuid))
        self._drop(port)
        self._notices.tell(Removed("port", last))
        self._notices.tell(LifecycleEvent("detached", "port", port.uuid, port.name))
        self._announce(port.network)

    def _drop(self, port: PortObject) -> None:
        self.objects.remove(port)
        self._loop.devices.release(port.target.key)
        self._filters.users.pop(port.target.key, None)
        port.network.ports = tuple(uuid for uuid in port.network.ports if uuid != port.uuid)

    async def _undo(self, port: PortObject, fds: Sequence[int], failure: BaseException) -> None:
        self._loop.healer.discard(port.target.key)
        self._filters.users.pop(port.target.key, None)
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

    def _ended(self, uuid: str) -> None:
        """The port's device is gone, with the guest that held it."""
        port = self.objects.by_uuid(UUID(uuid))
        if port is None or self._closed:
            return
        self._loop.healer.discard(port.target.key)
        task = asyncio.get_running_loop().create_task(self._bury(port), name=f"forget port {port.name}")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _bury(self, port: PortObject) -> None:
        try:
            async with port.target.lock:
                await self._loop.rules.put({port.target.key: None})
            await self._forget(port)
        except VnetError as error:
            log.warning("port %s is gone but not forgotten yet: %s", port.name, error)
            asyncio.get_running_loop().call_later(RETRY, self._ended, str(port.uuid))
            return
        log.info("port %s of network %s ended: its device is gone", port.name, port.network.name)

    def _announce(self, network: NetworkObject) -> None:
        self._notices.tell(Changed("network", network.view()))

    async def _save(self, record: PortRecord) -> None:
        await self._loop.host.store.save(PORTS, str(record.uuid), record.model_dump(mode="json"))

    def _find(self, uuid: UUID) -> PortObject:
        if port := self.objects.by_uuid(uuid):
            return port
        raise NotFound(f"there is no port {uuid}")
