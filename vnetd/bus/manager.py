"""``org.vnetd1.Manager``: define, look up, list, attach."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from vnetd.bus.calls import DONE, Call, Handlers, Reply
from vnetd.bus.errors import ProtocolError
from vnetd.bus.listing import Listing
from vnetd.bus.objects import object_path
from vnetd.bus.values import (
    CONFIRM,
    LENIENT,
    NONE,
    STRING,
    decode_options,
    decode_parameters,
    decode_spec,
    encode_plain,
)
from vnetd.model.errors import Invalid
from vnetd.service.api import Networks, Services, Switches
from vnetd.service.views import Attached, ObjectKind

PLAN = {**LENIENT, "kind": STRING}
SWITCH_OPTIONS = {**LENIENT, **CONFIRM}
MOST_FDS = 16  # in one message; a bus with default limits disconnects a service that sends more


class Manager:
    """Handlers by member name. ``discard`` closes descriptors that cannot be sent."""

    def __init__(
        self,
        services: Services,
        listing: Listing,
        discard: Callable[[tuple[int, ...]], None],
        announce_capabilities: Callable[[], Awaitable[None]],
    ) -> None:
        self._services = services
        self._listing = listing
        self._discard = discard
        self._announce_capabilities = announce_capabilities

    def handlers(self) -> Handlers:
        """Every method of the contract."""
        return {
            "DefineNetwork": self.define_network,
            "CreateNetwork": self.create_network,
            "DefineSwitch": self.define_switch,
            "CreateSwitch": self.create_switch,
            "DefineFilter": self.define_filter,
            "GetNetwork": self.get_network,
            "GetSwitch": self.get_switch,
            "GetFilter": self.get_filter,
            "GetPort": self.get_port,
            "ListNetworks": self.list_networks,
            "ListSwitches": self.list_switches,
            "ListFilters": self.list_filters,
            "ListPorts": self.list_ports,
            "ListBindings": self.list_bindings,
            "Attach": self.attach,
            "OpenTap": self.open_tap,
            "BindFilter": self.bind_filter,
            "Plan": self.plan,
            "ExplainFilter": self.explain_filter,
            "Examine": self.examine,
            "Reconcile": self.reconcile,
        }

    async def define_network(self, call: Call) -> Reply:
        document, options = call.values
        view = await self._services.networks.define(call.caller, document, decode_options(options, LENIENT))
        return Reply([object_path("network", view.uuid)])

    async def create_network(self, call: Call) -> Reply:
        document, options = call.values
        view = await self._services.networks.create(call.caller, document, decode_options(options, LENIENT))
        return Reply([object_path("network", view.uuid)])

    async def define_switch(self, call: Call) -> Reply:
        document, options = call.values
        view = await self._services.switches.define(call.caller, document, decode_options(options, SWITCH_OPTIONS))
        return Reply([object_path("switch", view.uuid)])

    async def create_switch(self, call: Call) -> Reply:
        document, options = call.values
        view = await self._services.switches.create(call.caller, document, decode_options(options, SWITCH_OPTIONS))
        return Reply([object_path("switch", view.uuid)])

    async def define_filter(self, call: Call) -> Reply:
        document, options = call.values
        view = await self._services.filters.define(call.caller, document, decode_options(options, LENIENT))
        return Reply([object_path("filter", view.uuid)])

    def get_network(self, call: Call) -> Reply:
        return Reply([object_path("network", self._services.networks.get(call.values[0]).uuid)])

    def get_switch(self, call: Call) -> Reply:
        return Reply([object_path("switch", self._services.switches.get(call.values[0]).uuid)])

    def get_filter(self, call: Call) -> Reply:
        return Reply([object_path("filter", self._services.filters.get(call.values[0]).uuid)])

    def get_port(self, call: Call) -> Reply:
        return Reply([object_path("port", self._services.ports.get(call.values[0]).uuid)])

    async def list_networks(self, call: Call) -> Reply:
        return await self._list("network", call)

    async def list_switches(self, call: Call) -> Reply:
        return await self._list("switch", call)

    async def list_filters(self, call: Call) -> Reply:
        return await self._list("filter", call)

    async def list_ports(self, call: Call) -> Reply:
        return await self._list("port", call)

    async def list_bindings(self, call: Call) -> Reply:
        return await self._list("binding", call)

    async def _list(self, kind: ObjectKind, call: Call) -> Reply:
        decode_options(call.values[0], NONE)
        return Reply(encoded=await self._listing.rows(kind))

    async def attach(self, call: Call) -> Reply:
        network, spec = call.values
        attached = await self._services.ports.attach(call.caller, network, decode_spec(spec))
        self._discard(attached.fds)  # none are expected, and none may be left open
        return Reply(_described(attached))

    async def open_tap(self, call: Call) -> Reply:
        network, spec = call.values
        attached = await self._services.ports.open_tap(call.caller, network, decode_spec(spec))
        if len(attached.fds) > MOST_FDS:
            self._discard(attached.fds)  # and with them goes the tap
            raise ProtocolError("LimitsExceeded", f"a tap can be handed over with at most {MOST_FDS} queues")
        port, result = _described(attached)
        return Reply([port, list(range(len(attached.fds))), result], fds=attached.fds)

    async def bind_filter(self, call: Call) -> Reply:
        device, name, parameters = call.values
        view = await self._services.filters.bind(call.caller, device, name, decode_parameters(parameters))
        return Reply([object_path("binding", view.uuid)])

    async def plan(self, call: Call) -> Reply:
        document, options = call.values
        given = decode_options(options, PLAN)
        kind = given.pop("kind", "network")
        if kind not in {"network", "switch"}:
            raise Invalid(f"option 'kind' is {kind!r}: the plan of a network or of a switch can be asked for")
        planner: Networks | Switches = self._services.switches if kind == "switch" else self._services.networks
        return Reply([await planner.plan(call.caller, document, given)])

    async def explain_filter(self, call: Call) -> Reply:
        rules = await self._services.diagnosis.explain(call.values[0])
        return Reply([[encode_plain(asdict(one)) for one in rules]])

    async def examine(self, call: Call) -> Reply:
        target, probe = call.values
        findings = await self._services.diagnosis.examine(target, decode_spec(probe))
        return Reply([[encode_plain(asdict(one)) for one in findings]])

    async def reconcile(self, call: Call) -> Reply:
        await self._services.reconcile(call.caller)
        await self._announce_capabilities()
        return DONE


def _described(attached: Attached) -> list[Any]:
    return [object_path("port", attached.port.uuid), encode_plain(attached.result)]
