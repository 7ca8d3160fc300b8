"""What may stand in which field of a dnsmasq file. Every string passes here before it becomes part of a line.

dnsmasq (``read_file`` in its option.c) takes a file apart at newlines *and after every 1,024 bytes*, so an over-long
line would continue as an option of its own; it ends a line at ``#`` after white space, and gives ``"`` and, inside
quotes, ``\\`` a meaning. All of that is excluded here, whatever the model let through.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from vnetd.model.base import CONTROL, IPAddress
from vnetd.model.errors import Invalid

MAX_LABEL = 63
MAX_LINE = 1000
"""Bytes of one line; dnsmasq reads at most 1,024 with the newline."""

_NAME = re.compile(r"\w[\w.\-]*")
_RECORD = re.compile(r"[\w*][\w.\-*+/@:=]*")
_LABELS = re.compile(r"[\w.\-+/*]+")
_PATH = re.compile(r"/[^\"\\#,]*[^\"\\#, ]|/")
_INTERFACE = re.compile(r"[A-Za-z0-9_.\-]{1,15}")
_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}")
_DUID = re.compile(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2})*")
# Words that dnsmasq reads as something else than a name in a dhcp-host line: lease times and orders.
_NOT_A_NAME = re.compile(r"ignore|infinite|deprecated|[0-9]+[smhdwSMHDW]?", re.IGNORECASE)


def refuse(field: str, value: object, rule: str) -> Invalid:
    """The error for a value that cannot stand in a dnsmasq line."""
    text = str(value)
    shown = text if len(text) <= 80 else text[:77] + "…"
    return Invalid(f"{field} {shown!r} cannot be given to dnsmasq: {rule}")


def one_line(field: str, text: str) -> str:
    """Any text that is one whole line of its own: no control characters, not longer than dnsmasq reads at once."""
    if CONTROL.search(text):
        raise refuse(field, text, "it contains a control character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise refuse(field, text, "it is no valid Unicode text") from None
    if size > MAX_LINE:
        raise refuse(field, text, f"the line it belongs to has {size} bytes, at most {MAX_LINE} are possible")
    return text


def _matching(pattern: re.Pattern[str], rule: str, field: str, text: str, size: int = 253) -> str:
    one_line(field, text)
    if not pattern.fullmatch(text):
        raise refuse(field, text, rule)
    if len(text.encode()) > size:
        raise refuse(field, text, f"it is longer than {size} bytes")
    return text


def _dns(field: str, text: str) -> str:
    """A name that dnsmasq takes whatever its locale, on which its own conversion of international names depends.

    It also sends names with capital letters through that conversion, whose rules for hyphens are those of RFC 5891.
    """
    if not text.isascii():
        raise refuse(field, text, "an international name is given in its ASCII form (xn--…)")
    for label in text.split("."):
        if len(label) > MAX_LABEL:
            raise refuse(field, text, f"no part between dots is longer than {MAX_LABEL} bytes (RFC 1035)")
        reserved = label[2:4] == "--" and not label.lower().startswith("xn--")
        if text != text.lower() and (reserved or label.startswith("-") or label.endswith("-")):
            raise refuse(field, text, "with capital letters, no part may have '-' at an end or '--' in third place")
    return text


def domain(field: str, text: str) -> str:
    """A DNS name: letters, digits, ``_``, ``-`` and dots, at most 253 bytes (RFC 1035)."""
    return _dns(field, _matching(_NAME, "a domain name of letters, digits, '-', '_' and '.' is needed", field, text))


def record(field: str, text: str) -> str:
    """The owner name of a DNS record."""
    return _dns(field, _matching(_RECORD, "a record name without spaces, commas and quotes is needed", field, text))


def service(field: str, text: str) -> str:
    """Service or protocol of an SRV record."""
    return _dns(field, _matching(_LABELS, "letters, digits and any of '_-+/*.' are allowed", field, text, 482))


def dhcp_name(field: str, text: str) -> str:
    """The host name of a static DHCP host; not one that dnsmasq would read as a lease time, address or order."""
    _matching(re.compile(r"[^\W_][\w.\-]*"), "a host name that begins with a letter or digit is needed", field, text)
    _dns(field, text)
    if _NOT_A_NAME.fullmatch(text):
        raise refuse(field, text, "dnsmasq would read it as a lease time or an order, not as a host name")
    try:
        ip_address(text)
    except ValueError:
        return text
    raise refuse(field, text, "it is an address, not a host name")


def path(field: str, text: str) -> str:
    """An absolute path; dnsmasq's separators and quotes cannot be part of it."""
    return _matching(_PATH, "an absolute path without commas, quotes, '#' and '\\' is needed", field, text, 900)


def interface(field: str, text: str) -> str:
    """An interface name; none of dnsmasq's wildcards."""
    return _matching(_INTERFACE, "an interface name of 1 to 15 letters, digits, '_', '-', '.' is needed", field, text)


def mac(field: str, text: str) -> str:
    """A MAC address as typed."""
    return _matching(_MAC, "six hexadecimal groups separated by ':' are needed", field, text)


def duid(field: str, text: str) -> str:
    """A DHCP unique identifier: hexadecimal bytes separated by ``:`` (RFC 8415, at most 130 bytes)."""
    return _matching(_DUID, "hexadecimal bytes separated by ':' are needed", field, text, 400)


def address(field: str, value: IPAddress) -> str:
    """An address in canonical text. A zone (``%eth0``) may be any text in Python and is refused."""
    if isinstance(value, IPv6Address) and value.scope_id is not None:
        raise refuse(field, value, "an address with a zone cannot be used here")
    return str(value)


def server(field: str, value: IPAddress) -> str:
    """Address of an upstream server, where a zone makes sense for a link-local address."""
    if isinstance(value, IPv6Address) and value.scope_id is not None:
        return f"{IPv6Address(int(value))}%{interface(field, value.scope_id)}"
    return str(value)


def bracketed(field: str, value: IPAddress) -> str:
    """An address as dhcp-host and dhcp-option lines want it: IPv6 in brackets."""
    return address(field, value) if isinstance(value, IPv4Address) else f"[{address(field, value)}]"


def quoted(text: str) -> str:
    """``text`` in dnsmasq's double quotes, which take away the meaning of every character in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def needs_quotes(text: str) -> bool:
    """Whether dnsmasq would change or cut ``text`` if it stood in a comma-separated list without quotes."""
    return bool(re.search(r'[",]|(^|\s)#', text)) or text != text.strip()


def quotes_closed(text: str) -> bool:
    """Whether every quoted part of a raw line ends, by dnsmasq's reading: a backslash counts only inside quotes."""
    return re.fullmatch(r'(?:[^"]|"(?:[^"\\]|\\["tnebr\\]|\\(?!["tnebr\\]))*")*', text) is not None
