"""Rules of <forward> and <nat>: the sentence of a refusal names element, value and rule."""

import pytest
from support.network_xml import BRIDGED, IP, PCI, PF, Refused, forward, nat, refuse

REFUSED: Refused = {
    # <forward>
    "mode": (forward("magic"), ("<forward mode='magic'>", "none or nat or route")),
    "nat without ip": (forward("nat"), ("<network>", "mode nat", "at least one IP address")),
    "route without ip": (forward("route"), ("mode route", "at least one IP address")),
    "two uplinks": (
        nat("<interface dev='a'/><interface dev='b'/>"),
        ("<interface dev='b'>", "mode nat", "one interface at most"),
    ),
    "same device twice": (
        forward("vepa", "<interface dev='a'/><interface dev='a'/>"),
        ("<interface dev='a'>", "given twice"),
    ),
    "device without name": (forward("vepa", "<interface/>"), ("<interface>", "attribute dev is needed")),
    "bad device": (forward("vepa", "<interface dev='a b'/>"), ("<interface dev='a b'>", "no interface name")),
    "long device": (forward("vepa", f"<interface dev='{'x' * 16}'/>"), ("<interface", "1 to 15 bytes")),
    "dev is not the first": (
        forward("vepa", "<interface dev='a'/>", attributes=" dev='b'"),
        ("<forward dev='b'>", "first interface", "'a'"),
    ),
    "dev with pf": (forward("passthrough", PF, attributes=" dev='b'"), ("<forward dev='b'>", "<pf>")),
    "dev with address": (forward("hostdev", PCI, attributes=" dev='b'"), ("<forward dev='b'>", "<address>")),
    "open with dev": (forward("open", "", IP, " dev='a'"), ("<forward mode='open' dev='a'>", "mode open")),
    "two pf": (forward("passthrough", PF + PF), ("<pf dev='eth0'>", "only one <pf>")),
    "pf without dev": (forward("passthrough", "<pf/>"), ("<pf>", "attribute dev is needed")),
    "pf with nat": (nat(PF), ("<pf dev='eth0'>", "mode nat")),
    "pci with passthrough": (forward("passthrough", PCI), ("<address", "mode macvtap")),
    "hostdev with interface": (forward("hostdev", "<interface dev='a'/>"), ("<interface", "mode hostdev")),
    "pci twice": (forward("hostdev", PCI + PCI), ("<address", "given twice")),
    "pci type missing": (forward("hostdev", "<address bus='1'/>"), ("<address bus='1'>", "attribute type is needed")),
    "pci type": (forward("hostdev", "<address type='usb'/>"), ("<address type='usb'>", "PCI")),
    "pci slot": (forward("hostdev", "<address type='pci' slot='32'/>"), ("<address slot='32'>", "0 to 31")),
    "default driver": (forward("hostdev", "<driver name='default'/>"), ("<driver name='default'>", "vfio")),
    "driver elsewhere": (forward("vepa", "<driver name='vfio'/>"), ("<driver name='vfio'>", "mode macvtap")),
    "bridge name and devices": (
        forward("bridge", "<interface dev='a'/>", BRIDGED),
        ("<forward mode='bridge'>", "either a bridge name, here 'br0', or"),
    ),
    # <nat>
    "nat in route": (forward("route", "<nat ipv6='yes'/>", IP), ("<nat ipv6='yes'>", "mode route")),
    "empty nat in open": (forward("open", "<nat/>", IP), ("<nat>", "mode open")),
    "two nat": (nat("<nat/><nat/>"), ("<nat>", "only one <nat>")),
    "nat ipv6": (nat("<nat ipv6='1'/>"), ("<nat ipv6='1'>", "yes or no")),
    "nat address without end": (nat("<nat><address start='1.1.1.1'/></nat>"), ("<address", "attribute end is needed")),
    "nat address ipv6": (
        nat("<nat><address start='fd00::1' end='fd00::2'/></nat>"),
        ("<address start='fd00::1'>", "no IPv4 address"),
    ),
    "nat address reversed": (
        nat("<nat><address start='1.1.1.9' end='1.1.1.1'/></nat>"),
        ("<address end='1.1.1.1'>", "before the first, 1.1.1.9"),
    ),
    "nat addresses too many": (
        nat("<nat><address start='1.1.0.0' end='1.2.0.0'/></nat>"),
        ("<address end='1.2.0.0'>", "65537", "65536 is the limit"),
    ),
    "two nat addresses": (
        nat("<nat><address start='1.1.1.1' end='1.1.1.1'/><address start='1.1.1.1' end='1.1.1.1'/></nat>"),
        ("<address", "only one <address>"),
    ),
    "nat port reversed": (nat("<nat><port start='9' end='5'/></nat>"), ("<port end='5'>", "greater than the first, 9")),
    "nat port of one": (nat("<nat><port start='9' end='9'/></nat>"), ("<port end='9'>", "greater than the first, 9")),
    "nat port too high": (nat("<nat><port start='9' end='65536'/></nat>"), ("<port end='65536'>", "0 to 65535")),
    "nat port word": (nat("<nat><port start='x' end='5'/></nat>"), ("<port start='x'>", "number")),
    "nat port without end": (nat("<nat><port start='5'/></nat>"), ("<port start='5'>", "start and end are needed")),
    # what pools cannot have
    "ip in bridge mode": (forward("bridge", "", BRIDGED + IP), ("<ip address='192.168.5.1'", "mode bridge")),
    "mac in bridge mode": (forward("bridge", "", BRIDGED + "<mac address='52:54:0:0:0:1'/>"), ("<mac", "mode bridge")),
    "mtu in passthrough": (forward("passthrough", "", "<mtu size='1500'/>"), ("<mtu size='1500'>", "mode macvtap")),
    "domain in vepa": (forward("vepa", "", "<domain name='d'/>"), ("<domain name='d'>", "mode macvtap")),
    "txt in vepa": (forward("vepa", "", "<dns><txt name='a' value='b'/></dns>"), ("<txt", "mode macvtap")),
    "srv in vepa": (forward("vepa", "", "<dns><srv service='a' protocol='b'/></dns>"), ("<srv", "mode macvtap")),
    "dns host in hostdev": (
        forward("hostdev", "", "<dns><host ip='1.1.1.1'><hostname>a</hostname></host></dns>"),
        ("<host ip='1.1.1.1'>", "mode hostdev"),
    ),
    "route in bridge mode": (
        forward("bridge", "", BRIDGED + "<route address='10.0.0.0' prefix='8' gateway='1.1.1.1'/>"),
        ("<route", "mode bridge"),
    ),
    "bandwidth in vepa": (
        forward("vepa", "", "<bandwidth><inbound average='1'/></bandwidth>"),
        ("<bandwidth>", "mode macvtap"),
    ),
    "bandwidth of a port group in hostdev": (
        forward("hostdev", "", "<portgroup name='g'><bandwidth><inbound average='1'/></bandwidth></portgroup>"),
        ("<bandwidth>", "mode hostdev"),
    ),
    "isolation in vepa": (forward("vepa", "", "<port isolated='yes'/>"), ("<port isolated='yes'>", "mode macvtap")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_element_value_and_rule(name: str) -> None:
    refuse(*REFUSED[name])
