"""Which maker makes the devices of which kind of port."""

from collections.abc import Callable, Mapping

from vnetd.host.protocols import Host
from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.model.port import PortKind, PortSpec
from vnetd.service.port_deviceless import HandedOutFunction, PasstProcess
from vnetd.service.port_macvlan import InnerDevice
from vnetd.service.port_macvtap import OpenedMacvtap, PersistentMacvtap
from vnetd.service.port_making import Made, Maker, Making
from vnetd.service.port_taps import OpenedTap, PersistentTap
from vnetd.service.port_veth import VethPair


class ExistingDevice:
    """A device vnetd did not make: it only joins."""

    template = ""

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It must be named."""
        if not spec.device:
            raise Invalid("device is missing: kind 'existing' needs the name of a network device")

    async def make(self, making: Making) -> Made:
        """It is there."""
        return Made()

    async def finish(self, making: Making) -> None:
        """It stays as it is."""


MAKERS: Mapping[PortKind, Callable[[Host], Maker]] = {
    PortKind.VETH: VethPair,
    PortKind.TAP: PersistentTap,
    PortKind.TAP_FD: OpenedTap,
    PortKind.EXISTING: ExistingDevice,
    PortKind.MACVTAP: PersistentMacvtap,
    PortKind.MACVTAP_FD: OpenedMacvtap,
    PortKind.HOSTDEV: HandedOutFunction,
    PortKind.PASST: PasstProcess,
    PortKind.MACVLAN: InnerDevice,
    PortKind.IPVLAN: InnerDevice,
}


AT_ONCE = frozenset({PortKind.VETH, PortKind.TAP_FD, PortKind.MACVTAP_FD})
"""Kinds whose makers do ``Making.commit``, put the device where it belongs as they make it, and tell how it is."""


class PortDevices:
    """The makers on one host, by kind."""

    def __init__(self, host: Host) -> None:
        self._makers = {kind: make(host) for kind, make in MAKERS.items()}

    def of(self, kind: PortKind) -> Maker:
        """The maker of a kind."""
        return self._makers[kind]
