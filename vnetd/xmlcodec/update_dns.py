"""Updates of the sections dns-host, dns-txt and dns-srv. Source: virsh's net-update and libvirt's semantics of it."""

from typing import Any

from vnetd.model.base import IPAddress, Text, Value
from vnetd.model.errors import Invalid
from vnetd.model.network import Dns, DnsHost, DnsService, DnsText, Network
from vnetd.xmlcodec.addresses import address
from vnetd.xmlcodec.network_dns import read_dns_host, read_service, read_text
from vnetd.xmlcodec.reader import Element, Fields, build
from vnetd.xmlcodec.update_items import Change, removed, replaced
from vnetd.xmlcodec.xml import SPACE


class HostCriteria(Value):
    """What is said of the names of an address that are to go."""

    address: IPAddress | None = None
    hostnames: tuple[Text, ...] = ()


def change_dns_hosts(network: Network, change: Change, parent_index: int) -> dict[str, object]:
    """Add, replace or remove the names of an address."""
    hosts = _dns(network).hosts
    if change.command == "delete":
        criteria = build(HostCriteria, _host_criteria(change.element))
        found = [at for at, host in enumerate(hosts) if _host_matches(criteria, host)]
        return _with_dns(network, hosts=removed(hosts, change.one(found, "DNS host")))
    host = build(DnsHost, read_dns_host(change.element))
    same = [at for at, other in enumerate(hosts) if other.address == host.address]
    if change.command == "modify":
        return _with_dns(network, hosts=replaced(hosts, change.one(same, "DNS host"), host))
    if same:
        change.exists(f"a DNS host with address {host.address}")
    return _with_dns(network, hosts=change.insert(hosts, host))


def change_texts(network: Network, change: Change, parent_index: int) -> dict[str, object]:
    """Add, replace or remove a TXT record, told by its name."""
    texts, name = _dns(network).texts, change.element.required("name")
    same = [at for at, other in enumerate(texts) if other.name == name]
    if change.command == "delete":
        change.element.ignore("value")
        return _with_dns(network, texts=removed(texts, change.one(same[:1], "TXT record")))
    text = build(DnsText, read_text(change.element))
    if change.command == "modify":
        return _with_dns(network, texts=replaced(texts, change.one(same[:1], "TXT record"), text))
    if same:
        change.exists(f"a TXT record named {name!r}")
    return _with_dns(network, texts=change.insert(texts, text))


def change_services(network: Network, change: Change, parent_index: int) -> dict[str, object]:
    """Add or remove an SRV record; only what is given of domain, service, protocol and target is compared."""
    services = _dns(network).services
    wanted = {name: change.element.attribute(name) for name in ("domain", "service", "protocol", "target")}
    same = [at for at, other in enumerate(services) if _service_matches(wanted, other)]
    if change.command == "delete":
        change.element.ignore("port", "priority", "weight")
        if not any(wanted.values()):
            raise Invalid(f"{change.element.place()}: nothing is said that tells which service is meant")
        return _with_dns(network, services=removed(services, change.one(same, "service")))
    service = build(DnsService, read_service(change.element))
    if same:
        change.exists("a service of which all this is true")
    return _with_dns(network, services=change.insert(services, service))


def _host_criteria(host: Element) -> Fields:
    names = [one.text().strip(SPACE) for one in host.each("hostname")]
    if host.attribute("ip") is None and not names:
        raise host.invalid("ip or a hostname is needed to tell which host is meant")
    return Fields(host, {"address": address(host, "ip"), "hostnames": names}, {"address": "ip"})


def _host_matches(criteria: HostCriteria, host: DnsHost) -> bool:
    return criteria.address == host.address or any(name in host.hostnames for name in criteria.hostnames)


def _service_matches(wanted: dict[str, str | None], service: DnsService) -> bool:
    return all(value is None or value == getattr(service, name) for name, value in wanted.items())


def _dns(network: Network) -> Dns:
    return network.dns or Dns()


def _with_dns(network: Network, **updates: Any) -> dict[str, object]:
    dns = _dns(network)
    return {"dns": Dns.model_validate({name: getattr(dns, name) for name in Dns.model_fields} | updates)}
