"""TXT and SRV records of a network's DNS."""

from collections.abc import Iterator

from vnetd.dnsmasq import fields
from vnetd.model.network import Dns, DnsService, DnsText


def records(dns: Dns) -> Iterator[str]:
    """``txt-record`` and ``srv-host`` lines, in that order."""
    for text in dns.texts:
        yield _text_record(text)
    for service in dns.services:
        yield _service_record(service)


def _text_record(text: DnsText) -> str:
    """A TXT record; a comma separates its strings, as it does for libvirt, and so do the user's own quotes."""
    name = fields.record("TXT record name", text.name)
    fields.one_line("TXT record value", f"txt-record={name},{text.value}")
    if '"' in text.value:
        if not fields.quotes_closed(text.value):
            raise fields.refuse("TXT record value", text.value, "a double quote in it is not closed")
        return f"txt-record={name},{text.value}"
    parts = [fields.quoted(part) if fields.needs_quotes(part) else part for part in text.value.split(",")]
    return f"txt-record={name},{','.join(parts)}"


def _service_record(service: DnsService) -> str:
    name = f"_{fields.service('SRV service', service.service)}._{fields.service('SRV protocol', service.protocol)}"
    if service.domain:
        name += f".{fields.domain('SRV domain', service.domain)}"
    return f"srv-host={','.join([name, *_service_target(service)])}"


def _service_target(service: DnsService) -> list[str]:
    """Target, port, priority and weight without what is zero at the end; none for "no such service" (RFC 2782)."""
    if not service.target or service.target == ".":
        return []
    priority, weight = service.priority or 0, service.weight or 0
    numbers = [service.port or (1 if priority or weight else 0), priority, weight]
    while numbers and not numbers[-1]:
        numbers.pop()
    return [fields.domain("SRV target", service.target), *map(str, numbers)]
