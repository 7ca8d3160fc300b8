"""Documents of libvirt's <network> format by what is special in them, and what a refusal of one has to say."""

import pytest

from vnetd.model.errors import Invalid
from vnetd.xmlcodec.documents import parse_network

IP = "<ip address='192.168.5.1' prefix='24'/>"


def doc(body: str, attributes: str = "") -> str:
    return f"<network{attributes}><name>n</name>{body}</network>"


def nat(inner: str = "", more: str = IP) -> str:
    return doc(f"<forward mode='nat'>{inner}</forward>{more}")


def ip(inner: str) -> str:
    return doc(f"<ip address='192.168.5.1' netmask='255.255.255.0'>{inner}</ip>")


def dhcp(inner: str) -> str:
    return ip(f"<dhcp>{inner}</dhcp>")


def dhcp6(inner: str) -> str:
    return doc(f"<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>{inner}</dhcp></ip>")


def dns(inner: str, attributes: str = "") -> str:
    return doc(f"<dns{attributes}>{inner}</dns>")


def forward(mode: str, inner: str = "", more: str = "", attributes: str = "") -> str:
    return doc(f"<forward mode='{mode}'{attributes}>{inner}</forward>{more}")


def route(attributes: str) -> str:
    return doc(f"{IP}<ip family='ipv6' address='fd00::1' prefix='64'/><route {attributes}/>")


BRIDGED = "<bridge name='br0'/>"
PF = "<pf dev='eth0'/>"
PCI = "<address type='pci' domain='0' bus='1' slot='2' function='3'/>"
RANGE = "<range start='192.168.5.10' end='192.168.5.20'/>"

Refused = dict[str, tuple[str, tuple[str, ...]]]
"""By name of the case: a document, and words of the refusal."""


def refuse(document: str, words: tuple[str, ...]) -> None:
    """See that ``document`` is refused in one sentence that tells the line and has all of ``words``."""
    with pytest.raises(Invalid) as caught:
        parse_network(document)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("line 1", *words):
        assert word in message, message
