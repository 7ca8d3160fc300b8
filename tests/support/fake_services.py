"""Services in memory for tests of the front end: they keep objects, record who asked for what, and touch no host."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

from support.fake_world import SPACE, World, name_of, network_view, switch_view

from vnetd.bus.objects import object_path
from vnetd.model.capability import Capability
from vnetd.model.errors import Busy, Exists, NotFound
from vnetd.service.api import Option, Options
from vnetd.service.views import (
    AddressView,
    Attached,
    BindingView,
    Caller,
    FilterView,
    Finding,
    LeaseView,
    NetworkView,
    Notice,
    ObjectKind,
    PortView,
    RuleView,
    SwitchView,
)

V = TypeVar("V", NetworkView, SwitchView, FilterView, PortView)


class FakeObjects(Generic[V]):
    """What services of all kinds of objects do alike. A call is recorded as ``stop_switch``, networks' as ``stop``."""

    kind: ObjectKind

    def __init__(self, world: World) -> None:
        self.world = world

    def list(self) -> tuple[V, ...]:
        return tuple(self.world.views[self.kind].values())

    def get(self, ref: str) -> V:
        view: V = self.world.find(self.kind, ref)
        return view

    def called(self, verb: str) -> str:
        return verb if self.kind == "network" else f"{verb}_{self.kind}"


class FakeDefinitions(FakeObjects[V]):
    """What services of objects with documents do alike; a document is JSON with a name."""

    async def undefine(self, caller: Caller, uuid: UUID) -> None:
        self.world.record(self.called("undefine"), caller, uuid)
        self.world.remove(self.kind, uuid)

    def describe(self, uuid: UUID, format: str, options: Options) -> str:
        self.world.record(self.called("describe"), uuid, format, dict(options))
        return f"{format} of {self.get(str(uuid)).name}"


class FakeRunning(FakeDefinitions[V]):
    """What services of objects that start and stop do alike."""

    async def stop(self, caller: Caller, uuid: UUID) -> None:
        self.world.record(self.called("stop"), caller, uuid)
        self.world.change(self.kind, uuid, state="inactive", active=False)

    async def set_autostart(self, caller: Caller, uuid: UUID, enabled: bool) -> None:
        self.world.record(self.called("set_autostart"), caller, uuid, enabled)
        self.world.change(self.kind, uuid, autostart=enabled)


class FakeNetworks(FakeRunning[NetworkView]):
    """Networks."""

    kind = "network"

    async def define(self, caller: Caller, document: str, options: Options) -> NetworkView:
        self.world.record("define", caller, document, dict(options))
        if any(view.name == name_of(document) for view in self.list()):
            raise Exists(f"network '{name_of(document)}' exists")
        view: NetworkView = self.world.add("network", network_view(name_of(document)))
        return view

    async def create(self, caller: Caller, document: str, options: Options) -> NetworkView:
        self.world.record("create", caller, document, dict(options))
        view = network_view(name_of(document), persistent=False, active=True, state="active")
        self.world.add("network", view)
        return view

    async def start(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("start", caller, uuid)
        await self.world.gate.wait()
        if self.world.views["network"][uuid].active:
            raise Busy("the network is active already")
        self.world.change("network", uuid, state="active", active=True)
        self.world.finished.append("start")

    async def update(
        self, caller: Caller, uuid: UUID, command: str, section: str, document: str, options: Options
    ) -> None:
        self.world.record("update", caller, uuid, command, section, document, dict(options))

    async def plan(self, caller: Caller, document: str, options: Options) -> str:
        self.world.record("plan", caller, document, dict(options))
        return '{"steps": []}'

    async def set_leases(self, caller: Caller, uuid: UUID, rows: Sequence[Options]) -> None:
        self.world.record("set_leases", caller, uuid, rows)

    async def leases(self, uuid: UUID) -> tuple[LeaseView, ...]:
        self.world.record("leases", uuid)
        return (LeaseView("192.168.122.7", 24, "ipv4", "52:54:00:00:00:07", "web", "01:52", 1_700_000_000),)


class FakeSwitches(FakeRunning[SwitchView]):
    """Switches."""

    kind = "switch"

    async def plan(self, caller: Caller, document: str, options: Options) -> str:
        self.world.record("plan_switch", caller, document, dict(options))
        return '{"steps": [], "disturbs_guests": false, "disturbs_host": true}'

    async def define(self, caller: Caller, document: str, options: Options) -> SwitchView:
        self.world.record(self.called("define"), caller, document, dict(options))
        view: SwitchView = self.world.add("switch", switch_view(name_of(document)))
        return view

    async def create(self, caller: Caller, document: str, options: Options) -> SwitchView:
        self.world.record(self.called("create"), caller, document, dict(options))
        view = switch_view(name_of(document), persistent=False, active=True, state="active")
        self.world.add("switch", view)
        return view

    async def start(self, caller: Caller, uuid: UUID, options: Options) -> None:
        self.world.record(self.called("start"), caller, uuid, dict(options))
        self.world.change("switch", uuid, state="active", active=True, unconfirmed="confirm" in options)

    async def confirm(self, caller: Caller, uuid: UUID) -> None:
        self.world.record("confirm_switch", caller, uuid)
        self.world.change("switch", uuid, unconfirmed=False)


class FakeFilters(FakeDefinitions[FilterView]):
    """Filters and bindings."""

    kind = "filter"

    async def define(self, caller: Caller, document: str, options: Options) -> FilterView:
        self.world.record(self.called("define"), caller, document, dict(options))
        name = name_of(document)
        view: FilterView = self.world.add("filter", FilterView(uuid5(SPACE, f"filter {name}"), name, ()))
        return view

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


class FakePorts(FakeObjects[PortView]):
    """Ports; a tap is the write end of a pipe, whose read end tells when the last copy is closed."""

    kind = "port"

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

    def add_networks(self, *names: str, **differences: Any) -> None:
        """Inactive networks with these names, or as ``differences`` say."""
        for name in names:
            self.world.add("network", network_view(name, **differences))

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
