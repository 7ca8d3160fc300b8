"""<domain> and <dns>."""

from typing import Any

from vnetd.xmlcodec.addresses import address, required_address
from vnetd.xmlcodec.reader import Element, Fields
from vnetd.xmlcodec.xml import SPACE


def read_domain(domain: Element) -> Fields | None:
    """The domain, ``None`` without a name, as libvirt has it."""
    local, register = domain.boolean("localOnly"), domain.boolean("register")
    if register and not local:
        raise domain.invalid("a domain that is registered needs localOnly='yes'", "register")
    if domain.attribute("name") is None:
        domain.warn("a domain without a name has no effect: dropped")
        return None
    fields = {"name": domain.attribute("name"), "register": register, "local_only": local}
    return Fields(domain, fields, {"local_only": "localOnly"})


def read_dns(dns: Element) -> Fields | None:
    """What the DNS server answers, ``None`` if nothing is said."""
    fields: dict[str, Any] = {
        "enable": dns.boolean("enable"),
        "forward_plain_names": dns.boolean("forwardPlainNames"),
        "forwarders": [_forwarder(one) for one in dns.each("forwarder")] or None,
        "texts": [read_text(one) for one in dns.each("txt")] or None,
        "services": [read_service(one) for one in dns.each("srv")] or None,
        "hosts": [read_dns_host(one) for one in dns.each("host")] or None,
    }
    names = {
        "forward_plain_names": "forwardPlainNames",
        "forwarders": "forwarder",
        "texts": "txt",
        "services": "srv",
        "hosts": "host",
    }
    return Fields(dns, fields, names) or None


def _forwarder(forwarder: Element) -> Fields:
    fields = {"domain": forwarder.attribute("domain"), "address": address(forwarder, "addr")}
    return Fields(forwarder, fields, {"address": "addr"})


def read_text(text: Element) -> Fields:
    """<txt>."""
    return Fields(text, {"name": text.required("name"), "value": text.required("value")})


def read_service(service: Element) -> Fields:
    """<srv>."""
    return Fields(
        service,
        {
            "service": service.required("service"),
            "protocol": service.required("protocol"),
            "domain": service.attribute("domain"),
            "target": service.attribute("target"),
            "port": service.integer("port", 1, 65535),
            "priority": service.integer("priority", 0, 65535),
            "weight": service.integer("weight", 0, 65535),
        },
    )


def read_dns_host(host: Element) -> Fields:
    """<host> with its names."""
    names = [one.text().strip(SPACE) for one in host.each("hostname")]
    fields = {"address": required_address(host, "ip"), "hostnames": names}
    return Fields(host, fields, {"address": "ip", "hostnames": "hostname"})
