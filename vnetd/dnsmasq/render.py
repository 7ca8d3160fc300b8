"""A network's dnsmasq files from its model. Order and meaning of the lines: docs/FORMATS.md, "dnsmasq".

Where vnetd differs from libvirt on purpose: leases go to a file that is watched instead of through a script, the
upstream servers stand in a file of their own that is read again on SIGHUP (``no-resolv``: no inotify instance a
process, of which a user has 128), and an address is offered without pinging it first, which saves the guest 3 s.
"""

from collections.abc import Iterable, Iterator, Sequence

from vnetd.dnsmasq import fields, layout
from vnetd.dnsmasq.addresses import reverse_zone
from vnetd.dnsmasq.dhcp import dhcp_lines, hosts_file
from vnetd.dnsmasq.options import option_name, raw_option
from vnetd.dnsmasq.records import records
from vnetd.dnsmasq.servers import servers_file
from vnetd.model.network import Dns, Mode, Network
from vnetd.plan.dnsmasq import Instance

HEADER = "# Written by vnetd; changes made here are undone. Edit the network instead."
# Given twice, dnsmasq refuses these; what the user's raw options say wins.
_SINGLE = frozenset({"dhcp-lease-max", "log-async", "port"})


def needs_dnsmasq(network: Network) -> bool:
    """Whether the network gets a dnsmasq: it has an address, and DNS, DHCP or TFTP is wanted there."""
    if not network.mode.has_bridge or not network.addresses:
        return False
    dhcp = any(address.dhcp is not None and address.dhcp.serves for address in network.addresses)
    return dhcp or has_dns(network) or any(address.tftp_root for address in network.addresses)


def has_dns(network: Network) -> bool:
    """Whether dnsmasq answers DNS queries of the guests."""
    return network.dns is None or network.dns.enable is not False


def render(
    network: Network,
    *,
    uuid: str,
    bridge: str,
    directory: str,
    run_directory: str,
    upstream: Sequence[str],
    user: str = "",
) -> Instance:
    """The dnsmasq of ``network`` on ``bridge``.

    ``directory`` and ``run_directory`` are those of ``vnetd.dnsmasq.layout``, ``upstream`` the addresses of the
    host's own name servers, ``user`` whom dnsmasq shall run as ("": whoever starts it says so). Raises ``Invalid``
    for a value that dnsmasq cannot be given, ``Unsupported`` for a raw option that is not allowed.
    """
    raw = tuple(raw_option(option) for option in network.dnsmasq_options)
    overridden = _SINGLE & {option_name(option) for option in raw}
    lines = _own_lines(network, uuid, bridge, directory, run_directory)
    own = [line for line in lines if option_name(line) not in overridden]
    account = [f"user={fields.record('user', user)}"] if user else []
    files = {layout.CONFIGURATION: _text([HEADER, *account, *own, *raw])}
    if _has_dhcp(network):
        files[layout.HOSTS] = _text(hosts_file(network))
    if has_dns(network):
        files[layout.ADDITIONAL_HOSTS] = _text(_additional_hosts(network.dns or Dns()))
        files[layout.SERVERS] = _text(servers_file(network, upstream))
    return Instance(
        uuid, bridge, files, follows_addresses=_binds_dynamically(network) or _advertises(network) or bool(raw)
    )


def _text(lines: Iterable[str]) -> str:
    text = ""
    for line in lines:
        # Values were checked one by one; tabs are those that separate names of hosts.
        fields.one_line("line", line.replace("\t", " "))
        text += line + "\n"
    return text


def _binds_dynamically(network: Network) -> bool:
    return network.mode is Mode.OPEN


def _advertises(network: Network) -> bool:
    """Whether it answers DHCPv6 or sends router advertisements: one of them for every address of IPv6."""
    return any(address.address.version == 6 for address in network.addresses)


def _has_dhcp(network: Network) -> bool:
    return any(address.dhcp is not None and address.dhcp.serves for address in network.addresses)


def _own_lines(network: Network, uuid: str, bridge: str, directory: str, run_directory: str) -> Iterator[str]:
    dns = has_dns(network)
    yield "strict-order"
    yield f"port={53 if dns else 0}"
    yield from _domain_lines(network)
    if dns:
        yield from _zone_lines(network)
    yield from _process_lines(uuid, directory, run_directory, dns)
    # An interface bound dynamically makes every dnsmasq of the host list all addresses whenever one is added. Where
    # rules see to it that only the network's own bridge reaches the service, the addresses there are do (adr/0005).
    yield "bind-dynamic" if _binds_dynamically(network) else "bind-interfaces"
    yield f"interface={fields.interface('bridge', bridge)}"
    if network.mode is Mode.ISOLATED:
        yield from ("dhcp-option=3", "ra-param=*,0,0")
    if dns and network.dns is not None:
        yield from records(network.dns)
    yield from _tftp_lines(network)
    yield from dhcp_lines(network)
    if _has_dhcp(network):
        yield f"dhcp-hostsfile={fields.path('directory', directory)}/{layout.HOSTS}"
    if dns:
        yield f"addn-hosts={fields.path('directory', directory)}/{layout.ADDITIONAL_HOSTS}"
    if network.mtu is not None:
        yield f"dhcp-option=option:mtu,{network.mtu}"
    yield from _advertisement_lines(network)


def _domain_lines(network: Network) -> Iterator[str]:
    if network.domain is None:
        return
    name = fields.domain("domain name", network.domain.name)
    if network.domain.local_only:
        yield f"local=/{name}/"
    yield f"domain={name}"
    yield "expand-hosts"


def _zone_lines(network: Network) -> Iterator[str]:
    for address in network.addresses:
        if address.local_ptr:
            yield f"local=/{reverse_zone(address.address)}/"
    if network.dns is not None and network.dns.forward_plain_names is False:
        yield "domain-needed"
        yield "local=//"


def _process_lines(uuid: str, directory: str, run_directory: str, dns: bool) -> Iterator[str]:
    directory = fields.path("directory", directory)
    yield "no-resolv"
    if dns:
        yield f"servers-file={directory}/{layout.SERVERS}"
    yield f"pid-file={fields.path('run directory', run_directory)}/{fields.record('uuid', uuid)}.pid"
    yield f"dhcp-leasefile={directory}/{layout.LEASES}"
    # Without it a full log socket would stop DNS and DHCP of all guests.
    yield "log-async=20"
    yield "except-interface=lo"


def _tftp_lines(network: Network) -> Iterator[str]:
    roots = [address for address in network.addresses if address.tftp_root and address.address.version == 4]
    yield from ("enable-tftp",) if roots else ()
    for address in roots:
        yield f"tftp-root={fields.path('tftp root', address.tftp_root or '')}"


def _advertisement_lines(network: Network) -> Iterator[str]:
    ipv6 = [address for address in network.addresses if address.address.version == 6]
    if any(address.dhcp is not None and address.dhcp.serves for address in ipv6):
        yield "enable-ra"
        return
    for address in ipv6:
        yield f"dhcp-range={fields.address('address', address.address.ip)},ra-only"


def _additional_hosts(dns: Dns) -> Iterator[str]:
    for host in dns.hosts:
        address = fields.address("dns host", host.address)
        for name in host.hostnames:
            fields.domain("dns host name", name)
        yield from _wrapped(address, host.hostnames)


def _wrapped(address: str, names: Sequence[str]) -> Iterator[str]:
    """Lines of ``IP<TAB>NAME<TAB>…``, a new one before a line gets too long."""
    line = f"{address}\t"
    for name in names:
        if len((line + name).encode()) > fields.MAX_LINE - 2:
            yield line
            line = f"{address}\t"
        line += f"{name}\t"
    yield line
