"""What a new port is plugged into, picked from what its network has, and what later undoes it.

The order of what a port gets is libvirt's: its own, else its port group's, else its network's.
"""

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from vnetd.host.requirements import require
from vnetd.model.base import IfName
from vnetd.model.errors import Denied, Invalid, NotFound, Unsupported
from vnetd.model.functions import FunctionUse, VfState
from vnetd.model.network import MacvtapMode, Mode, Network, PciAddress, Vlan
from vnetd.model.networkport import DirectPlug, HostdevPlug, UserPlug
from vnetd.model.port import PortKind, PortRecord, PortSpec
from vnetd.model.user_forward import UserForward
from vnetd.plan.functions import Function
from vnetd.plan.macvtap import Stacked
from vnetd.plan.passt import PasstForward, PasstInstance
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.port import Inside
from vnetd.service.network_object import NetworkObject
from vnetd.service.pools import needs_device_alone, pick_function, pick_lower
from vnetd.service.port_object import PortTable
from vnetd.service.views import Caller

Plugged = Mapping[str, object]
"""Fields of a record."""
NOBODY = 65534
PRIVILEGED = 1024
"""Ports of the host below this one are root's to give away."""
BRIDGED = frozenset({PortKind.VETH, PortKind.TAP, PortKind.TAP_FD, PortKind.EXISTING})
KINDS: Mapping[Mode, frozenset[PortKind]] = {
    Mode.MACVTAP: frozenset({PortKind.MACVTAP, PortKind.MACVTAP_FD}),
    Mode.HOSTDEV: frozenset({PortKind.HOSTDEV}),
    Mode.USER: frozenset({PortKind.PASST}),
}

NEEDED = {PortKind.MACVTAP: "macvtap", PortKind.MACVTAP_FD: "macvtap", PortKind.PASST: "passt"}
"""What a host must be able to do for these kinds."""


def kind_for(kind: PortKind, network: Network) -> PortKind:
    """The kind of port meant: what is opened in a network without a bridge is a macvtap.

    Raises ``Invalid`` for a kind the mode of the network does not go with.
    """
    if kind is PortKind.TAP_FD and network.mode is Mode.MACVTAP:
        return PortKind.MACVTAP_FD
    allowed = KINDS.get(network.mode, BRIDGED)
    if kind in BRIDGED | frozenset().union(*KINDS.values()) and kind not in allowed:
        names = ", ".join(sorted(allowed))
        raise Invalid(f"a port of kind {kind} does not go with network {network.name} of mode {network.mode}: {names}")
    return kind


class PortPlugs:
    """Picks from pools. What ``pick`` returns must be claimed before the caller lets others run."""

    def __init__(self, loop: Loop, ports: PortTable) -> None:
        self._host = loop.host
        self._ports = ports

    async def pick(
        self, caller: Caller, network: NetworkObject, spec: PortSpec, uuid: UUID, mac: str, vlan: Vlan | None
    ) -> Plugged:
        """What the record of a new port holds of its plug; nothing for one that joins a bridge.

        Raises ``InUse`` for an exhausted pool, ``Denied`` for a forward the caller may not have, ``Unsupported``
        naming what this host lacks.
        """
        assert network.live is not None
        await self._refuse_unable(network, spec.kind)
        match spec.kind:
            case PortKind.MACVTAP | PortKind.MACVTAP_FD:
                return await self._direct(network.live, spec, mac)
            case PortKind.HOSTDEV:
                return await self._function(network.live, spec, mac, vlan)
            case PortKind.PASST:
                return self._user(caller, network.live, spec, uuid, mac)
        return {}

    async def _refuse_unable(self, network: NetworkObject, kind: PortKind) -> None:
        if needed := NEEDED.get(kind):
            await require(self._host.capabilities, f"a port of network {network.name}", needed)

    async def _direct(self, network: Network, spec: PortSpec, mac: str) -> Plugged:
        mode = network.macvtap_mode
        assert mode is not None
        functions = await self._with_devices(network.devices.pf) if network.devices.pf else {}
        names = tuple(functions) or network.devices.interfaces
        macs = await self._macs(names) if mode is MacvtapMode.PASSTHROUGH else dict.fromkeys(names)
        pool = {name: mtu for name in macs if (mtu := self._host.kernel.mtu(name)) is not None}
        users = {name: self._ports.using(name) for name in pool}
        handed_out = {name for name, pci in functions.items() if self._ports.using(pci)}
        lower = pick_lower(network, tuple(pool), users, handed_out | set(filter(self._kept_alone, pool)))
        return {
            "plug": DirectPlug(type="direct", dev=lower, mode=mode),
            "mtu": spec.mtu or pool[lower],
            "former_mac": macs[lower],
        }

    async def _macs(self, names: Sequence[IfName]) -> Mapping[IfName, str | None]:
        """MAC addresses of devices that are there: unlike MTUs they are not told while somebody gives one another."""
        links = await self._host.kernel.links_named(names)
        return {name: link.mac for name, link in zip(names, links, strict=True) if link}

    async def _with_devices(self, pf: IfName) -> Mapping[IfName, str]:
        """PCI addresses of a card's functions that have a device on this host, by its name."""
        return {one.netdev: one.pci for one in await self._host.functions.of(pf) if one.netdev}

    async def _function(self, network: Network, spec: PortSpec, mac: str, vlan: Vlan | None) -> Plugged:
        pool = {function.pci: function for function in await self._functions(network)}
        using = self._ports.using
        taken = {pci: (*using(pci), *using(one.netdev)) for pci, one in pool.items()}
        chosen = pool[pick_function(network, tuple(pool), taken)]
        former = (await self._host.kernel.functions(chosen.pf)).get(chosen.vf)
        if former is None:
            raise Unsupported(f"the driver of {chosen.pf} does not show virtual function {chosen.vf} ({chosen.pci})")
        wanted = former.model_copy(update={"mac": mac, **_wishes(spec, vlan, chosen.pf, former)})
        devices = network.devices
        return {
            "plug": HostdevPlug(
                type="hostdev-pci",
                address=pci_address(chosen.pci),
                managed=devices.managed,
                driver=devices.driver,
                driver_model=devices.driver_model,
            ),
            "function": FunctionUse(pf=chosen.pf, vf=chosen.vf, wanted=wanted, former=former),
            "mtu": None,
        }

    async def _functions(self, network: Network) -> Sequence[Function]:
        """Those of the pool that are there. Raises ``NotFound`` if none of those named by their addresses is."""
        if network.devices.pf:
            return await self._host.functions.of(network.devices.pf)
        found, away = list[Function](), list[NotFound]()
        for address in network.devices.pci:
            try:
                found.append(await self._host.functions.at(address.text))
            except NotFound as error:
                away.append(error)
        if away and not found:
            raise away[0]
        return found

    def _user(self, caller: Caller, network: Network, spec: PortSpec, uuid: UUID, mac: str) -> Plugged:
        forwards = (*spec.forwards, *_forwards_to(network, mac, spec.device))
        for forward in forwards:
            if forward.listen < PRIVILEGED and not caller.administrator:
                raise Denied(f"{forward.protocol} port {forward.listen} of the host is below {PRIVILEGED}: root's only")
        if spec.owner > 0 and spec.owner != caller.uid and not caller.administrator:
            raise Denied(f"uid {caller.uid} cannot have a port run as uid {spec.owner}: only root can")
        chosen = spec.owner if spec.owner > 0 else caller.uid
        return {
            "plug": UserPlug(type="user", socket=self._host.passt.socket(str(uuid))),
            "forwards": forwards,
            "run_as": chosen or NOBODY,
            "mtu": spec.mtu,
        }

    def _kept_alone(self, device: str) -> bool:
        """Whether some port has the device to itself."""
        networks = {port.network for port in self._ports.using(device)}
        return any(network.live and needs_device_alone(network.live) for network in networks)


def plug_of(record: PortRecord, network: Network | None) -> Stacked | FunctionUse | PasstInstance | Inside | None:
    """What a port that joins no bridge needs of the host."""
    if record.kind.inside:
        return Inside(record.namespace, record.guest_device, record.lower)
    match record.plug:
        case DirectPlug(dev=dev, mode=mode):
            return Stacked(dev, mode, record.mac, record.former_mac, record.kind is PortKind.MACVTAP_FD)
        case UserPlug():
            interfaces = network.devices.interfaces if network else ()
            forwards = tuple(PasstForward(one.protocol, one.listen, one.port, one.address) for one in record.forwards)
            uid = record.run_as or NOBODY
            return PasstInstance(str(record.uuid), uid, NOBODY, forwards, record.mtu, "".join(interfaces[:1]))
    return record.function


def pci_address(text: str) -> PciAddress:
    """The address of such a text."""
    domain, bus, rest = text.split(":")
    slot, function = rest.split(".")
    numbers = {"domain": domain, "bus": bus, "slot": slot, "function": function}
    return PciAddress(**{name: int(digits, 16) for name, digits in numbers.items()})


def _wishes(spec: PortSpec, vlan: Vlan | None, card: str, present: VfState) -> dict[str, object]:
    """What the card shall do beyond the MAC address; what nobody asked for stays as it is."""
    if vlan and len(vlan.tags) > 1:
        raise Unsupported("a virtual function has one VLAN: a trunk cannot be given to it")
    asked = {name: wish for name in ("spoof_check", "trust") if (wish := getattr(spec, name)) is not None}
    if unknown := [name for name in asked if getattr(present, name) is None]:
        raise Unsupported(f"the driver of {card} does not know {', '.join(unknown)}: a port cannot ask for it")
    return {"vlan": vlan.tags[0].id if vlan else 0, "qos": 0, "link_state": "auto", **asked}


def _forwards_to(network: Network, mac: str, device: str | None) -> Iterator[UserForward]:
    """The network's forwards whose guest is named by this port's MAC address or name."""
    for one in network.forwards:
        if one.to.lower() in {mac, device}:
            port = one.port or one.listen
            yield UserForward(protocol=one.protocol, listen=one.listen, port=port, address=one.address)
