"""Upstream DNS servers: those of the network's forwarders and those of the host."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from vnetd.dnsmasq import fields
from vnetd.model.errors import Invalid
from vnetd.model.network import Dns, DnsForwarder, Mode, Network


def servers_file(network: Network, upstream: Sequence[str]) -> Iterator[str]:
    """Lines of the servers file.

    A forwarder without domain replaces the host's servers; an isolated network asks none of the host's. A name of
    ``upstream`` that is no address raises ``Invalid``.
    """
    forwarders = (network.dns or Dns()).forwarders
    for forwarder in forwarders:
        yield _server(forwarder)
    if network.mode is Mode.ISOLATED or any(not forwarder.domain for forwarder in forwarders):
        return
    for text in upstream:
        yield f"server={_upstream(text)}"


def nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The name server addresses a resolv.conf(5) text holds, in order; what is no address is left out."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]) and words[1] not in found:
            found.append(words[1])
    return tuple(found)


def _server(forwarder: DnsForwarder) -> str:
    address = None if forwarder.address is None else fields.server("forwarder address", forwarder.address)
    if forwarder.domain:
        # ``#`` sends the domain to the default servers, past a wider forwarder.
        return f"server=/{fields.domain('forwarder domain', forwarder.domain)}/{address or '#'}"
    if address is None:
        raise fields.refuse("forwarder", "", "it has neither a domain nor an address")
    return f"server={address}"


def _upstream(text: str) -> str:
    try:
        return fields.server("upstream server", ip_address(text))
    except ValueError:
        raise fields.refuse("upstream server", text, "it is no IP address") from None


def _is_address(text: str) -> bool:
    try:
        fields.server("nameserver", ip_address(text))
    except (ValueError, Invalid):
        return False
    return True
