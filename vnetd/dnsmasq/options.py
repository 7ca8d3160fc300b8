"""Raw dnsmasq options of a network: which are allowed, and why others are not.

Whoever may define networks (group ``vnetd``) is not root, so a raw option must not run a program, touch a file,
change who dnsmasq runs as or where it listens, or take the host's memory. Only what is listed here passes: an option
unknown to this list, perhaps of a later dnsmasq, is refused. Source: dnsmasq(8) of version 2.90.
"""

import re
from collections.abc import Mapping

from vnetd.dnsmasq import fields
from vnetd.model.errors import Unsupported

_DHCP = """
    bootp-dynamic dhcp-authoritative dhcp-boot dhcp-broadcast dhcp-circuitid dhcp-client-update dhcp-duid dhcp-fqdn
    dhcp-generate-names dhcp-host dhcp-ignore dhcp-ignore-clid dhcp-ignore-names dhcp-lease-max dhcp-mac dhcp-match
    dhcp-name-match dhcp-no-override dhcp-option dhcp-option-force dhcp-proxy dhcp-pxe-vendor dhcp-range
    dhcp-rapid-commit dhcp-remoteid dhcp-reply-delay dhcp-sequential-ip dhcp-subscrid dhcp-ttl dhcp-userclass
    dhcp-vendorclass enable-ra no-ping pxe-prompt pxe-service ra-param tag-if
"""
_DNS = """
    add-cpe-id add-mac add-subnet address alias all-servers bogus-nxdomain bogus-priv caa-record cache-rr cache-size
    clear-on-reload cname dns-forward-max dns-loop-detect dns-rr dnssec dnssec-check-unsigned dnssec-no-timecheck
    domain domain-needed edns-packet-max expand-hosts fast-dns-retry filter-A filter-AAAA filter-rr filterwin2k
    host-record ignore-address local local-ttl localise-queries localmx max-cache-ttl max-ttl min-cache-ttl
    mx-host mx-target naptr-record neg-ttl no-hosts no-ident no-negcache no-poll no-resolv no-round-robin
    proxy-dnssec ptr-record rebind-domain-ok rebind-localhost-ok rev-server selfmx server srv-host stop-dns-rebind
    strict-order strip-mac strip-subnet synth-domain trust-anchor txt-record umbrella use-stale-cache
"""
_REST = """
    log-async log-debug log-dhcp log-queries quiet-dhcp quiet-dhcp6 quiet-ra quiet-tftp tftp-lowercase tftp-max
    tftp-mtu tftp-no-blocksize tftp-no-fail tftp-secure tftp-single-port tftp-unique-root
"""
ALLOWED = frozenset((_DHCP + _DNS + _REST).split())
"""Names of the raw options a network may have."""

_FILE = "it reads or writes files of the host"
_PROGRAM = "it runs a program as dnsmasq's user or root"
_LISTEN = "it makes dnsmasq listen or send elsewhere than on this network"
_OWN = "vnetd sets it itself"
_REASONS: Mapping[str, str] = {
    name: reason
    for reason, names in {
        _FILE: "addn-hosts conf-dir conf-file dhcp-hostsdir dhcp-hostsfile dhcp-optsdir dhcp-optsfile dnssec-timestamp"
        " dumpfile dumpmask hostsdir log-facility read-ethers resolv-file servers-file",
        "TFTP is switched on by the address's tftp_root (<tftp root=…>)": "enable-tftp tftp-root",
        _PROGRAM: "conf-script dhcp-luascript dhcp-script dhcp-scriptuser script-arp script-on-renewal",
        _LISTEN: "auth-peer auth-sec-servers auth-server auth-soa auth-zone bind-interfaces bridge-interface"
        " dhcp-alternate-port dhcp-relay except-interface interface listen-address local-service max-port min-port"
        " no-dhcp-interface no-dhcpv4-interface no-dhcpv6-interface port port-limit query-port shared-network"
        " tftp-port-range",
        _OWN: "bind-dynamic dhcp-leasefile group keep-in-foreground leasefile-ro no-daemon pid-file user",
        "it changes the host's packet filter": "connmark-allowlist connmark-allowlist-enable conntrack ipset nftset",
        "it opens a bus interface": "enable-dbus enable-ubus",
    }.items()
    for name in names.split()
}
# dnsmasq sets memory or sockets aside for these at once, however large the number.
_BOUNDS: Mapping[str, int] = {
    "cache-size": 100_000,
    "dhcp-lease-max": 100_000,
    "dns-forward-max": 10_000,
    "log-async": 100,
    "tftp-max": 1_000,
}
# server=8.8.8.8@eth0 or @10.0.0.1#53 binds the socket that asks.
_MAY_BIND = frozenset({"server", "local", "rev-server"})
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


def option_name(line: str) -> str:
    """The name of a configuration line, without its value."""
    return line.partition("=")[0].strip()


def raw_option(line: str) -> str:
    """A user's raw option as a line, checked.

    Raises ``Invalid`` for what is no option line, ``Unsupported`` with the reason for an option not allowed here.
    """
    field = "dnsmasq option"
    line = fields.one_line(field, line).strip()
    name, _, value = (part.strip() for part in line.partition("="))
    if not _NAMED.fullmatch(name):
        raise fields.refuse(field, line, "an option name, if need be followed by '=' and its value, is wanted")
    if name not in ALLOWED:
        reason = _REASONS.get(name, "it is not among the options known to be harmless")
        raise Unsupported(f"the raw dnsmasq option {name!r} is not allowed: {reason}")
    if not fields.quotes_closed(value):
        raise fields.refuse(field, line, "a double quote in it is not closed")
    _check_value(name, value)
    return line


def _check_value(name: str, value: str) -> None:
    # Quotes may hide characters from this check, but dnsmasq then takes them as plain text as well.
    if name in _MAY_BIND and "@" in value:
        raise Unsupported(f"the raw dnsmasq option {name!r} with '@' is not allowed: {_LISTEN}")
    bound = _BOUNDS.get(name)
    if bound is None or not value:
        return
    digits = value.replace('"', "").strip()
    if not digits.isascii() or not digits.isdigit() or int(digits) > bound:
        raise fields.refuse(f"dnsmasq option {name}", value, f"a number up to {bound} is needed")
