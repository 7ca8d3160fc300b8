"""The switch model: a bridge of its own right, with uplinks. Native JSON is this model itself."""

import json
from typing import Annotated

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapSerializer,
    WrapValidator,
    field_validator,
    model_validator,
)

from vnetd.model.base import IfName, Lines, Mtu, ObjectName, Text, UnicastMac, Uuid, Value
from vnetd.model.breach import breach
from vnetd.model.network_ports import Vlan

MAX_DEVICE_NAME = 15
VlanId = Annotated[int, Field(ge=1, le=4094)]
"""IEEE 802.1Q: 0 and 4095 are reserved."""


class Uplink(Value):
    """A network device of the host plugged into the switch, or with ``vlan`` the part of it with this tag.

    That part is made by vnetd, as ``name`` (without: ``DEVICE.VLAN``). ``migrate``: the addresses and routes of the
    device, which must not be lost, move to the bridge and back. ``vlans`` are those the uplink carries on a switch
    that filters; without, the switch's default one and, tagged, every one its ports take part in.
    """

    device: IfName
    vlan: VlanId | None = None
    name: IfName | None = None
    migrate: bool = False
    vlans: Vlan | None = None

    @model_validator(mode="after")
    def _name_is_of_a_part(self) -> "Uplink":
        if self.name and not self.vlan:
            raise breach("only the part of a device that vlan names is made by vnetd and can be given a name", "name")
        if len(self.port.encode()) > MAX_DEVICE_NAME:
            raise breach(f"{self.port!r} is too long for a device: give the VLAN's part a shorter name", "name")
        return self

    @property
    def port(self) -> str:
        """The device that is plugged into the bridge."""
        return self.device if self.vlan is None else self.name or f"{self.device}.{self.vlan}"


def _by_name(value: object, whole: ValidatorFunctionWrapHandler) -> object:
    """A device's mere name stands for an uplink of which nothing else is said."""
    if isinstance(value, str):
        return Uplink.model_validate({"device": value})
    # As JSON once more, for what a validator has had in its hands counts as Python's, whose tuples are no lists.
    return Uplink.model_validate_json(json.dumps(value), strict=True) if isinstance(value, dict) else whole(value)


def _name_if_enough(uplink: Uplink, whole: SerializerFunctionWrapHandler) -> object:
    return uplink.device if uplink == Uplink(device=uplink.device) else whole(uplink)


NamedUplink = Annotated[
    Uplink, WrapValidator(_by_name, json_schema_input_type=IfName | Uplink), WrapSerializer(_name_if_enough)
]


class Switch(Value):
    """One switch, whole. Times in seconds; what is not said is as the kernel makes bridges, with STP off.

    ``forward_delay`` counts with STP only, for without it a port forwards at once. ``default_pvid`` is the VLAN of
    frames without a tag, 0 for none. ``host_access`` are the VLANs the host itself takes part in through the bridge
    device; without, the default one.
    """

    name: ObjectName
    uuid: Uuid | None = None
    title: Text | None = None
    description: Lines | None = None
    bridge: IfName | None = None
    mac: UnicastMac | None = None
    mtu: Mtu | None = None
    stp: bool = False
    priority: Annotated[int, Field(ge=0, le=65535)] = 32768
    forward_delay: Annotated[int, Field(ge=2, le=30)] = 15
    hello_time: Annotated[int, Field(ge=1, le=10)] = 2
    max_age: Annotated[int, Field(ge=6, le=40)] = 20
    ageing_time: Annotated[int, Field(ge=0, le=1_000_000)] = 300
    vlan_filtering: bool = False
    default_pvid: Annotated[int, Field(ge=0, le=4094)] | None = None
    multicast_snooping: bool = True
    uplinks: tuple[NamedUplink, ...] = ()
    host_access: Vlan | None = None

    @field_validator("title", "description")
    @classmethod
    def _empty_is_absent(cls, text: str | None) -> str | None:
        return text or None

    @model_validator(mode="after")
    def _consistent(self) -> "Switch":
        seen: set[str] = set()
        for index, uplink in enumerate(self.uplinks):
            if uplink.port in seen or uplink.port == self.bridge:
                raise breach(f"{uplink.port} can be plugged in only once", "uplinks", index)
            seen.add(uplink.port)
        if sum(uplink.migrate for uplink in self.uplinks) > 1:
            raise breach("addresses can move to the bridge from one uplink only", "uplinks")
        if not self.vlan_filtering:
            self._refuse_vlans()
        return self

    def _refuse_vlans(self) -> None:
        for name in ("default_pvid", "host_access"):
            if getattr(self, name) is not None:
                raise breach("this counts only on a switch that filters: set vlan_filtering", name)
        for index, uplink in enumerate(self.uplinks):
            if uplink.vlans:
                raise breach("this counts only on a switch that filters: set vlan_filtering", "uplinks", index, "vlans")

    @property
    def migrating(self) -> Uplink | None:
        """The uplink whose addresses move to the bridge."""
        return next((uplink for uplink in self.uplinks if uplink.migrate), None)
