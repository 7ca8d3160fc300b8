"""<ip> with <dhcp> and <tftp>, and <route>."""

from typing import Any

from vnetd.xmlcodec.addresses import address, interface_text, read_subnet, required_address
from vnetd.xmlcodec.reader import Element, Fields


def read_ip(ip: Element) -> Fields:
    """An address of the network with its services."""
    subnet = read_subnet(ip)
    text, mask = interface_text(ip, subnet)
    tftp, dhcp = ip.child("tftp"), ip.child("dhcp")
    fields: dict[str, Any] = {
        "address": text,
        "local_ptr": ip.boolean("localPtr"),
        "tftp_root": tftp.attribute("root") if tftp else None,
        "dhcp": _dhcp(dhcp) if dhcp else None,
        "xml_family": subnet.family_given,
        "xml_mask": mask,
    }
    return Fields(ip, fields, {"local_ptr": "localPtr", "tftp_root": "tftp"})


def _dhcp(dhcp: Element) -> Fields | None:
    """DHCP; ``None`` without ranges and hosts, for libvirt does not keep <bootp> alone."""
    bootp = dhcp.child("bootp")
    fields: dict[str, Any] = {
        "ranges": [read_range(one) for one in dhcp.each("range")],
        "hosts": [read_dhcp_host(one) for one in dhcp.each("host")],
        "bootp": _bootp(bootp) if bootp else None,
    }
    if not fields["ranges"] and not fields["hosts"]:
        if bootp:
            bootp.warn("without a range or host there is no DHCP that could say so: dropped")
        return None
    return Fields(dhcp, fields, {"ranges": "range", "hosts": "host"})


def read_range(span: Element) -> Fields:
    """<range> of <dhcp>."""
    ends = {name: required_address(span, name) for name in ("start", "end")}
    return Fields(span, {**ends, "lease": _lease(span)})


def read_dhcp_host(host: Element, *, address_needed: bool = True) -> Fields:
    """<host> of <dhcp>."""
    fields = {
        "mac": host.attribute("mac"),
        "id": host.attribute("id"),
        "name": host.attribute("name"),
        "address": required_address(host, "ip") if address_needed else address(host, "ip"),
        "lease": _lease(host),
    }
    return Fields(host, fields, {"address": "ip"})


def _lease(parent: Element) -> Fields | None:
    lease = parent.child("lease")
    if lease is None:
        return None
    return Fields(lease, {"expiry": lease.integer("expiry"), "unit": lease.word("unit", "seconds", "minutes", "hours")})


def _bootp(bootp: Element) -> Fields:
    return Fields(bootp, {"file": bootp.required("file"), "server": address(bootp, "server")})


def read_route(route: Element) -> Fields:
    """A static route; without netmask and prefix it leads everywhere."""
    subnet = read_subnet(route)
    fields = {
        "destination": f"{subnet.address}/{subnet.prefix or 0}",
        "gateway": required_address(route, "gateway"),
        "metric": route.integer("metric", 1, 2**32 - 1),
        "xml_family": subnet.family_given,
        "xml_mask": subnet.mask,
    }
    return Fields(route, fields, {"destination": "address"})
