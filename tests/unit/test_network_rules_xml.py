"""Every rule of the <network> format: the sentence of a refusal names element, value and rule."""

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.xmlcodec.documents import network_to_xml, parse_network

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

REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "no name": ("<network/>", ("<network>", "name is needed")),
    "empty name": ("<network><name/></network>", ("<network>", "name is needed")),
    "slash in name": ("<network><name>a/b</name></network>", ("<name>", "'a/b'", "may not contain '/'")),
    "newline in name": ("<network><name>a\nb</name></network>", ("<name>", r"a\nb", "control character")),
    "name of the parent": ("<network><name>..</name></network>", ("<name>", "'..'", "begin with '.'")),
    "long name": (f"<network><name>{'n' * 201}</name></network>", ("<name>", "200 bytes")),
    "uuid": (doc("<uuid>12</uuid>"), ("<uuid>", "'12'", "32 hexadecimal digits")),
    "newline in title": (doc("<title>a\nb</title>"), ("<title>", "control character")),
    "second name": (doc("<name>m</name>"), ("<name>", "given twice")),
    "unknown element": (doc("<colour/>"), ("<colour>", "unknown in <network>")),
    "unknown attribute": (doc("", " colour='red'"), ("colour='red'", "attribute colour of <network> is unknown")),
    "ipv6 flag": (doc("", " ipv6='maybe'"), ("<network ipv6='maybe'>", "yes or no")),
    "trust flag": (doc("", " trustGuestRxFilters='1'"), ("trustGuestRxFilters='1'", "yes or no")),
    "mtu word": (doc("<mtu size='big'/>"), ("<mtu size='big'>", "number")),
    "mtu too small": (doc("<mtu size='67'/>"), ("<mtu size='67'>", "68")),
    "mtu too large": (doc("<mtu size='65536'/>"), ("<mtu size='65536'>", "65535")),
    "mac": (doc("<mac address='52:54:00'/>"), ("<mac address='52:54:00'>", "six hexadecimal groups")),
    "multicast mac": (doc("<mac address='01:00:5e:00:00:01'/>"), ("<mac", "01:00:5e:00:00:01", "multicast")),
    "isolated ports": (doc("<port isolated='true'/>"), ("<port isolated='true'>", "yes or no")),
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
    # <bridge>
    "bridge name": (doc("<bridge name='a/b'/>"), ("<bridge name='a/b'>", "no name of a bridge")),
    "bridge with two templates": (doc("<bridge name='a%d%d'/>"), ("<bridge name='a%d%d'>", "one '%d'")),
    "long bridge name": (doc("<bridge name='abcdefghijklmnop'/>"), ("<bridge", "1 to 15 bytes")),
    "bridge named all": (doc("<bridge name='all'/>"), ("<bridge name='all'>", "'all'")),
    "delay": (doc("<bridge delay='-1'/>"), ("<bridge delay='-1'>", "number")),
    "mac table": (doc("<bridge macTableManager='default'/>"), ("<bridge macTableManager='default'>", "kernel")),
    "stp in bridge mode": (forward("bridge", "", "<bridge name='br0' stp='on'/>"), ("<bridge stp='on'>", "stp")),
    "stp off in bridge mode": (forward("bridge", "", "<bridge name='b' stp='off'/>"), ("<bridge stp='off'>", "stp")),
    "delay in bridge mode": (forward("bridge", "", "<bridge name='b' delay='1'/>"), ("<bridge delay='1'>", "bridge")),
    "zone in bridge mode": (forward("bridge", "", "<bridge name='b' zone='z'/>"), ("<bridge zone='z'>", "bridge")),
    "bridge in a pool": (forward("vepa", "", BRIDGED), ("<bridge name='br0'>", "has no bridge")),
    "mac table in a pool": (
        forward("private", "", "<bridge macTableManager='kernel'/>"),
        ("<bridge macTableManager='kernel'>", "has no bridge"),
    ),
    "template of a host bridge": (forward("bridge", "", "<bridge name='b%d'/>"), ("<bridge name='b%d'>", "existing")),
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
    # <domain>, <dns>
    "registered domain": (doc("<domain name='d' register='yes'/>"), ("<domain register='yes'>", "localOnly='yes'")),
    "registered public": (
        doc("<domain name='d' register='yes' localOnly='no'/>"),
        ("<domain register='yes'>", "localOnly='yes'"),
    ),
    "localOnly": (doc("<domain name='d' localOnly='1'/>"), ("<domain localOnly='1'>", "yes or no")),
    "dns off with records": (dns("<txt name='a' value='b'/>", " enable='no'"), ("<txt name='a'", "switched off")),
    "dns off with forwarder": (dns("<forwarder addr='1.1.1.1'/>", " enable='no'"), ("<forwarder", "switched off")),
    "dns enable": (dns("", " enable='off'"), ("<dns enable='off'>", "yes or no")),
    "empty forwarder": (dns("<forwarder/>"), ("<forwarder>", "an address, a domain or both")),
    "forwarder name": (dns("<forwarder addr='dns.test'/>"), ("<forwarder addr='dns.test'>", "no IP address")),
    "txt without name": (dns("<txt value='b'/>"), ("<txt value='b'>", "attribute name is needed")),
    "txt without value": (dns("<txt name='a'/>"), ("<txt name='a'>", "attribute value is needed")),
    "txt name with space": (dns("<txt name='a b' value='c'/>"), ("<txt name='a b'>", "spaces and commas")),
    "txt name with comma": (dns("<txt name='a,b' value='c'/>"), ("<txt name='a,b'>", "spaces and commas")),
    "txt line feed": (dns("<txt name='a' value='b&#10;c'/>"), ("<txt value=", "control character")),
    "txt carriage return": (dns("<txt name='a' value='b&#13;c'/>"), ("<txt value=", "control character")),
    "srv without service": (dns("<srv protocol='tcp'/>"), ("<srv protocol='tcp'>", "attribute service is needed")),
    "srv without protocol": (dns("<srv service='a'/>"), ("<srv service='a'>", "attribute protocol is needed")),
    "srv service": (dns("<srv service='a.b' protocol='tcp'/>"), ("<srv service='a.b'>", "no service")),
    "srv long service": (dns(f"<srv service='{'a' * 483}' protocol='tcp'/>"), ("<srv service=", "482")),
    "srv protocol": (dns("<srv service='a' protocol='t_p'/>"), ("<srv protocol='t_p'>", "no protocol")),
    "srv port without target": (dns("<srv service='a' protocol='b' port='1'/>"), ("<srv port='1'>", "needs a target")),
    "srv weight without target": (dns("<srv service='a' protocol='b' weight='1'/>"), ("<srv weight='1'>", "target")),
    "srv port 0": (dns("<srv service='a' protocol='b' target='c' port='0'/>"), ("<srv port='0'>", "1 to 65535")),
    "srv priority": (dns("<srv service='a' protocol='b' target='c' priority='65536'/>"), ("priority='65536'", "65535")),
    "srv target line feed": (dns("<srv service='a' protocol='b' target='c&#10;d'/>"), ("<srv target=", "control")),
    "dns host without ip": (dns("<host><hostname>a</hostname></host>"), ("<host>", "attribute ip is needed")),
    "dns host without name": (dns("<host ip='1.1.1.1'/>"), ("<host ip='1.1.1.1'>", "at least 1 item")),
    "dns host with empty name": (dns("<host ip='1.1.1.1'><hostname/></host>"), ("<hostname>", "at least 1 char")),
    "dns host with spaces": (dns("<host ip='1.1.1.1'><hostname>a b</hostname></host>"), ("'a b'", "no host name")),
    # <ip>
    "ip without address": (doc("<ip prefix='24'/>"), ("<ip prefix='24'>", "attribute address is needed")),
    "ip text": (doc("<ip address='here'/>"), ("<ip address='here'>", "IP address is needed")),
    "ip with zone": (
        doc("<ip family='ipv6' address='fe80::1%eth0' prefix='64'/>"),
        ("<ip address='fe80::1%eth0'>", "zone"),
    ),
    "ip family word": (doc("<ip family='ipx' address='1.1.1.1'/>"), ("<ip family='ipx'>", "ipv4 or ipv6")),
    "ipv6 without family": (doc("<ip address='fd00::1'/>"), ("<ip address='fd00::1'>", "family='ipv6'")),
    "other family": (doc("<ip family='ipv6' address='10.0.0.1'/>"), ("<ip address='10.0.0.1'>", "ipv6")),
    "netmask and prefix": (
        doc("<ip address='10.0.0.1' netmask='255.0.0.0' prefix='8'/>"),
        ("<ip address='10.0.0.1'", "netmask and prefix exclude"),
    ),
    "netmask with ipv6": (
        doc("<ip family='ipv6' address='fd00::1' netmask='255.0.0.0'/>"),
        ("<ip netmask='255.0.0.0'>", "IPv4 only"),
    ),
    "netmask with a gap": (
        doc("<ip address='10.0.0.1' netmask='255.0.255.0'/>"),
        ("<ip netmask='255.0.255.0'>", "without a gap"),
    ),
    "netmask of nothing": (doc("<ip address='10.0.0.1' netmask='0.0.0.0'/>"), ("<ip address='10.0.0.1'>", "subnet")),
    "long prefix": (doc("<ip address='10.0.0.1' prefix='33'/>"), ("<ip prefix='33'>", "0 to 32")),
    "long prefix of ipv6": (doc("<ip family='ipv6' address='fd00::1' prefix='129'/>"), ("prefix='129'", "0 to 128")),
    "no class": (doc("<ip address='240.0.0.1'/>"), ("<ip address='240.0.0.1'>", "no usual prefix length")),
    "multicast": (doc("<ip address='224.0.0.1' prefix='24'/>"), ("<ip address='224.0.0.1'>", "unicast")),
    "localPtr": (doc("<ip address='10.0.0.1' localPtr='on'/>"), ("<ip localPtr='on'>", "yes or no")),
    "overlapping subnets": (
        doc("<ip address='10.0.0.1' prefix='8'/><ip address='10.5.0.1' prefix='16'/>"),
        ("<ip address='10.5.0.1'>", "10.5.0.0/16 overlaps subnet 10.0.0.0/8"),
    ),
    "same subnet twice": (doc(IP + IP), ("<ip address='192.168.5.1'>", "overlaps")),
    "tftp over ipv6": (
        doc("<ip family='ipv6' address='fd00::1' prefix='64'><tftp root='/t'/></ip>"),
        ("<tftp root='/t'>", "IPv4"),
    ),
    # <dhcp>
    "dhcp twice in a family": (
        doc(
            f"<ip address='192.168.5.1' prefix='24'><dhcp>{RANGE}</dhcp></ip>"
            "<ip address='10.0.0.1' prefix='8'><dhcp><host name='a' ip='10.0.0.2'/></dhcp></ip>"
        ),
        ("<dhcp>", "192.168.5.1/24 already"),
    ),
    "range without end": (dhcp("<range start='192.168.5.2'/>"), ("<range", "attribute end is needed")),
    "range text": (dhcp("<range start='a' end='b'/>"), ("<range start='a'>", "no IP address")),
    "range outside": (
        dhcp("<range start='192.168.6.2' end='192.168.6.9'/>"),
        ("<range start='192.168.6.2'>", "outside the subnet 192.168.5.0/24"),
    ),
    "range end outside": (
        dhcp("<range start='192.168.5.2' end='192.168.6.9'/>"),
        ("<range end='192.168.6.9'>", "outside the subnet 192.168.5.0/24"),
    ),
    "range reversed": (
        dhcp("<range start='192.168.5.9' end='192.168.5.2'/>"),
        ("<range end='192.168.5.2'>", "before its start 192.168.5.9"),
    ),
    "range from network address": (
        dhcp("<range start='192.168.5.0' end='192.168.5.2'/>"),
        ("<range start='192.168.5.0'>", "network address"),
    ),
    "range to broadcast address": (
        dhcp("<range start='192.168.5.9' end='192.168.5.255'/>"),
        ("<range end='192.168.5.255'>", "broadcast address"),
    ),
    "range of two families": (
        dhcp("<range start='192.168.5.9' end='fd00::1'/>"),
        ("<range end='fd00::1'>", "different families"),
    ),
    "huge range": (
        doc("<ip address='10.0.0.1' prefix='8'><dhcp><range start='10.1.0.0' end='10.2.0.0'/></dhcp></ip>"),
        ("<range end='10.2.0.0'>", "65537 addresses: 65536 is the limit"),
    ),
    "huge range of ipv6": (
        dhcp6("<range start='fd00::1:0' end='fd00::2:0'/>"),
        ("<range end='fd00::2:0'>", "last 16 bits"),
    ),
    "overlapping ranges": (
        dhcp("<range start='192.168.5.20' end='192.168.5.30'/><range start='192.168.5.10' end='192.168.5.20'/>"),
        ("<range start='192.168.5.10' end='192.168.5.20'>", "overlaps the range 192.168.5.20 to 192.168.5.30"),
    ),
    "short lease": (
        dhcp("<range start='192.168.5.9' end='192.168.5.10'><lease expiry='119' unit='seconds'/></range>"),
        ("<lease expiry='119'>", "120 s is the minimum"),
    ),
    "short lease of a host": (
        dhcp("<host name='a' ip='192.168.5.9'><lease expiry='1'/></host>"),
        ("<lease expiry='1'>", "60 s is too short"),
    ),
    "lease unit": (
        dhcp("<host name='a' ip='192.168.5.9'><lease expiry='9' unit='days'/></host>"),
        ("<lease unit='days'>", "seconds or minutes or hours"),
    ),
    "host without identity": (dhcp("<host ip='192.168.5.9'/>"), ("<host ip='192.168.5.9'>", "needs mac or name")),
    "ipv4 host by id only": (dhcp("<host id='0:1' ip='192.168.5.9'/>"), ("<host id='0:1'", "needs mac or name")),
    "ipv6 host without identity": (dhcp6("<host ip='fd00::9'/>"), ("<host ip='fd00::9'>", "needs id or name")),
    "ipv6 host with mac": (
        dhcp6("<host mac='52:54:0:0:0:1' name='a' ip='fd00::9'/>"),
        ("<host mac='52:54:0:0:0:1'>", "id or name"),
    ),
    "host without ip": (dhcp("<host name='a'/>"), ("<host name='a'>", "attribute ip is needed")),
    "host mac": (dhcp("<host mac='1:2:3' ip='192.168.5.9'/>"), ("<host mac='1:2:3'>", "six hexadecimal groups")),
    "host multicast": (dhcp("<host mac='1:0:0:0:0:1' ip='192.168.5.9'/>"), ("<host mac='1:0:0:0:0:1'>", "multicast")),
    "host id": (dhcp6("<host id='x y' ip='fd00::9'/>"), ("<host id='x y'>", "hexadecimal digits and ':'")),
    "host name": (dhcp("<host name='-a' ip='192.168.5.9'/>"), ("<host name='-a'>", "letter or digit")),
    "bootp without file": (dhcp(RANGE + "<bootp server='1.1.1.1'/>"), ("<bootp", "attribute file is needed")),
    "bootp server": (dhcp(RANGE + "<bootp file='f' server='host'/>"), ("<bootp server='host'>", "no IP address")),
    "bootp over ipv6": (
        dhcp6("<range start='fd00::9' end='fd00::9'/><bootp file='f'/>"),
        ("<bootp file='f'>", "IPv4"),
    ),
    # <route>
    "route without gateway": (route("address='10.0.0.0' prefix='8'"), ("<route", "attribute gateway is needed")),
    "route without address": (route("gateway='192.168.5.9'"), ("<route", "attribute address is needed")),
    "route with host bits": (
        route("address='10.0.0.1' prefix='8' gateway='192.168.5.9'"),
        ("<route address='10.0.0.1'>", "bits set outside its prefix"),
    ),
    "route without prefix": (
        route("address='10.0.0.0' gateway='192.168.5.9'"),
        ("<route address='10.0.0.0'>", "bits set outside its prefix"),
    ),
    "route with both masks": (
        route("address='10.0.0.0' prefix='8' netmask='255.0.0.0' gateway='192.168.5.9'"),
        ("<route", "netmask and prefix exclude"),
    ),
    "route gateway family": (
        route("address='10.0.0.0' prefix='8' gateway='fd00::9'"),
        ("<route gateway='fd00::9'>", "not of the family"),
    ),
    "route gateway elsewhere": (
        route("address='10.0.0.0' prefix='8' gateway='192.168.9.9'"),
        ("<route gateway='192.168.9.9'>", "not in a subnet of the network"),
    ),
    "route metric 0": (
        route("address='10.0.0.0' prefix='8' gateway='192.168.5.9' metric='0'"),
        ("<route metric='0'>", "1 to 4294967295"),
    ),
    # <bandwidth>, <vlan>, <virtualport>, <portgroup>
    "rate without average": (doc("<bandwidth><inbound/></bandwidth>"), ("<inbound>", "average or a floor")),
    "peak without average": (
        doc("<bandwidth><inbound peak='2' floor='1'/></bandwidth>"),
        ("<inbound peak='2'>", "need an average"),
    ),
    "floor": (doc("<bandwidth><inbound average='1' floor='1'/></bandwidth>"), ("<inbound floor='1'>", "single port")),
    "floor outbound": (doc("<bandwidth><outbound floor='1'/></bandwidth>"), ("<outbound floor='1'>", "inbound")),
    "rate word": (doc("<bandwidth><inbound average='x'/></bandwidth>"), ("<inbound average='x'>", "number")),
    "rate limit": (
        doc(f"<bandwidth><inbound average='{2**54 + 1}'/></bandwidth>"),
        (f"<inbound average='{2**54 + 1}'>", str(2**54)),
    ),
    "burst limit": (
        doc("<bandwidth><inbound average='1' burst='4194304'/></bandwidth>"),
        ("<inbound burst='4194304'>", "4194303"),
    ),
    "class id": (doc("<bandwidth classID='3'><inbound average='1'/></bandwidth>"), ("classID='3'", "unknown")),
    "vlan in nat": (nat("", f"{IP}<vlan><tag id='1'/></vlan>"), ("<vlan>", "mode nat cannot have VLANs")),
    "vlan in vepa": (forward("vepa", "", "<vlan><tag id='1'/></vlan>"), ("<vlan>", "vepa")),
    "vlan in macvtap bridge": (
        forward("bridge", "<interface dev='a'/>", "<vlan><tag id='1'/></vlan>"),
        ("<vlan>", "macvtap bridge"),
    ),
    "vlan with Qbg": (
        forward("bridge", "", f"{BRIDGED}<vlan><tag id='1'/></vlan><virtualport type='802.1Qbg'/>"),
        ("<vlan>", "802.1Qbg"),
    ),
    "vlan of a port group with Qbh": (
        forward(
            "hostdev", "", "<portgroup name='g'><vlan><tag id='1'/></vlan><virtualport type='802.1Qbh'/></portgroup>"
        ),
        ("<vlan>", "port group g"),
    ),
    "vlan of the network in such a port group": (
        forward(
            "hostdev", "", "<vlan><tag id='1'/></vlan><portgroup name='g'><virtualport type='802.1Qbh'/></portgroup>"
        ),
        ("<vlan>", "port group g"),
    ),
    "vlan of a port group in nat": (
        nat("", f"{IP}<portgroup name='g'><vlan><tag id='1'/></vlan></portgroup>"),
        ("<vlan>", "port group g"),
    ),
    "vlan without tag": (forward("hostdev", "", "<vlan/>"), ("<vlan>", "at least 1 item")),
    "vlan id": (forward("hostdev", "", "<vlan><tag id='4096'/></vlan>"), ("<tag id='4096'>", "0 to 4095")),
    "vlan without id": (forward("hostdev", "", "<vlan><tag/></vlan>"), ("<tag>", "id is needed")),
    "vlan trunk word": (forward("hostdev", "", "<vlan trunk='on'><tag id='1'/></vlan>"), ("<vlan trunk='on'>", "yes")),
    "vlan no trunk": (
        forward("hostdev", "", "<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>"),
        ("<vlan trunk='no'>", "need a trunk"),
    ),
    "vlan no trunk and native": (
        forward("hostdev", "", "<vlan trunk='no'><tag id='1' nativeMode='tagged'/></vlan>"),
        ("<vlan trunk='no'>", "need a trunk"),
    ),
    "vlan native mode": (
        forward("hostdev", "", "<vlan><tag id='1' nativeMode='yes'/></vlan>"),
        ("<tag nativeMode='yes'>", "tagged or untagged"),
    ),
    "vlan two native": (
        forward("hostdev", "", "<vlan><tag id='1' nativeMode='tagged'/><tag id='2' nativeMode='untagged'/></vlan>"),
        ("<tag nativeMode='untagged'>", "only one VLAN"),
    ),
    "virtual port without type": (forward("hostdev", "", "<virtualport/>"), ("<virtualport>", "needs a type")),
    "virtual port type": (forward("hostdev", "", "<virtualport type='x'/>"), ("<virtualport type='x'>", "802.1Qbg")),
    "virtual port parameter": (
        forward("hostdev", "", "<virtualport type='802.1Qbh'><parameters typeid='1'/></virtualport>"),
        ("<parameters typeid='1'>", "802.1Qbh has no parameter typeid"),
    ),
    "virtual port number": (
        forward("hostdev", "", "<virtualport type='802.1Qbg'><parameters typeid='0x1000000'/></virtualport>"),
        ("<parameters typeid='0x1000000'>", "16777215"),
    ),
    "virtual port uuid": (
        forward("hostdev", "", "<virtualport type='802.1Qbg'><parameters instanceid='1'/></virtualport>"),
        ("<parameters instanceid='1'>", "no UUID"),
    ),
    "virtual port profile": (
        forward("hostdev", "", f"<virtualport type='802.1Qbh'><parameters profileid='{'p' * 40}'/></virtualport>"),
        ("<parameters profileid=", "39 characters"),
    ),
    "port group without name": (doc("<portgroup/>"), ("<portgroup>", "attribute name is needed")),
    "port groups of one name": (
        doc("<portgroup name='g'/><portgroup name='g'/>"),
        ("<portgroup name='g'>", "given twice"),
    ),
    "two default port groups": (
        doc("<portgroup name='g' default='yes'/><portgroup name='h' default='yes'/>"),
        ("<portgroup default='yes'>", "g is the default already"),
    ),
    "dnsmasq option without value": (
        doc("<d:options xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'><d:option/></d:options>"),
        ("<d:option>", "attribute value is needed"),
    ),
    "dnsmasq option of two lines": (
        doc(
            "<d:options xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'>"
            "<d:option value='a&#10;dhcp-script=/x'/></d:options>"
        ),
        ("<d:option", "control character"),
    ),
    "options of another namespace": (
        doc("<d:options xmlns:d='urn:other'/>"),
        ("<d:options>", "unknown in <network>"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_element_value_and_rule(name: str) -> None:
    text, words = REFUSED[name]
    with pytest.raises(Invalid) as caught:
        parse_network(text)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("line 1", *words):
        assert word in message, message


ACCEPTED: dict[str, tuple[str, object, object]] = {
    "uuid without dashes": (doc(f"<uuid>{'ab' * 16}</uuid>"), "str(n.uuid)[:9]", "abababab-"),
    "uuid with space": (doc(f"<uuid> {'ab' * 16}\n</uuid>"), "str(n.uuid)[:9]", "abababab-"),
    "empty title": (doc("<title/>"), "n.title", None),
    "lines of description": (doc("<description>a\n b</description>"), "n.description", "a\n b"),
    "connections": (doc("", " connections='3'"), "n.name", "n"),
    "mtu 0": (doc("<mtu size='0'/>"), "n.mtu", None),
    "mac": (doc("<mac address='52:54:0:A:b:1'/>"), "n.mac", "52:54:00:0a:0b:01"),
    "no mode is nat": (doc(f"<forward/>{IP}"), "n.mode", "nat"),
    "no forward is isolated": (doc(""), "n.mode", "isolated"),
    "mode none is isolated": (forward("none"), "n.mode", "isolated"),
    "dev is the first interface": (
        forward("nat", "<interface dev='a' connections='1'/>", IP, " dev='a'"),
        "n.devices.interfaces",
        ("a",),
    ),
    "dev alone": (forward("nat", "", IP, " dev='a'"), "n.devices.interfaces", ("a",)),
    "dev of an isolated network": (forward("none", "", "", " dev='a'"), "n.devices.interfaces", ()),
    "interfaces before pf": (
        forward("passthrough", f"<interface dev='a'/>{PF}"),
        "(n.devices.interfaces, n.devices.pf)",
        (("a",), None),
    ),
    "addresses before pf": (forward("hostdev", PCI + PF), "(len(n.devices.pci), n.devices.pf)", (1, None)),
    "managed is yes or not": (forward("hostdev", PF, "", " managed='YES'"), "n.devices.managed", True),
    "managed is anything else": (forward("hostdev", PF, "", " managed='x'"), "n.devices.managed", False),
    "hexadecimal PCI": (
        forward("hostdev", "<address type='pci' bus='0xFF' slot='31'/>"),
        "(n.devices.pci[0].bus, n.devices.pci[0].slot)",
        (255, 31),
    ),
    "macvtap bridge": (forward("bridge", "<interface dev='a'/>"), "(n.mode, n.macvtap_mode)", ("macvtap", "bridge")),
    "bridge": (forward("bridge", "", BRIDGED), "(n.mode, n.bridge.name)", ("bridge", "br0")),
    "delay 0 in bridge mode": (forward("bridge", "", "<bridge name='b' delay='0'/>"), "n.bridge.delay", 0),
    "nat ports unset": (nat("<nat><port start='0' end='0'/></nat>"), "n.nat", None),
    "nat ipv6 no": (nat("<nat ipv6='no'/>"), "n.nat.ipv6", False),
    "one nat address": (
        nat("<nat><address start='1.1.1.1' end='1.1.1.1'/></nat>"),
        "str(n.nat.address.end)",
        "1.1.1.1",
    ),
    "stp by default": (doc(""), "n.bridge.stp", True),
    "stp by default with bridge": (doc("<bridge name='b'/>"), "n.bridge.stp", True),
    "stp off": (doc("<bridge stp='off'/>"), "n.bridge.stp", False),
    "stp anything": (doc("<bridge stp='Off'/>"), "n.bridge.stp", True),
    "bridge template": (doc("<bridge name='abcdefghijklmn%d'/>"), "n.bridge.name", "abcdefghijklmn%d"),
    "mac table": (doc("<bridge macTableManager='libvirt'/>"), "n.bridge.mac_table", "vnetd"),
    "domain without name": (doc("<domain localOnly='yes'/>"), "n.domain", None),
    "dns options in a pool": (
        forward("vepa", "<interface dev='a'/>", "<dns enable='no'/>"),
        "n.dns.enable",
        False,
    ),
    "srv without service there": (
        dns("<srv service='a*/+-_' protocol='t+/-' target='.'/>"),
        "n.dns.services[0].target",
        ".",
    ),
    "srv zero is none": (
        dns("<srv service='a' protocol='b' target='c' priority='0' weight='0'/>"),
        "(n.dns.services[0].priority, n.dns.services[0].weight)",
        (None, None),
    ),
    "class A": (doc("<ip address='10.0.0.1'/>"), "n.addresses[0].address.network.prefixlen", 8),
    "class B": (doc("<ip address='172.16.0.1' prefix='0'/>"), "n.addresses[0].address.network.prefixlen", 16),
    "class C": (doc("<ip address='192.168.5.1'/>"), "n.addresses[0].address.network.prefixlen", 24),
    "no prefix of ipv6": (doc("<ip family='ipv6' address='fd00::1'/>"), "n.addresses[0].address.network.prefixlen", 64),
    "octal": (doc("<ip address='010.0.0.1' prefix='8'/>"), "str(n.addresses[0].address)", "8.0.0.1/8"),
    "short form": (doc("<ip address='10.1' prefix='8'/>"), "str(n.addresses[0].address)", "10.0.0.1/8"),
    "empty dhcp": (dhcp(""), "n.addresses[0].dhcp", None),
    "bootp alone": (dhcp("<bootp file='f'/>"), "n.addresses[0].dhcp", None),
    "tftp without root": (ip("<tftp/>"), "n.addresses[0].tftp_root", None),
    "lease of two minutes": (
        dhcp("<range start='192.168.5.9' end='192.168.5.9'><lease expiry='2'/></range>"),
        "n.addresses[0].dhcp.ranges[0].lease.seconds",
        120,
    ),
    "infinite lease": (
        dhcp("<range start='192.168.5.9' end='192.168.5.9'><lease/></range>"),
        "n.addresses[0].dhcp.ranges[0].lease.seconds",
        0,
    ),
    "mac as typed": (
        dhcp("<host mac='52:54:0:A:b:1' ip='192.168.5.9'/>"),
        "n.addresses[0].dhcp.hosts[0].mac",
        "52:54:0:A:b:1",
    ),
    "largest range": (
        doc("<ip address='10.0.0.1' prefix='8'><dhcp><range start='10.1.0.0' end='10.1.255.255'/></dhcp></ip>"),
        "len(n.addresses[0].dhcp.ranges)",
        1,
    ),
    "default route": (route("address='0.0.0.0' gateway='192.168.5.9'"), "str(n.routes[0].destination)", "0.0.0.0/0"),
    "route of ipv6": (
        route("family='ipv6' address='fd01::' prefix='64' gateway='fd00::9'"),
        "str(n.routes[0].destination)",
        "fd01::/64",
    ),
    "average 0": (doc("<bandwidth><inbound average='0'/></bandwidth>"), "n.bandwidth", None),
    "vlan of a host bridge": (
        forward("bridge", "", f"{BRIDGED}<vlan><tag id='1'/><tag id='2'/></vlan>"),
        "n.vlan.trunk",
        True,
    ),
    "vlan trunk no": (forward("hostdev", PF, "<vlan trunk='NO'><tag id='1'/></vlan>"), "n.vlan.trunk", None),
    "vlan that only a default port group allows": (
        forward(
            "bridge",
            "",
            f"{BRIDGED}<vlan><tag id='1'/></vlan><virtualport type='midonet'/>"
            "<portgroup name='g' default='yes'><virtualport type='openvswitch'/></portgroup>",
        ),
        "n.vlan.tags[0].id",
        1,
    ),
    "port group default": (doc("<portgroup name='g' default='YES'/>"), "n.portgroups[0].default", True),
    "port group no default": (doc("<portgroup name='g' default='true'/>"), "n.portgroups[0].default", False),
    "hexadecimal parameters": (
        forward("hostdev", PF, "<virtualport type='802.1Qbg'><parameters typeid='0xFF'/></virtualport>"),
        "n.virtualport.typeid",
        255,
    ),
    "forwarder with zone": (
        dns("<forwarder addr='fe80::1%eth0'/>"),
        "str(n.dns.forwarders[0].address)",
        "fe80::1%eth0",
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_is_accepted_with_libvirts_meaning(name: str) -> None:
    text, expression, expected = ACCEPTED[name]
    network = parse_network(text).value
    assert eval(str(expression), {"n": network}) == expected
    assert parse_network(network_to_xml(network)).value == network


WARNED: dict[str, tuple[str, str]] = {
    "host outside the subnet": (dhcp("<host name='a' ip='10.0.0.9'/>"), "<host ip='10.0.0.9'>: address 10.0.0.9 lies"),
    "host of another family": (dhcp("<host name='a' ip='fd00::9'/>"), "<host ip='fd00::9'>: address fd00::9 lies"),
    "name given twice": (
        dhcp("<host name='a' ip='192.168.5.8'/><host name='a' ip='192.168.5.9'/>"),
        "<host name='a' ip='192.168.5.9'>: name a is given",
    ),
    "mac given twice": (
        dhcp("<host mac='52:54:0:0:0:1' ip='192.168.5.8'/><host mac='52:54:00:00:00:01' ip='192.168.5.9'/>"),
        "mac 52:54:00:00:00:01 is given",
    ),
    "address given twice": (
        dhcp("<host name='a' ip='192.168.5.8'/><host name='b' ip='192.168.5.8'/>"),
        "address 192.168.5.8 is given",
    ),
    "octal": (doc("<ip address='010.0.0.1' prefix='8'/>"), "<ip address='010.0.0.1'>: read as 8.0.0.1"),
    "stp word": (doc("<bridge stp='no'/>"), "<bridge stp='no'>: read as 'on'"),
    "bootp alone": (dhcp("<bootp file='f'/>"), "<bootp file='f'>: without a range or host"),
    "losers among devices": (forward("hostdev", PCI + PF), "pf dropped"),
    "dev of an isolated network": (forward("none", "", "", " dev='a'"), "interfaces dropped"),
    "managed elsewhere": (forward("vepa", "<interface dev='a'/>", "", " managed='yes'"), "managed='yes'"),
    "network address": (doc("<ip address='192.168.5.0' prefix='24'/>"), "network or broadcast address"),
    "small mtu with IPv6": (doc("<mtu size='1000'/><ip family='ipv6' address='fd00::1'/>"), "<mtu size='1000'>: IPv6"),
    "gateway is the host": (
        route("address='10.0.0.0' prefix='8' gateway='192.168.5.1'"),
        "<route gateway='192.168.5.1'>: gateway 192.168.5.1 is the host itself",
    ),
    "empty pool": (forward("vepa"), "without devices"),
    "virtual port of a network with bridge": (doc("<virtualport type='openvswitch'/>"), "<virtualport type="),
    "average 0": (doc("<bandwidth><inbound average='0'/></bandwidth>"), "<inbound average='0'>: an average of 0"),
    "metadata without namespace": (doc("<metadata><a/></metadata>"), "<a> has no namespace"),
    "metadata twice": (
        doc("<metadata xmlns:a='urn:a'><a:x/><a:y/></metadata>"),
        "<a:y> is the second of namespace 'urn:a'",
    ),
    "domain without name": (doc("<domain localOnly='no'/>"), "<domain localOnly='no'>: a domain without a name"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_is_surely_a_mistake_is_accepted_with_a_warning(name: str) -> None:
    text, words = WARNED[name]
    warnings = parse_network(text).warnings
    assert any(words in warning for warning in warnings), warnings


def test_metadata_keeps_what_it_needs_from_elements_around_it() -> None:
    text = (
        "<network xmlns:a='urn:a' xmlns='' ><name>n</name><metadata xmlns:b='urn:b'><a:x b:k='v'/></metadata></network>"
    )
    assert parse_network(text).value.metadata == ('<a:x xmlns:a="urn:a" xmlns:b="urn:b" b:k="v"/>',)


def test_unknown_things_are_dropped_with_leniency_and_each_is_named() -> None:
    text = doc("<colour/>stray<ip address='10.0.0.1' shade='dark'><dhcp><lamp/></dhcp></ip>", " tone='x'")
    parsed = parse_network(text, lenient=True)
    assert parsed.value == parse_network(doc("<ip address='10.0.0.1'/>")).value
    assert [word for word in ("<colour>", "stray", "shade", "<lamp>", "tone") if word not in str(parsed.warnings)] == []


def test_leniency_does_not_forgive_wrong_values() -> None:
    with pytest.raises(Invalid, match="yes or no"):
        parse_network(doc("<port isolated='x'/>"), lenient=True)


def test_a_network_says_nothing_that_was_not_said() -> None:
    assert parse_network(doc("<bridge stp='off'/>")).value == Network(name="n")
