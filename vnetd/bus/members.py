"""The interfaces of networks, switches, filters, ports and bindings."""

from vnetd.bus.calls import DONE, Call, Handlers, Reply
from vnetd.bus.objects import address_row, lease_row
from vnetd.bus.values import BOOLEAN, CONFIRM, INTEGER, NONE, decode_options, decode_parameters, decode_spec
from vnetd.service.api import Filters, Networks, Ports, Switches

UPDATE = {"live": BOOLEAN, "config": BOOLEAN, "parent_index": INTEGER}
DESCRIBE = {"inactive": BOOLEAN}


class NetworkMembers:
    """``org.vnetd1.Network``."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def handlers(self) -> Handlers:
        """Every method of the contract."""
        return {
            "Start": self.start,
            "Stop": self.stop,
            "Undefine": self.undefine,
            "Update": self.update,
            "Describe": self.describe,
            "GetLeases": self.get_leases,
            "SetLeases": self.set_leases,
        }

    async def start(self, call: Call) -> Reply:
        await self._networks.start(call.caller, call.uuid)
        return DONE

    async def stop(self, call: Call) -> Reply:
        await self._networks.stop(call.caller, call.uuid)
        return DONE

    async def undefine(self, call: Call) -> Reply:
        await self._networks.undefine(call.caller, call.uuid)
        return DONE

    async def update(self, call: Call) -> Reply:
        command, section, document, options = call.values
        decoded = decode_options(options, UPDATE)
        await self._networks.update(call.caller, call.uuid, command, section, document, decoded)
        return DONE

    def describe(self, call: Call) -> Reply:
        format, options = call.values
        return Reply([self._networks.describe(call.uuid, format, decode_options(options, DESCRIBE))])

    async def get_leases(self, call: Call) -> Reply:
        decode_options(call.values[0], NONE)
        return Reply([[lease_row(lease) for lease in await self._networks.leases(call.uuid)]])

    async def set_leases(self, call: Call) -> Reply:
        rows, options = call.values
        decode_options(options, NONE)
        await self._networks.set_leases(call.caller, call.uuid, [decode_spec(row) for row in rows])
        return DONE


class SwitchMembers:
    """``org.vnetd1.Switch``."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches

    def handlers(self) -> Handlers:
        """Every method of the contract."""
        return {
            "Start": self.start,
            "Stop": self.stop,
            "Undefine": self.undefine,
            "Confirm": self.confirm,
            "Describe": self.describe,
        }

    async def start(self, call: Call) -> Reply:
        await self._switches.start(call.caller, call.uuid, decode_options(call.values[0], CONFIRM))
        return DONE

    async def stop(self, call: Call) -> Reply:
        await self._switches.stop(call.caller, call.uuid)
        return DONE

    async def undefine(self, call: Call) -> Reply:
        await self._switches.undefine(call.caller, call.uuid)
        return DONE

    async def confirm(self, call: Call) -> Reply:
        await self._switches.confirm(call.caller, call.uuid)
        return DONE

    def describe(self, call: Call) -> Reply:
        format, options = call.values
        return Reply([self._switches.describe(call.uuid, format, decode_options(options, DESCRIBE))])


class FilterMembers:
    """``org.vnetd1.Filter``."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters

    def handlers(self) -> Handlers:
        """Every method of the contract."""
        return {"Undefine": self.undefine, "Describe": self.describe}

    async def undefine(self, call: Call) -> Reply:
        await self._filters.undefine(call.caller, call.uuid)
        return DONE

    def describe(self, call: Call) -> Reply:
        format, options = call.values
        return Reply([self._filters.describe(call.uuid, format, decode_options(options, NONE))])


class PortMembers:
    """``org.vnetd1.Port``."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def handlers(self) -> Handlers:
        """Every method of the contract."""
        return {
            "Detach": self.detach,
            "Describe": self.describe,
            "Move": self.move,
            "SetFilter": self.set_filter,
            "SetLink": self.set_link,
            "SetBandwidth": self.set_bandwidth,
            "SetIsolated": self.set_isolated,
            "SetPortgroup": self.set_port_group,
            "GetAddresses": self.get_addresses,
        }

    async def detach(self, call: Call) -> Reply:
        await self._ports.detach(call.caller, call.uuid)
        return DONE

    def describe(self, call: Call) -> Reply:
        format, options = call.values
        decode_options(options, NONE)
        return Reply([self._ports.describe(call.uuid, format)])

    async def set_filter(self, call: Call) -> Reply:
        name, parameters = call.values
        await self._ports.set_filter(call.caller, call.uuid, name, decode_parameters(parameters))
        return DONE

    async def set_link(self, call: Call) -> Reply:
        await self._ports.set_link(call.caller, call.uuid, call.values[0])
        return DONE

    async def move(self, call: Call) -> Reply:
        await self._ports.move(call.caller, call.uuid, call.values[0])
        return DONE

    async def set_port_group(self, call: Call) -> Reply:
        await self._ports.set_port_group(call.caller, call.uuid, call.values[0])
        return DONE

    async def set_bandwidth(self, call: Call) -> Reply:
        await self._ports.set_bandwidth(call.caller, call.uuid, decode_spec(call.values[0]))
        return DONE

    async def set_isolated(self, call: Call) -> Reply:
        await self._ports.set_isolated(call.caller, call.uuid, call.values[0])
        return DONE

    async def get_addresses(self, call: Call) -> Reply:
        decode_options(call.values[0], NONE)
        return Reply([[address_row(address) for address in await self._ports.addresses(call.uuid)]])


class BindingMembers:
    """``org.vnetd1.Binding``."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters

    def handlers(self) -> Handlers:
        """Every method of the contract."""
        return {"Delete": self.delete}

    async def delete(self, call: Call) -> Reply:
        await self._filters.unbind(call.caller, call.uuid)
        return DONE
