"""Addresses, routes and source translation of a network. Rules: libvirt's network format page."""

from bisect import bisect_right
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vnetd.model.base import IPAddress, IPInterface, IPNetwork, IPv4, Value, Word
from vnetd.model.breach import breach
from vnetd.model.network_dhcp import Dhcp, check_dhcp
from vnetd.model.network_modes import Mode

MAX_SNAT_ADDRESSES = 65536
Mask = Literal["netmask", "prefix", "none"]


class AddressRange(Value):
    """Source addresses for SNAT, first and last included (IPv4)."""

    start: IPv4
    end: IPv4

    @model_validator(mode="after")
    def _in_order(self) -> "AddressRange":
        size = int(self.end) - int(self.start) + 1
        if size < 1:
            raise breach(f"the last source address {self.end} is before the first, {self.start}", "end")
        if size > MAX_SNAT_ADDRESSES:
            raise breach(f"there are {size} source addresses: {MAX_SNAT_ADDRESSES} is the limit", "end")
        return self


class PortRange(Value):
    """TCP/UDP ports, first and last included; 0-0 means unset."""

    start: Annotated[int, Field(ge=0, le=65535)]
    end: Annotated[int, Field(ge=0, le=65535)]

    @model_validator(mode="after")
    def _in_order(self) -> "PortRange":
        # libvirt defines start == end and then cannot start the network: it is refused right away.
        if self.end <= self.start and self.start:
            raise breach(f"the last port {self.end} must be greater than the first, {self.start}", "end")
        return self


class Nat(Value):
    """Source address translation of a ``nat`` network; IPv4 is always translated, IPv6 if asked for."""

    ipv6: bool | None = None
    address: AddressRange | None = None
    ports: PortRange | None = None

    @field_validator("ports")
    @classmethod
    def _zero_is_unset(cls, ports: PortRange | None) -> PortRange | None:
        return ports if ports and ports.end else None


class Address(Value):
    """An address of the host on the network's bridge, with its subnet and the services there.

    ``xml_mask`` tells how the prefix length was written, if not as usual: a netmask for IPv4, else a prefix.
    """

    address: IPInterface
    local_ptr: bool | None = None
    tftp_root: Word | None = None
    dhcp: Dhcp | None = None
    xml_family: bool = False
    xml_mask: Mask | None = None

    @model_validator(mode="after")
    def _suits_family(self) -> "Address":
        if self.tftp_root is not None and self.address.version == 6:
            raise breach(f"TFTP is served over IPv4, {self.address} is IPv6", "tftp_root")
        if self.dhcp:
            check_dhcp(self.dhcp, self.address)
        if self.xml_mask == "none" and self.address.network.prefixlen != default_prefix(self.address):
            raise breach("xml_mask 'none' is for the prefix length of the address's class only", "xml_mask")
        if self.xml_mask == "netmask" and self.address.version == 6:
            raise breach("IPv6 has no netmasks", "xml_mask")
        return self


def default_prefix(address: IPAddress) -> int | None:
    """Prefix length libvirt takes where none is written: by class for IPv4, 64 for IPv6; none for classes D and E."""
    if address.version == 6:
        return 64
    first = int(address) >> 24
    return 8 if first < 128 else 16 if first < 192 else 24 if first < 224 else None


class Route(Value):
    """A static route through a guest of the network."""

    destination: IPNetwork
    gateway: IPAddress
    metric: Annotated[int, Field(ge=1, le=2**32 - 1)] | None = None
    xml_family: bool = False
    xml_mask: Mask | None = None

    @model_validator(mode="after")
    def _one_family(self) -> "Route":
        if self.gateway.version != self.destination.version:
            raise breach(f"gateway {self.gateway} is not of the family of {self.destination}", "gateway")
        if self.xml_mask == "none" and self.destination.prefixlen:
            raise breach("xml_mask 'none' is for prefix length 0 only", "xml_mask")
        if self.xml_mask == "netmask" and self.destination.version == 6:
            raise breach("IPv6 has no netmasks", "xml_mask")
        return self


def check_addressing(mode: Mode, addresses: tuple[Address, ...], routes: tuple[Route, ...]) -> None:
    """Raise a breach, counted from the network, if addresses and routes do not go together."""
    if mode in {Mode.NAT, Mode.ROUTE} and not addresses:
        raise breach(f"a network of mode {mode} needs at least one IP address")
    _refuse_overlap(addresses)
    served: dict[int, Address] = {}
    for index, address in enumerate(addresses):
        if address.dhcp and address.dhcp.serves:
            first = served.setdefault(address.address.version, address)
            if first is not address:
                text = f"there is DHCP on {first.address} already: one subnet of each family can have it"
                raise breach(text, "addresses", index, "dhcp")
    _check_gateways(addresses, routes)


def _check_gateways(addresses: tuple[Address, ...], routes: tuple[Route, ...]) -> None:
    """The subnets do not overlap, so the only one a gateway can be in is the last that begins before it."""
    subnets = sorted((address.address.network for address in addresses), key=_start)
    starts = [_start(subnet) for subnet in subnets]
    for index, route in enumerate(routes):
        at = bisect_right(starts, (route.gateway.version, int(route.gateway)))
        if at == 0 or route.gateway not in subnets[at - 1]:
            text = f"gateway {route.gateway} is not in a subnet of the network: no guest can be reached there"
            raise breach(text, "routes", index, "gateway")


def _refuse_overlap(addresses: tuple[Address, ...]) -> None:
    """Networks are either within one another or apart: sorted, one that overlaps comes right behind the other."""
    order = sorted(range(len(addresses)), key=lambda index: _sort_key(addresses[index]))
    for lower, upper in pairwise(order):
        first, later = addresses[min(lower, upper)].address.network, addresses[max(lower, upper)].address.network
        if first.version == later.version and _overlap(first, later):
            text = f"subnet {later} overlaps subnet {first} of the same network"
            raise breach(text, "addresses", max(lower, upper), "address")


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return int(one.network_address) <= int(other.broadcast_address) and int(other.network_address) <= int(
        one.broadcast_address
    )


def _start(network: IPNetwork) -> tuple[int, int]:
    return network.version, int(network.network_address)


def _sort_key(address: Address) -> tuple[int, int, int]:
    network = address.address.network
    return *_start(network), network.prefixlen
