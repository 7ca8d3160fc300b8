"""One port as a document: what it was given and what it is plugged into. Source: libvirt's network port format."""

from typing import Annotated, Literal

from pydantic import Field

from vnetd.model.base import IfName, Mac, Text, Uuid, Value, Word
from vnetd.model.network_modes import MacvtapMode
from vnetd.model.network_ports import Bandwidth, PciAddress, VirtualPort, Vlan


class NoPlug(Value):
    """Nothing yet: what the port is plugged into is still to be picked."""

    type: Literal["none"]


class NetworkPlug(Value):
    """The bridge vnetd made for a network."""

    type: Literal["network"]
    bridge: IfName
    mac_table: Literal["kernel", "vnetd"] | None = None


class BridgePlug(Value):
    """A bridge of the host's."""

    type: Literal["bridge"]
    bridge: IfName
    mac_table: Literal["kernel", "vnetd"] | None = None


class DirectPlug(Value):
    """A macvtap device on the host device ``dev``."""

    type: Literal["direct"]
    dev: IfName
    mode: MacvtapMode = MacvtapMode.VEPA


class HostdevPlug(Value):
    """A PCI function, handed out whole."""

    type: Literal["hostdev-pci"]
    address: PciAddress
    managed: bool | None = None
    driver: Literal["kvm", "vfio", "xen"] | None = None
    driver_model: Word | None = None


class UserPlug(Value):
    """A passt process that listens on a unix socket; libvirt's format has no word for it."""

    type: Literal["user"]
    socket: Text


Plug = Annotated[NoPlug | NetworkPlug | BridgePlug | DirectPlug | HostdevPlug | UserPlug, Field(discriminator="type")]


class PortOwner(Value):
    """The machine a port belongs to: information for people, nothing is decided by it."""

    name: Word
    uuid: Uuid


class NetworkPort(Value):
    """One port. ``plug`` has no default, so that the document shows by itself what it is."""

    uuid: Uuid
    owner: PortOwner | None = None
    group: Word | None = None
    mac: Mac
    virtualport: VirtualPort | None = None
    bandwidth: Bandwidth | None = None
    class_id: Annotated[int, Field(ge=1, le=0xFFFF)] | None = None
    """Number of the traffic class that keeps the port's floor."""
    vlan: Vlan | None = None
    isolated: bool | None = None
    trust_guest_rx_filters: bool | None = None
    plug: Plug
