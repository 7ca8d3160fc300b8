"""Services in memory for tests of the front end: they keep objects, record who asked for what, and touch no host."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from vnetd.bus.objects import object_path
from vnetd.model.capability import Capability
from vnetd.model.errors import Busy, Exists, Invalid, NotFound
from vnetd.service.api import Option, Options
from vnetd.service.views import (
    Added,
    AddressView,
    Attached,
    BindingView,
    Caller,
    Changed,
    FilterView,
    Finding,
    LeaseView,
    NetworkView,
    Notice,
    ObjectKind,
    PortView,
    Removed,
    RuleView,
    SwitchView,
    View,
)

SPACE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def network_view(name: str, **differences: Any) -> NetworkView:
    """An inactive NAT network whose UUID follows from its name."""
    view = NetworkView(
        uuid=uuid5(SPACE, f"network {name}"),
        name=name,
        mode="nat",
        state="inactive",
        active=False,
        persistent=True,
        autostart=False,
        bridge="virbr0",
        addresses=("192.168.122.1/24",),
        ports=(),
        problems=(),
        healed_count=0,
    )
    return replace(view, **differences)


def switch_view(name: str, **differences: Any) -> SwitchView:
    """An inactive switch whose UUID follows from its name."""
    view = SwitchView(
        uuid=uuid5(SPACE, f"switch {name}"),
        name=name,
        state="inactive",
        active=False,
        persistent=True,
        autostart=False,
        unconfirmed=False,
        bridge=name,
        uplinks=("eth0",),
        ports=(),
        problems=(),
        healed_count=0,
    )
    return replace(view, **differences)


class World:
    """What all fake services share: objects, the record of calls, and a gate to hold slow calls at."""

    def __init__(self) -> None:
        self.views: dict[ObjectKind, dict[UUID, Any]] = {
            "network": {},
            "switch": {},
            "filter": {},
            "port": {},
            "binding": {},
        }
        self.calls: list[tuple[Any, ...]] = []
        self.finished: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.listeners: list[Callable[[Notice], None]] = []
        self.failure: Exception | None = None
        self.read_ends: list[int] = []

    def tell(self, notice: Notice) -> None:
        for listener in self.listeners:
            listener(notice)

    def record(self, what: str, *details: Any) -> None:
        self.calls.append((what, *details))
        if self.failure is not None:
            raise self.failure

    def find(self, kind: ObjectKind, ref: str) -> Any:
        for uuid, view in self.views[kind].items():
            if ref in (str(uuid), getattr(view, "name", None), getattr(view, "device", None)):
                return view
        raise NotFound(f"there is no {kind} '{ref}'; see what there is with List{kind.title()}s")

    def add(self, kind: ObjectKind, view: View) -> Any:
        self.views[kind][view.uuid] = view
        self.tell(Added(kind, view))
        return view

    def change(self, kind: ObjectKind, uuid: UUID, **differences: Any) -> Any:
        view = self.views[kind][uuid] = replace(self.views[kind][uuid], **differences)
        self.tell(Changed(kind, view))
        return view

    def remove(self, kind: ObjectKind, uuid: UUID) -> None:
        view = self.views[kind].pop(uuid, None)
        if view is None:
            raise NotFound(f"there is no {kind} {uuid}")
        self.tell(Removed(kind, view))


def _name(document: str) -> str:
    try:
        return str(json.loads(document)["name"])
    except (ValueError, TypeError, KeyError) as error:
        raise Invalid(f"document {document!r} has no name") from error


class FakeNetworks:
    """Networks; a document is JSON with a name."""

    def __init__(self, world: World) -> None:
        self.world = world

    def list(self) -> tuple[NetworkView, ...]:
        return tuple(self.world.views["network"].values())

    def get(self, ref: str) -> NetworkView:
        view: NetworkView = self.world.find("network", ref)
        return view

    async def define(self, caller: Caller, document: str, options: Options) -> NetworkView:
        self.world.record("define", caller, document, dict(options))
        if any(view.name == _name(document) for view in self.list()):
            raise Exists(f"network '{_name(document)}' exists")
        view: NetworkView = self.world.add("network", network_view(_name(document)))
        return view

    async def create(self, caller: Caller, document: str, options: Options) -> NetworkView:
        self.world.record("create", caller, document, dict(options))
        view = network_view(_name(document), persistent=False, active=True, state="active")
        self.world.add("network", view)
        return view

    async def start(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("start", caller, uuid)
        await self.world.gate.wait()
        if self.world.views["network"][uuid].active:
            raise Busy("the network is active already")
        self.world.change("network", uuid, state="active", active=True)
        self.world.finished.append("start")

    async def stop(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("stop", caller, uuid)
        self.world.change("network", uuid, state="inactive", active=False)

    async def undefine(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("undefine", caller, uuid)
        self.world.remove("network", uuid)

    async def set_autostart(self, caller: Caller, uuid: UUID, enabled: bool) -> None:
        self.world.record("set_autostart", caller, uuid, enabled)
        self.world.change("network", uuid, autostart=enabled)

    async def update(
        self, caller: Caller, uuid: UUID, command: str, section: str, document: str, options: Options
    ) -> None:
        self.world.record("update", caller, uuid, command, section, document, dict(options))

    async def plan(self, caller: Caller, document: str, options: Options) -> str:
        self.world.record("plan", caller, document, dict(options))
        return '{"steps": []}'

    def describe(self, uuid: UUID, format: str, options: Options) -> str:
        self.world.record("describe", uuid, format, dict(options))
        return f"{format} of {self.get(str(uuid)).name}"

    async def set_leases(self, caller: Caller, uuid: UUID, rows: Sequence[Options]) -> None:
        self.world.record("set_leases", caller, uuid, rows)

    async def leases(self, uuid: UUID) -> tuple[LeaseView, ...]:
        self.world.record("leases", uuid)
        return (LeaseView("192.168.122.7", 24, "ipv4", "52:54:00:00:00:07", "web", "01:52", 1_700_000_000),)


class FakeSwitches:
    """Switches; a document is JSON with a name."""

    def __init__(self, world: World) -> None:
        self.world = world

    def list(self) -> tuple[SwitchView, ...]:
        return tuple(self.world.views["switch"].values())

    def get(self, ref: str) -> SwitchView:
        view: SwitchView = self.world.find("switch", ref)
        return view

    async def define(self, caller: Caller, document: str, options: Options) -> SwitchView:
        self.world.record("define_switch", caller, document, dict(options))
        view: SwitchView = self.world.add("switch", switch_view(_name(document)))
        return view

    async def create(self, caller: Caller, document: str, options: Options) -> SwitchView:
        self.world.record("create_switch", caller, document, dict(options))
        view = switch_view(_name(document), persistent=False, active=True, state="active")
        self.world.add("switch", view)
        return view

    async def start(self, caller: Caller, uuid: UUID, options: Options) -> None:
        self.world.record("start_switch", caller, uuid, dict(options))
        self.world.change("switch", uuid, state="active", active=True, unconfirmed="confirm" in options)

    async def stop(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("stop_switch", caller, uuid)
        self.world.change("switch", uuid, state="inactive", active=False)

    async def undefine(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("undefine_switch", caller, uuid)
        self.world.remove("switch", uuid)

    async def confirm(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("confirm_switch", caller, uuid)
        self.world.change("switch", uuid, unconfirmed=False)

    async def set_autostart(self, caller: Caller, uuid: UUID, enabled: bool) -> None:
        self.world.record("set_autostart_of_switch", caller, uuid, enabled)
        self.world.change("switch", uuid, autostart=enabled)

    def describe(self, uuid: UUID, format: str, options: Options) -> str:
        self.world.record("describe_switch", uuid, format, dict(options))
        return f"{format} of {self.get(str(uuid)).name}"


class FakeFilters:
    """Filters and bindings."""

    def __init__(self, world: World) -> None:
        self.world = world

    def list(self) -> tuple[FilterView, ...]:
        return tuple(self.world.views["filter"].values())

    def get(self, ref: str) -> FilterView:
        view: FilterView = self.world.find("filter", ref)
        return view

    async def define(self, caller: Caller, document: str, options: Options) -> FilterView:
        self.world.record("define_filter", caller, document, dict(options))
        name = _name(document)
        view: FilterView = self.world.add("filter", FilterView(uuid5(SPACE, f"filter {name}"), name, ()))
        return view

    async def undefine(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("undefine_filter", caller, uuid)
        self.world.remove("filter", uuid)

    def describe(self, uuid: UUID, format: str, options: Options) -> str:
        self.world.record("describe_filter", uuid, format, dict(options))
        return f"{format} of {self.get(str(uuid)).name}"

    def bindings(self) -> tuple[BindingView, ...]:
        return tuple(self.world.views["binding"].values())

    def binding(self, ref: str) -> BindingView:
        view: BindingView = self.world.find("binding", ref)
        return view

    async def bind(
        self, caller: Caller, device: str, filter: str, parameters: Mapping[str, Sequence[str]]
    ) -> BindingView:
        self.world.record("bind", caller, device, filter, dict(parameters))
        values = {name: tuple(value) for name, value in parameters.items()}
        view = BindingView(uuid5(SPACE, f"binding {device}"), device, filter, values, "52:54:00:00:00:02")
        self.world.add("binding", view)
        return view

    async def unbind(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("unbind", caller, uuid)
        self.world.remove("binding", uuid)


class FakePorts:
    """Ports; a tap is the write end of a pipe, whose read end tells when the last copy is closed."""

    def __init__(self, world: World) -> None:
        self.world = world

    def list(self) -> tuple[PortView, ...]:
        return tuple(self.world.views["port"].values())

    def get(self, ref: str) -> PortView:
        view: PortView = self.world.find("port", ref)
        return view

    def describe(self, uuid: UUID, format: str) -> str:
        self.world.record("describe_port", uuid, format)
        return f"{format} of {self.get(str(uuid)).device}"

    async def attach(self, caller: Caller, network: str, spec: Options) -> Attached:
        self.world.record("attach", caller, network, dict(spec))
        port = self._add(caller, network, "veth", spec)
        return Attached(port, {"device": port.device, "mtu": 1500, "isolated": False})

    async def open_tap(self, caller: Caller, network: str, spec: Options) -> Attached:
        self.world.record("open_tap", caller, network, dict(spec))
        await self.world.gate.wait()
        port = self._add(caller, network, "tap-fd", spec)
        queues = spec.get("queues", 1)
        assert isinstance(queues, int)
        fds = []
        for _ in range(queues):
            read, write = os.pipe()
            self.world.read_ends.append(read)
            fds.append(write)
        return Attached(port, {"device": port.device}, tuple(fds))

    async def detach(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("detach", caller, uuid)
        self.world.remove("port", uuid)

    async def set_link(self, caller: Caller, uuid: UUID, up: bool) -> None:
        self.world.record("set_link", caller, uuid, up)

    async def set_filter(
        self, caller: Caller, uuid: UUID, filter: str, parameters: Mapping[str, Sequence[str]]
    ) -> None:
        self.world.record("set_filter", caller, uuid, filter, dict(parameters))
        self.world.change("port", uuid, filter=filter)

    async def set_bandwidth(self, caller: Caller, uuid: UUID, limits: Options) -> None:
        self.world.record("set_bandwidth", caller, uuid, dict(limits))
        self.world.change("port", uuid, bandwidth=dict(limits))

    async def addresses(self, uuid: UUID) -> tuple[AddressView, ...]:
        self.world.record("addresses", uuid)
        return (AddressView("192.168.122.7", "ipv4", "lease", 7),)

    async def move(self, caller: Caller, uuid: UUID, network: str) -> None:
        self.world.record("move", caller, uuid, network)
        self.world.change("port", uuid, network_name=network)

    async def set_port_group(self, caller: Caller, uuid: UUID, group: str) -> None:
        self.world.record("set_port_group", caller, uuid, group)
        self.world.change("port", uuid, portgroup=group)

    async def set_isolated(self, caller: Caller, uuid: UUID, isolated: bool) -> None:
        self.world.record("set_isolated", caller, uuid, isolated)
        self.world.change("port", uuid, isolated=isolated)

    def _add(self, caller: Caller, network: str, kind: str, spec: Mapping[str, Option]) -> PortView:
        owner: NetworkView = self.world.find("network", network)
        device = str(spec.get("device", f"vnet{len(self.list())}"))
        uuid = uuid5(SPACE, f"port {device}")
        view: PortView = self.world.add(
            "port",
            PortView(uuid, owner.uuid, owner.name, device, kind, "active", "52:54:00:00:00:01", "", caller.uid),
        )
        return view


class FakeDiagnosis:
    """Implements ``service.api.Diagnosis`` for a device ``tap0`` with one rule."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def explain(self, device: str) -> tuple[RuleView, ...]:
        if device != "tap0":
            raise NotFound(f"no filter is in force on {device!r}")
        return (RuleView("network", "block", "root", "out drop 500: icmp", 3, 252, 2),)

    async def examine(self, target: str, probe: Options) -> tuple[Finding, ...]:
        self.world.record("examine", target, dict(probe))
        state = "problem" if "to" in probe else "ok"
        return (Finding("filter", state, f"looked at {target}"),)


class FakeServices:
    """Implements ``service.api.Services``."""

    def __init__(self) -> None:
        self.world = World()
        self.networks = FakeNetworks(self.world)
        self.switches = FakeSwitches(self.world)
        self.filters = FakeFilters(self.world)
        self.ports = FakePorts(self.world)
        self.diagnosis = FakeDiagnosis(self.world)
        self.tied: set[str] = set()
        """Connections that something ends with."""
        self.gone: list[str] = []
        """Connections that left, in order."""
        self.can = {"nat": "", "dnsmasq": "2.90"}
        self.cannot = {"sr-iov": "no device of this host has virtual functions"}

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        self.world.listeners.append(listener)

    def connections(self) -> frozenset[str]:
        return frozenset(self.tied)

    def left(self, connection: str) -> None:
        self.gone.append(connection)

    async def reconcile(self, caller: Caller) -> None:
        self.world.record("reconcile", caller)

    async def capabilities(self) -> tuple[Capability, ...]:
        able = [Capability(name, True, version) for name, version in self.can.items()]
        return (*able, *(Capability(name, False, reason) for name, reason in self.cannot.items()))


async def one_of_each(services: FakeServices) -> dict[str, str]:
    """An object of each kind; the path of the root and of each by interface."""
    network = services.world.add("network", network_view("lab"))
    switch = services.world.add("switch", switch_view("office"))
    port = (await services.ports.attach(Caller(0), "lab", {})).port
    filter = await services.filters.define(Caller(0), '{"name": "block"}', {})
    binding = await services.filters.bind(Caller(0), "tap0", "block", {"IP": ("192.0.2.1",)})
    services.world.calls.clear()
    return {
        "org.vnetd1.Manager": "/org/vnetd1",
        "org.vnetd1.Network": object_path("network", network.uuid),
        "org.vnetd1.Switch": object_path("switch", switch.uuid),
        "org.vnetd1.Port": object_path("port", port.uuid),
        "org.vnetd1.Filter": object_path("filter", filter.uuid),
        "org.vnetd1.Binding": object_path("binding", binding.uuid),
    }
