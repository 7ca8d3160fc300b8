"""Use cases of ports: attach, hand out taps, detach, filter."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID, uuid4

from pydantic import ValidationError

from vnetd.model.errors import Busy, Exists, InUse, Invalid, NotFound, VnetError
from vnetd.model.port import PortKind, PortRecord, PortSpec
from vnetd.plan.rules import EMPTY, Fragment
from vnetd.reconcile.desired import alias_of
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.port import DesiredPort, PortTarget, port_owner
from vnetd.service.api import Options
from vnetd.service.filters import Bound, FilterService
from vnetd.service.naming import free_name, random_mac
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_devices import PortDevices
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
        self._endings: set[asyncio.Task[None]] = set()

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
        wanted = _spec(spec)
        if wanted.kind is PortKind.TAP_FD:
            raise Invalid("kind 'tap-fd' is what OpenTap makes: attach takes veth, tap and existing")
        return await self._attach(caller, network, wanted)

    async def open_tap(self, caller: Caller, network: str, spec: Options) -> Attached:
        """Make a tap and hand out its queues; the kernel removes it, and the port goes, when the last fd closes."""
        return await self._attach(caller, network, _spec({**spec, "kind": str(PortKind.TAP_FD)}))

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
        record = port.record.model_copy(update={"filter": filter or None, "parameters": values})
        fragment = self._fragment(record)
        async with port.target.lock:
            await self._loop.rules.put({port.target.key: fragment})
            port.target.refilter(fragment)
            port.record = record
            self._note_use(record)
            await self._save(record)
        log.info("filter of port %s set to %s by uid %d", port.name, filter or "none", caller.uid)
        self._notices.tell(Changed("port", port.view()))

    async def detach_all(self, network: NetworkObject) -> None:
        """Take every port of a network out (it stops); called with the network's lock held."""
        ports = [port for port in self.objects if port.network is network]
        results = await asyncio.gather(*(self._detach(port) for port in ports), return_exceptions=True)
        for port, result in zip(ports, results, strict=True):
            if isinstance(result, BaseException):
                log.error("port %s could not be taken out cleanly: %s", port.name, result)

    def restore(self, record: PortRecord, network: NetworkObject) -> tuple[PortObject, Fragment]:
        """Take over a port of an earlier run; returns it with its rules."""
        fragment = self._fragment(record)
        port = self._object(record, network, fragment)
        self._note_use(record)
        self._keep(port)
        return port, fragment

    def touch(self, network: NetworkObject) -> None:
        """Look at all ports of a network: its bridge was made anew."""
        for port in self.objects:
            if port.network is network:
                self._loop.healer.touch(port.target.key)

    def refiltered(self) -> None:
        """Filters were redefined: targets take over what the ruleset now holds for them."""
        for port in self.objects:
            port.target.refilter(self._loop.rules.fragment(port.target.key) or EMPTY)

    async def close(self) -> None:
        """Wait for ports that are being forgotten."""
        await asyncio.gather(*self._endings, return_exceptions=True)

    async def _attach(self, caller: Caller, network_ref: str, spec: PortSpec) -> Attached:
        network = self._networks.get(network_ref)
        async with network.lock:
            if not network.active or network.state != "active":
                raise Busy(f"network {network.name} is not active: start it first")
            record = await self._record(caller, network, spec)
            port = self._object(record, network, self._fragment(record))
            fds: tuple[int, ...] = ()
            try:
                await self._save(record)
                self._note_use(record)
                async with port.target.lock:
                    fds = await self._devices.make(record, spec, port.target.desired)
                    await port.target.converge()
                    await self._devices.finish(spec, record)
            except BaseException as failure:
                await self._undo(port, fds, failure)
                raise
            self._keep(port)
        log.info(
            "port %s (%s) attached to %s by uid %d (pid %d)",
            record.device, record.kind, network.name, caller.uid, caller.pid,
        )  # fmt: skip
        self._notices.tell(Added("port", port.view()))
        self._announce(network)
        result = {"device": record.device, "mac": record.mac, "network": network.name}
        return Attached(port.view(), result, fds)

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
            return _validated(PortRecord, fields)

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
        self._loop.healer.add(port.target)

    async def _detach(self, port: PortObject) -> None:
        self._loop.healer.discard(port.target.key)
        async with port.target.lock:
            await port.target.take_down()
        await self._forget(port)

    async def _forget(self, port: PortObject) -> None:
        if self.objects.by_uuid(port.uuid) is not port:
            return
        last = port.view()
        self._drop(port)
        await self._loop.host.store.delete(PORTS, str(port.uuid))
        self._notices.tell(Removed("port", last))
        self._notices.tell(LifecycleEvent("detached", "port", port.uuid, port.name))
        self._announce(port.network)

    def _drop(self, port: PortObject) -> None:
        self.objects.remove(port)
        self._loop.devices.release(port.target.key)
        self._filters.users.pop(port.target.key, None)
        port.network.ports = tuple(uuid for uuid in port.network.ports if uuid != port.uuid)

    async def _undo(self, port: PortObject, fds: Sequence[int], failure: BaseException) -> None:
        try:
            await self._loop.host.taps.close(fds)
            await port.target.take_down()
            await self._loop.host.store.delete(PORTS, str(port.uuid))
        except VnetError as error:
            failure.add_note(f"and undoing it failed: {error}")
        self._drop(port)

    def _ended(self, uuid: str) -> None:
        """The port's device is gone, with the guest that held it."""
        port = self.objects.by_uuid(UUID(uuid))
        if port is None:
            return
        self._loop.healer.discard(port.target.key)
        task = asyncio.get_running_loop().create_task(self._bury(port), name=f"forget port {port.name}")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _bury(self, port: PortObject) -> None:
        async with port.target.lock:
            await self._loop.rules.put({port.target.key: None})
        await self._forget(port)
        log.info("port %s of network %s ended: its device is gone", port.name, port.network.name)

    def _announce(self, network: NetworkObject) -> None:
        self._notices.tell(Changed("network", network.view()))

    async def _save(self, record: PortRecord) -> None:
        await self._loop.host.store.save(PORTS, str(record.uuid), record.model_dump(mode="json"))

    def _find(self, uuid: UUID) -> PortObject:
        if port := self.objects.by_uuid(uuid):
            return port
        raise NotFound(f"there is no port {uuid}")


def _spec(options: Options) -> PortSpec:
    """The spec of flat options; ``parameter.NAME`` are parameters of the filter, one text or several."""
    fields: dict[str, object] = {}
    parameters: dict[str, tuple[str, ...]] = {}
    for key, value in options.items():
        if key.startswith("parameter."):
            texts = [value] if isinstance(value, str) else value
            if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
                raise Invalid(f"{key} is {value!r}: a text or a list of texts is needed")
            parameters[key.removeprefix("parameter.")] = tuple(texts)
        else:
            fields[key] = value
    return _validated(PortSpec, {**fields, "parameters": parameters})


V = TypeVar("V", PortSpec, PortRecord)


def _validated(model: type[V], fields: Mapping[str, object]) -> V:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"port {where}: {first['msg']}") from None
