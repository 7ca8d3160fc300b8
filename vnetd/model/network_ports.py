"""What the ports of a network get: rates, VLANs, switch parameters, host devices. Rules: libvirt's network format."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from vnetd.model.base import IfName, IPAddress, PortNumber, Uuid, Value, Word
from vnetd.model.breach import breach

MAX_RATE = 2**54
"""kB/s."""
MAX_BURST = (2**32 - 1) // 1024
"""kB: the kernel counts bytes in 32 bits."""
Kilobytes = Annotated[int, Field(ge=1, le=MAX_RATE)]


class Rate(Value):
    """Limits of one direction: kB/s for average, peak and floor; kB for burst."""

    average: Kilobytes | None = None
    peak: Kilobytes | None = None
    burst: Annotated[int, Field(ge=1, le=MAX_BURST)] | None = None
    floor: Kilobytes | None = None

    @model_validator(mode="after")
    def _has_average(self) -> "Rate":
        if self.average is None and self.floor is None:
            raise breach("a rate needs an average or a floor", "average")
        if self.average is None and (self.peak or self.burst):
            raise breach("peak and burst need an average", "peak" if self.peak else "burst")
        return self


class Bandwidth(Value):
    """Limits as seen from the guests: ``inbound`` is what they receive."""

    inbound: Rate | None = None
    outbound: Rate | None = None

    @model_validator(mode="after")
    def _floor_is_inbound(self) -> "Bandwidth":
        if self.outbound and self.outbound.floor:
            raise breach("a floor can be kept for what guests receive only (inbound)", "outbound", "floor")
        return self


class VlanTag(Value):
    """One VLAN; ``native``: the one whose frames carry no tag (or one, if ``tagged``)."""

    id: Annotated[int, Field(ge=0, le=4095)]
    native: Literal["tagged", "untagged"] | None = None


class Vlan(Value):
    """VLANs of the ports of a network or port group. Several make a trunk."""

    tags: Annotated[tuple[VlanTag, ...], Field(min_length=1)]
    trunk: bool | None = Field(default=None, validate_default=True)

    @field_validator("trunk")
    @classmethod
    def _several_make_a_trunk(cls, trunk: bool | None, info: ValidationInfo) -> bool | None:
        tags: tuple[VlanTag, ...] = info.data.get("tags", ())
        if trunk is False and (len(tags) > 1 or any(tag.native for tag in tags)):
            raise ValueError("several VLANs or a native one need a trunk")
        return True if trunk or len(tags) > 1 else None

    @model_validator(mode="after")
    def _one_native(self) -> "Vlan":
        native = [index for index, tag in enumerate(self.tags) if tag.native]
        if len(native) > 1:
            raise breach("only one VLAN can be the native one", "tags", native[1], "native")
        return self


_PARAMETERS = {
    "802.1Qbg": ("managerid", "typeid", "typeidversion", "instanceid"),
    "802.1Qbh": ("profileid",),
    "openvswitch": ("profileid", "interfaceid"),
    "midonet": ("interfaceid",),
}
MAX_QBH_PROFILE = 39


class VirtualPort(Value):
    """Parameters for the switch a port is plugged into (802.1Qbg, 802.1Qbh, Open vSwitch, midonet)."""

    type: Literal["802.1Qbg", "802.1Qbh", "openvswitch", "midonet"] | None = None
    managerid: Annotated[int, Field(ge=0, le=0xFF)] | None = None
    typeid: Annotated[int, Field(ge=0, le=0xFFFFFF)] | None = None
    typeidversion: Annotated[int, Field(ge=0, le=0xFF)] | None = None
    instanceid: Uuid | None = None
    profileid: Word | None = None
    interfaceid: Uuid | None = None

    @model_validator(mode="after")
    def _suits_type(self) -> "VirtualPort":
        for name in ("managerid", "typeid", "typeidversion", "instanceid", "profileid", "interfaceid"):
            if self.type and getattr(self, name) is not None and name not in _PARAMETERS[self.type]:
                raise breach(f"a virtual port of type {self.type} has no parameter {name}", name)
        if self.type == "802.1Qbh" and len(self.profileid or "") > MAX_QBH_PROFILE:
            raise breach(f"an 802.1Qbh profile has at most {MAX_QBH_PROFILE} characters", "profileid")
        return self


class PortGroup(Value):
    """A named set of port settings; one may be the default."""

    name: Word
    default: bool = False
    trust_guest_rx_filters: bool | None = None
    vlan: Vlan | None = None
    bandwidth: Bandwidth | None = None
    virtualport: VirtualPort | None = None

    @field_validator("bandwidth")
    @classmethod
    def _no_limits_are_absent(cls, bandwidth: Bandwidth | None) -> Bandwidth | None:
        return bandwidth if bandwidth and (bandwidth.inbound or bandwidth.outbound) else None


class PciAddress(Value):
    """A PCI function."""

    domain: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 0
    bus: Annotated[int, Field(ge=0, le=0xFF)] = 0
    slot: Annotated[int, Field(ge=0, le=0x1F)] = 0
    function: Annotated[int, Field(ge=0, le=7)] = 0

    @property
    def text(self) -> str:
        """The address as sysfs and the result of an attachment name it: ``0000:03:10.0``."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"


class Devices(Value):
    """Host devices behind a network: its uplink (nat, route), or the pool its ports are made from."""

    interfaces: tuple[IfName, ...] = ()
    pf: IfName | None = None
    pci: tuple[PciAddress, ...] = ()
    managed: bool | None = None
    driver: Literal["kvm", "vfio", "xen"] | None = None
    driver_model: Word | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Devices":
        if (twice := _repeated(self.interfaces)) is not None:
            raise breach(f"interface {self.interfaces[twice]} is given twice", "interfaces", twice)
        if (twice := _repeated(self.pci)) is not None:
            raise breach("this PCI address is given twice", "pci", twice)
        kinds = [name for name in ("interfaces", "pf", "pci") if getattr(self, name)]
        if len(kinds) > 1:
            raise breach("interfaces, a physical function and PCI addresses exclude one another", kinds[1])
        if self.driver_model and not self.driver:
            raise breach("the model of a driver needs the driver's name", "driver_model")
        return self


def _repeated(values: Iterable[object]) -> int | None:
    """Index of the first value that was there before."""
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            return index
        seen.add(value)
    return None


class PortForward(Value):
    """A port of the host led to a guest, which is named by host name, MAC or address."""

    protocol: Literal["tcp", "udp"]
    listen: PortNumber
    to: Word
    port: PortNumber | None = None
    address: IPAddress | None = None


def _user_or_group(name: str) -> str:
    if not name.removeprefix("@") or "/" in name or ":" in name:
        raise ValueError(f"{name!r} is no user and, with '@' before it, no group")
    return name


class Access(Value):
    """Who may attach ports: user names, or group names with a leading ``@``."""

    attach: tuple[Annotated[Word, AfterValidator(_user_or_group)], ...] = ()
