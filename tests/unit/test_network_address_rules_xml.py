"""Rules of <dns>, <ip>, <dhcp> and <route>: the sentence of a refusal names element, value and rule."""

import pytest
from support.network_xml import IP, RANGE, Refused, dhcp, dhcp6, dns, doc, refuse, route

REFUSED: Refused = {
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
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_element_value_and_rule(name: str) -> None:
    refuse(*REFUSED[name])
