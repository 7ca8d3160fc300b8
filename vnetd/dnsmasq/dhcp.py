"""DHCP of both families: ranges, static hosts, boot files and options."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Address

from vnetd.dnsmasq import fields
from vnetd.model.base import IPInterface
from vnetd.model.network import Bootp, Dhcp, DhcpHost, DhcpOption, DhcpRange, Lease, Network

_INFINITE = 2**31
"""Seconds from which a lease is given as infinite: dnsmasq counts them in a signed 32 bit number."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet with DHCP, of which the model allows one for each family."""

    interface: IPInterface
    dhcp: Dhcp

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.interface.version


def dhcp_lines(network: Network) -> Iterator[str]:
    """Lines that make dnsmasq serve DHCP: all of IPv4 before all of IPv6, then the bound on the number of leases."""
    subnets = _subnets(network)
    for subnet in subnets:
        yield from _subnet_lines(subnet)
    if any(subnet.version == 4 for subnet in subnets):
        yield "dhcp-no-override"
    if subnets:
        # Also for IPv6: a client whose lease was forgotten keeps its address instead of starting anew.
        yield "dhcp-authoritative"
        yield "no-ping"
    for subnet in subnets:
        if subnet.dhcp.bootp is not None and subnet.version == 4:
            yield _boot_line(subnet.dhcp.bootp)
        for option in subnet.dhcp.options:
            yield _option_line(option, subnet.version)
    if count := sum(_lease_count(subnet) for subnet in subnets):
        yield f"dhcp-lease-max={count}"


def hosts_file(network: Network) -> Iterator[str]:
    """Lines of the file of static hosts."""
    for subnet in _subnets(network):
        for host in subnet.dhcp.hosts:
            yield _host_line(host, subnet.version)


def lease_time(lease: Lease) -> str:
    """dnsmasq's text for a lease time."""
    if lease.expiry == 0 or lease.seconds >= _INFINITE:
        return "infinite"
    return f"{lease.expiry}{lease.unit[0]}"


def _subnets(network: Network) -> list[Subnet]:
    served = [Subnet(a.address, a.dhcp) for a in network.addresses if a.dhcp is not None and a.dhcp.serves]
    return sorted(served, key=lambda subnet: subnet.version)


def _subnet_lines(subnet: Subnet) -> Iterator[str]:
    if subnet.version == 6 and subnet.interface.network.prefixlen < 64:
        raise fields.refuse("address", subnet.interface, "DHCPv6 needs a prefix of 64 or more bits")
    for span in subnet.dhcp.ranges:
        yield f"dhcp-range={_range(span, subnet.interface)}"
    if not subnet.dhcp.ranges:
        own = fields.address("address", subnet.interface.ip)
        yield f"dhcp-range={own},static" + (f",{_size(subnet.interface)}" if subnet.version == 6 else "")


def _range(span: DhcpRange, interface: IPInterface) -> str:
    start, end = fields.address("range start", span.start), fields.address("range end", span.end)
    if not span.start.version == span.end.version == interface.version:
        raise fields.refuse("range", f"{start}-{end}", f"it is not of the same family as {interface}")
    parts = [start, end, _size(interface)]
    if span.lease is not None:
        parts.append(lease_time(span.lease))
    return ",".join(parts)


def _size(interface: IPInterface) -> str:
    """Netmask or prefix length."""
    if isinstance(interface, IPv4Interface):
        return str(interface.netmask)
    return str(interface.network.prefixlen)


def _lease_count(subnet: Subnet) -> int:
    """Addresses of the ranges, and of the static hosts of the subnet outside them; 0 without ranges."""
    spans = [(int(span.start), int(span.end)) for span in subnet.dhcp.ranges]
    if not spans:
        return 0
    fixed = {int(host.address) for host in subnet.dhcp.hosts if host.address in subnet.interface.network}
    outside = [address for address in fixed if not any(start <= address <= end for start, end in spans)]
    return sum(max(end - start + 1, 0) for start, end in spans) + len(outside)


def _boot_line(bootp: Bootp) -> str:
    file = fields.one_line("boot file", bootp.file)
    if not file or fields.needs_quotes(file) or "," in file or file.startswith(("tag:", "net:")):
        raise fields.refuse("boot file", file, "commas, quotes, '#' after a space and 'tag:' are not possible in it")
    where = f",,{fields.address('boot server', bootp.server)}" if bootp.server is not None else ""
    return f"dhcp-boot={file}{where}"


def _option_line(option: DhcpOption, version: int) -> str:
    """An option bound to its family; an IPv4 number stands alone, everything else has a prefix."""
    if isinstance(option.option, str):
        name = f"option{'6' if version == 6 else ''}:{_option_name(option.option)}"
    else:
        _check_number(option.option, version)
        name = f"option6:{option.option}" if version == 6 else str(option.option)
    values = [_option_value(value, version) for value in option.values]
    return f"dhcp-option={','.join([name, *values])}"


def _check_number(number: int, version: int) -> None:
    if version == 4 and number > 254:
        raise fields.refuse("DHCP option", number, "DHCPv4 has options 1 to 254 (RFC 2132)")


def _option_name(text: str) -> str:
    name = fields.one_line("DHCP option", text)
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise fields.refuse("DHCP option", text, "a number or one of the names 'dnsmasq --help dhcp' lists is needed")
    return name.lower()


def _option_value(text: str, version: int) -> str:
    """One value; an IPv6 address gets its brackets, quotes turn anything dnsmasq would split into one string."""
    fields.one_line("DHCP option value", text)
    if version == 6 and ":" in text and not text.startswith("["):
        return _bracketed_if_address(text)
    return fields.quoted(text) if fields.needs_quotes(text) else text


def _bracketed_if_address(text: str) -> str:
    try:
        return fields.bracketed("DHCP option value", IPv6Address(text))
    except ValueError:
        return fields.quoted(text) if fields.needs_quotes(text) else text


def _host_line(host: DhcpHost, version: int) -> str:
    """IPv4: ``MAC,IP[,NAME]`` or ``NAME,IP``; IPv6: ``[id:DUID,][NAME,][IP]``; then the lease time, if any."""
    where = fields.bracketed("DHCP host address", host.address)
    name = fields.dhcp_name("DHCP host name", host.name) if host.name else ""
    identity = _identity(host, version)
    if not identity and not name:
        raise fields.refuse("DHCP host", where, f"it has neither {'mac' if version == 4 else 'id'} nor name")
    parts = [identity, where, name] if version == 4 and identity else [identity, name, where]
    if host.lease is not None:
        parts.append(lease_time(host.lease))
    return ",".join(part for part in parts if part)


def _identity(host: DhcpHost, version: int) -> str:
    if version == 4:
        return fields.mac("DHCP host mac", host.mac) if host.mac else ""
    return f"id:{fields.duid('DHCP host id', host.id)}" if host.id else ""
