"""From what a caller wants to the record of a port: its device's name, its MAC, what it gets from its network."""

from collections.abc import Set as AbstractSet
from uuid import uuid4

from vnetd.model.capability import refusal
from vnetd.model.errors import Denied, Exists, InUse, Invalid, NotFound
from vnetd.model.network import Network, PortGroup, Vlan
from vnetd.model.port import Lifetime, PersistentTap, PortKind, PortRecord, PortSpec
from vnetd.reconcile.loop import Loop
from vnetd.service.bandwidth import refuse_beyond
from vnetd.service.naming import free_name, random_mac
from vnetd.service.network_object import NetworkObject
from vnetd.service.port_object import PortTable
from vnetd.service.port_plugs import PortPlugs
from vnetd.service.port_spec import filter_for, validated
from vnetd.service.reservations import class_for
from vnetd.service.views import Caller

TOLD_BY_PACKETS = frozenset({PortKind.TAP, PortKind.TAP_FD, PortKind.EXISTING})
"""Kinds of port whose guest has a MAC address of its own choice."""


class PortRecords:
    """Allocates. What ``make`` returns must be claimed before the caller lets others run."""

    def __init__(self, loop: Loop, ports: PortTable) -> None:
        self._loop = loop
        self._ports = ports
        self._plugs = PortPlugs(loop, ports)

    async def make(self, caller: Caller, network: NetworkObject, spec: PortSpec, template: str) -> PortRecord:
        """The record of a new port; ``template`` names its device if the caller does not.

        Raises ``Exists`` for a taken name or MAC, ``NotFound`` for a port group the network does not have,
        ``Invalid`` for what no port can have, ``Denied`` for no filter and for more than the caller may have.
        """
        group = port_group(network, spec.portgroup)
        self._refuse_to_learn(spec)
        lower = lower_device(network, spec)
        mac = await self._mac(network, spec, lower)
        device = await self._device_name(spec, template)
        if spec.duplicate_mac:
            self._ports.refuse_theft(caller, network, mac)
        elif spec.kind is not PortKind.IPVLAN:
            self._ports.refuse_duplicate(network, mac)
        refuse_unisolated(caller, network, spec.isolated)
        uuid, vlan = uuid4(), _vlan(caller, network, spec, group)
        record = validated(
            PortRecord,
            {
                "uuid": uuid,
                "network": network.uuid,
                "kind": spec.kind,
                "device": device,
                "mac": mac,
                "unseen": spec.learn_mac,
                "mtu": spec.mtu or (None if _keeps_mtu(spec.kind) else network.mtu),
                "filter": filter_for(caller, spec.filter) if spec.kind is not PortKind.PASST else spec.filter,
                "parameters": spec.parameters,
                "isolated": spec.isolated,
                "link": spec.link,
                "guest_device": spec.guest_device,
                "lower": lower,
                "portgroup": group.name if group else None,
                "vlan": spec.vlan,
                "lifetime": spec.lifetime,
                "connection": _connection(caller, spec),
                "bandwidth": spec.bandwidth,
                "group_bandwidth": group.bandwidth if group else None,
                "owner": caller.uid,
                "tap": _tap(caller, spec) if spec.kind is PortKind.TAP else None,
                **await self._plugs.pick(caller, network, spec, uuid, mac, vlan),
            },
        )
        refuse_excess(caller, record)
        return with_class(record, network)

    def _refuse_to_learn(self, spec: PortSpec) -> None:
        if spec.learn_mac and spec.kind not in TOLD_BY_PACKETS:
            raise Invalid(f"port learn_mac: a guest of kind {spec.kind} has the MAC address it is given")
        if spec.learn_mac and spec.mac:
            raise Invalid(f"port learn_mac: its MAC address is given as {spec.mac}, there is nothing to learn")
        if spec.learn_mac and (problem := self._loop.host.packets.problem):
            raise refusal("a port that learns its guest's MAC address", "packet-log", problem, "give it as mac")

    async def _mac(self, network: NetworkObject, spec: PortSpec, lower: str) -> str:
        if spec.kind is not PortKind.IPVLAN:
            return spec.mac or self._free_mac(network)
        if spec.mac:
            raise Invalid("mac cannot be given for kind ipvlan: it has that of the device it lies on")
        link = await self._loop.host.kernel.link(lower)
        if link is None:
            raise NotFound(f"there is no network device {lower!r} to lie on")
        return link.mac

    def _free_mac(self, network: NetworkObject) -> str:
        while self._ports.with_mac(network, mac := random_mac()):
            pass
        return mac

    async def _device_name(self, spec: PortSpec, template: str) -> str:
        kernel = self._loop.host.kernel
        taken = self._loop.devices.names()
        if spec.kind is PortKind.EXISTING:
            return await self._existing(spec.device or "", taken)
        name = spec.device or template
        if name.count("%") > 1:
            raise Invalid(f"device {name!r} holds more than one '%d'")
        if "%d" in name:
            return free_name(name, self._loop.devices.free_names(name), kernel.is_taken)
        if name in taken or kernel.is_taken(name):
            raise Exists(f"a network device {name!r} exists already: choose another name")
        return name

    async def _existing(self, device: str, taken: AbstractSet[str]) -> str:
        if device in taken:
            raise InUse(f"device {device} belongs to vnetd already")
        if await self._loop.host.kernel.link(device) is None:
            raise NotFound(f"there is no network device {device!r}")
        return device


def refuse_unisolated(caller: Caller, network: NetworkObject, isolated: bool | None) -> None:
    """Raise ``Denied`` to who is not root and wants a port that is not isolated where the network's are."""
    if isolated is False and not caller.administrator and network.live and network.live.isolated_ports:
        raise Denied(f"ports of network {network.name} are isolated, and only root may have one that is not")


def refuse_excess(caller: Caller, record: PortRecord) -> None:
    """Raise ``Denied`` to who is not root and wants more than root gave the port, or its port group."""
    most = record.group_bandwidth if record.granted is None else record.granted
    if record.bandwidth is not None and most is not None and not caller.administrator:
        refuse_beyond(most, record.bandwidth, f"port {record.device}")


def refuse_foreign_place(caller: Caller, record: PortRecord, network: NetworkObject) -> None:
    """Raise ``Denied`` to who is not root and would take along what only root may give a port of that network.

    ``record`` is as it would be there. Limits root gave the port were given it where it is.
    """
    if caller.administrator:
        return
    refuse_unisolated(caller, network, record.isolated)
    if record.vlan:
        raise Denied(f"port {record.device} has VLANs root gave it on its network: only root may move it to another")
    if record.granted is not None and record.group_bandwidth is not None:
        refuse_beyond(record.group_bandwidth, record.granted, f"port {record.device}")


def lower_device(network: NetworkObject, spec: PortSpec) -> str:
    """What a macvlan or ipvlan lies on, "" for other kinds. Raises ``Invalid`` if nobody says it."""
    if not spec.kind.inside:
        return ""
    assert network.live is not None
    interfaces = network.live.devices.interfaces
    if not spec.lower and not interfaces:
        raise Invalid(f"lower is missing: network {network.name} forwards to no device a {spec.kind} could lie on")
    return spec.lower or interfaces[0]


def _tap(caller: Caller, spec: PortSpec) -> PersistentTap:
    """A tap of nobody could be opened by everybody."""
    owner = caller.uid if spec.owner == spec.group == -1 else spec.owner
    return PersistentTap(owner=owner, group=spec.group, several=spec.queues > 1, vnet_hdr=spec.vnet_hdr)


def _keeps_mtu(kind: PortKind) -> bool:
    return kind is PortKind.EXISTING or kind.inside


def _connection(caller: Caller, spec: PortSpec) -> str:
    if spec.lifetime is Lifetime.EXPLICIT:
        return ""
    if not caller.connection:
        raise Invalid("lifetime 'connection' needs a caller with a connection of its own")
    return caller.connection


def with_class(record: PortRecord, network: NetworkObject) -> PortRecord:
    """The record with a class for its floor, or none. Raises ``InUse`` if the network has none left."""
    minor = class_for(network, record.uuid) if record.floor else None
    return record if record.floor_class == minor else record.model_copy(update={"floor_class": minor})


def _vlan(caller: Caller, network: NetworkObject, spec: PortSpec, group: PortGroup | None) -> Vlan | None:
    """The port's own VLANs, the port group's, the network's, in this order; only an administrator chooses freely."""
    if spec.vlan and not caller.administrator:
        raise Denied(
            f"only root may choose the VLANs of a port: name a port group of network {network.name} that has them"
        )
    assert network.live is not None
    return vlan_for(network.live, spec.vlan, group.name if group else None)


def vlan_for(network: Network, own: Vlan | None, group: str | None) -> Vlan | None:
    """VLANs of a port: its own, those of its port group, the network's."""
    of_group = next((one.vlan for one in network.portgroups if one.name == group), None)
    return own or of_group or network.vlan


def port_group(network: NetworkObject, name: str | None) -> PortGroup | None:
    """The named port group of the running network, or its default one. Raises ``NotFound`` for an unknown name."""
    assert network.live is not None
    groups = network.live.portgroups
    if name is None:
        return next((group for group in groups if group.default), None)
    for group in groups:
        if group.name == name:
            return group
    names = ", ".join(group.name for group in groups) or "none"
    raise NotFound(f"network {network.name} has no port group {name!r}; it has: {names}")
