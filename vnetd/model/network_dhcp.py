"""DHCP on one subnet of a network. Rules: libvirt's network format page."""

import re
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from vnetd.model.base import IPAddress, IPInterface, Value, Word, _mac, _unicast
from vnetd.model.breach import breach

MIN_LEASE = 120
"""Seconds: dnsmasq takes no shorter lease."""
MAX_IPV4_RANGE = 65536


class Lease(Value):
    """Lease time; ``expiry`` 0 is infinite. ``unit`` as written."""

    expiry: Annotated[int, Field(ge=0, le=2**64 - 1)] = 0
    unit: Literal["seconds", "minutes", "hours"] = "minutes"

    @field_validator("unit")
    @classmethod
    def _no_unit_of_infinity(cls, unit: str, info: ValidationInfo) -> str:
        return unit if info.data.get("expiry") else "minutes"

    @model_validator(mode="after")
    def _long_enough(self) -> "Lease":
        if 0 < self.seconds < MIN_LEASE:
            raise breach(
                f"a lease of {self.seconds} s is too short: {MIN_LEASE} s is the minimum, 0 infinite", "expiry"
            )
        return self

    @property
    def seconds(self) -> int:
        """The lease time in seconds, 0 for infinite."""
        return self.expiry * {"seconds": 1, "minutes": 60, "hours": 3600}[self.unit]


class DhcpRange(Value):
    """Addresses handed out, first and last included."""

    start: IPAddress
    end: IPAddress
    lease: Lease | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "DhcpRange":
        if self.start.version != self.end.version:
            raise breach(f"the range's start {self.start} and end {self.end} are of different families", "end")
        first, last = int(self.start), int(self.end)
        if first > last:
            raise breach(f"the range's end {self.end} is before its start {self.start}", "end")
        if self.start.version == 4 and last - first >= MAX_IPV4_RANGE:
            raise breach(f"the range has {last - first + 1} addresses: {MAX_IPV4_RANGE} is the limit", "end")
        if first >> 16 != last >> 16 and self.start.version == 6:
            raise breach("start and end of an IPv6 range may differ in the last 16 bits only", "end")
        return self


def _as_typed(mac: str) -> str:
    _unicast(_mac(mac))
    return mac


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f:]+", text):
        raise ValueError(f"{text!r} is no DHCP unique identifier: hexadecimal digits and ':' are allowed")
    return text


def _host_name(name: str) -> str:
    if not (name[0].isascii() and name[0].isalnum()):
        raise ValueError(f"{name!r} is no host name: it must begin with a letter or digit")
    return name


class DhcpHost(Value):
    """A fixed address for a MAC (IPv4), a DUID (``id``, IPv6) or a host name. ``mac`` is kept as typed."""

    mac: Annotated[Word, AfterValidator(_as_typed)] | None = None
    id: Annotated[Word, AfterValidator(_identifier)] | None = None
    name: Annotated[Word, AfterValidator(_host_name)] | None = None
    address: IPAddress
    lease: Lease | None = None


class Bootp(Value):
    """Network boot file and the server that has it (IPv4)."""

    file: Word
    server: IPAddress | None = None


class DhcpOption(Value):
    """A DHCP option sent to clients of its family, by number or dnsmasq's name, values as text."""

    option: Annotated[int, Field(ge=1, le=65535)] | Word
    values: tuple[Word, ...] = ()


class Dhcp(Value):
    """DHCP service on one address's subnet."""

    ranges: tuple[DhcpRange, ...] = ()
    hosts: tuple[DhcpHost, ...] = ()
    bootp: Bootp | None = None
    options: tuple[DhcpOption, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether clients can get an address; ``bootp`` alone hands out none."""
        return bool(self.ranges or self.hosts)


def check_dhcp(dhcp: Dhcp, interface: IPInterface) -> None:
    """Raise a breach, counted from the address it belongs to, if ``dhcp`` does not suit the subnet of ``interface``."""
    for index, span in enumerate(dhcp.ranges):
        _check_range(span, interface, index)
    _refuse_overlap(dhcp.ranges)
    for index, host in enumerate(dhcp.hosts):
        _check_host(host, interface.version, index)
    if dhcp.bootp and interface.version == 6:
        raise breach(f"network boot (bootp) is for IPv4, {interface} is IPv6", "dhcp", "bootp")


def _check_range(span: DhcpRange, interface: IPInterface, index: int) -> None:
    subnet = interface.network
    for name, address in (("start", span.start), ("end", span.end)):
        if address.version != interface.version or address not in subnet:
            raise breach(
                f"the range's {name} {address} lies outside the subnet {subnet}", "dhcp", "ranges", index, name
            )
    if subnet.version == 4 and span.start == subnet.network_address:
        raise breach(
            f"the range may not start at {span.start}: it is the network address", "dhcp", "ranges", index, "start"
        )
    if subnet.version == 4 and span.end == subnet.broadcast_address:
        raise breach(
            f"the range may not end at {span.end}: it is the broadcast address", "dhcp", "ranges", index, "end"
        )


def _refuse_overlap(ranges: tuple[DhcpRange, ...]) -> None:
    order = sorted(range(len(ranges)), key=lambda index: int(ranges[index].start))
    for lower, upper in pairwise(order):
        if int(ranges[upper].start) <= int(ranges[lower].end):
            later, other = max(lower, upper), ranges[min(lower, upper)]
            span = ranges[later]
            text = f"the range {span.start} to {span.end} overlaps the range {other.start} to {other.end}"
            raise breach(text, "dhcp", "ranges", later)


def _check_host(host: DhcpHost, version: int, index: int) -> None:
    """Who the host is; its address is not looked at, as it is not by libvirt."""
    if version == 6 and host.mac is not None:
        raise breach(
            f"the host of {host.address} has a MAC: hosts of IPv6 are told by id or name", "dhcp", "hosts", index, "mac"
        )
    if host.name is None and (host.mac if version == 4 else host.id) is None:
        what = "mac or name" if version == 4 else "id or name"
        raise breach(f"the host of {host.address} needs {what}", "dhcp", "hosts", index)
