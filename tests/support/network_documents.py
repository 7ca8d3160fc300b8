"""Hypothesis strategies for networks that are valid by construction, as native JSON data."""

from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

Fields = dict[str, Any]
LINE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=12,
)
WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=10).map(lambda text: "a" + text)
FLAG = st.sampled_from([True, False])
METADATA = st.sampled_from(
    [
        '<a:x xmlns:a="urn:a"/>',
        '<x xmlns="urn:b">text &amp; <y/></x>',
        '<c:x xmlns:c="urn:c" k="&quot;"><c:y>1\n 2</c:y><!-- c --><z/></c:x>',
    ]
)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
    """Any choice of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def with_fields(needed: Fields, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
    """These fields and any choice of the others."""
    return st.fixed_dictionaries(needed, optional=optional)


def lists(item: st.SearchStrategy[Any], unique: Any = None) -> st.SearchStrategy[list[Any]]:
    return st.lists(item, max_size=3, unique_by=unique)


LEASE = st.one_of(
    st.just({"expiry": 0}),
    st.builds(
        lambda number, unit: {"expiry": number, "unit": unit},
        st.integers(120, 10**6),
        st.sampled_from(["seconds", "minutes", "hours"]),
    ),
)
IPV4 = st.ip_addresses(v=4).map(str)
IP = st.ip_addresses().map(str)
DNS = some(
    forward_plain_names=FLAG,
    enable=st.just(True),
    forwarders=lists(st.one_of(st.builds(lambda a: {"address": a}, IP), st.builds(lambda d: {"domain": d}, WORD))),
    texts=lists(st.builds(lambda n, v: {"name": n, "value": v}, WORD, LINE.filter(str.strip))),
    services=lists(
        with_fields(
            {"service": WORD, "protocol": st.sampled_from(["tcp", "udp"]), "target": WORD},
            domain=WORD,
            port=st.integers(1, 65535),
            priority=st.integers(0, 65535),
            weight=st.integers(0, 65535),
        )
    ),
    hosts=lists(st.builds(lambda a, names: {"address": a, "hostnames": names}, IP, st.lists(WORD, min_size=1))),
)
RATE = with_fields({"average": st.integers(1, 2**54)}, peak=st.integers(1, 2**54), burst=st.integers(1, 2**22 - 1))
BANDWIDTH = some(inbound=RATE, outbound=RATE)
NAT = some(
    ipv6=FLAG,
    ports=st.builds(lambda a, n: {"start": a, "end": a + n}, st.integers(0, 60000), st.integers(1, 5000)),
    address=st.builds(
        lambda first, n: {"start": f"198.51.{first}.1", "end": f"198.51.{first}.{n}"},
        st.integers(0, 255),
        st.integers(1, 254),
    ),
)
DOMAIN = st.one_of(
    with_fields({"name": WORD}, local_only=FLAG), st.builds(lambda n: {"name": n, "register": True}, WORD)
)


def _ipv4(subnet: int, host: Fields) -> st.SearchStrategy[Fields]:
    base = f"10.{subnet}.7"
    dhcp = with_fields(
        {
            "ranges": st.builds(
                lambda size, lease: [{"start": f"{base}.10", "end": f"{base}.{10 + size}", **lease}],
                st.integers(0, 90),
                some(lease=LEASE),
            )
        },
        hosts=lists(st.just(host)),
        options=lists(st.builds(lambda o, v: {"option": o, "values": [v]}, st.one_of(st.integers(1, 254), WORD), WORD)),
        bootp=with_fields({"file": WORD}, server=IPV4),
    )
    return with_fields(
        {"address": st.sampled_from([f"{base}.1/24", f"{base}.1/25"])},
        local_ptr=FLAG,
        tftp_root=WORD.map(lambda name: f"/srv/{name}"),
        xml_family=FLAG,
        xml_mask=st.sampled_from(["prefix"]),
        **({"dhcp": dhcp} if subnet == 0 else {}),
    )


def _ipv6(subnet: int) -> st.SearchStrategy[Fields]:
    base = f"fd00:{subnet + 1:x}:"
    dhcp = st.builds(
        lambda size: {"ranges": [{"start": f"{base}:10", "end": f"{base}:{16 + size:x}"}]}, st.integers(0, 60000)
    )
    return with_fields(
        {"address": st.just(f"{base}:1/64")},
        local_ptr=FLAG,
        xml_mask=st.just("none"),
        **({"dhcp": dhcp} if subnet == 0 else {}),
    )


@st.composite
def addresses(draw: st.DrawFn, least: int) -> list[Fields]:
    """Addresses of subnets that do not overlap; the first of each family may have DHCP."""
    host = draw(
        with_fields({"address": st.just("10.0.7.5"), "mac": st.sampled_from(["52:54:0:1:2:A"])}, name=WORD, lease=LEASE)
    )
    found = [draw(_ipv4(index, host)) for index in range(draw(st.integers(least, 3)))]
    return found + [draw(_ipv6(index)) for index in range(draw(st.integers(0, 2)))]


def _routes(found: list[Fields]) -> st.SearchStrategy[list[Fields]]:
    if not found:
        return st.just([])
    subnet = ip_network(found[0]["address"], strict=False)
    inner = {4: "172.20.0.0/16", 6: "fd99::/32"}[subnet.version]
    return lists(
        with_fields(
            {"destination": st.just(inner), "gateway": st.just(str(subnet[3]))}, metric=st.integers(1, 2**32 - 1)
        )
    )


COMMON = {
    "uuid": st.uuids().map(str),
    "title": LINE,
    "description": st.text(st.sampled_from("ab\n\t\r'\"<&>é "), max_size=9),
    "metadata": st.lists(METADATA, unique=True, max_size=3),
    "trust_guest_rx_filters": FLAG,
    "guest_ipv6": FLAG,
}


@st.composite
def virtual_networks(draw: st.DrawFn) -> Fields:
    """Networks with a bridge of their own."""
    mode = draw(st.sampled_from(["isolated", "nat", "route", "open"]))
    found = draw(addresses(1 if mode in {"nat", "route"} else 0))
    fields = draw(
        with_fields(
            {"name": WORD},
            **COMMON,
            bridge=some(
                name=st.sampled_from(["virbr0", "br%d", "b-1.x"]),
                zone=WORD,
                stp=FLAG,
                delay=st.integers(0, 30),
                mac_table=st.sampled_from(["kernel", "vnetd"]),
                multicast_snooping=FLAG,
            ),
            mtu=st.integers(1280, 9000),
            mac=st.just("52:54:00:aa:bb:cc"),
            domain=DOMAIN,
            dns=DNS,
            bandwidth=BANDWIDTH,
            isolated_ports=FLAG,
            routes=_routes(found),
            portgroups=lists(with_fields({"name": WORD}, bandwidth=BANDWIDTH), unique=lambda one: one["name"]),
            dnsmasq_options=lists(LINE.filter(str.strip)),
            host_access=FLAG,
            forwards=lists(
                with_fields(
                    {"protocol": st.sampled_from(["tcp", "udp"]), "listen": st.integers(1, 65535), "to": WORD},
                    port=st.integers(1, 65535),
                ),
                unique=lambda one: (one["protocol"], one["listen"]),
            ),
            access=st.builds(lambda names: {"attach": names}, lists(WORD.map(lambda name: f"@{name}"))),
        )
    )
    fields |= {"mode": mode, "addresses": found}
    if mode == "nat":
        fields |= draw(some(nat=NAT))
    if mode in {"nat", "route"}:
        fields |= draw(some(devices=st.just({"interfaces": ["eth0"]})))
    return fields


@st.composite
def pool_networks(draw: st.DrawFn) -> Fields:
    """Networks over host devices or a bridge of the host."""
    vlan = st.builds(
        lambda ids, native: {"tags": [{"id": ids[0], **native}, *({"id": one} for one in ids[1:])]},
        st.lists(st.integers(0, 4095), min_size=1, max_size=3),
        some(native=st.sampled_from(["tagged", "untagged"])),
    )
    fields = draw(with_fields({"name": WORD}, **COMMON))
    return fields | draw(
        st.one_of(
            with_fields(
                {"mode": st.just("bridge"), "bridge": st.just({"name": "br0"})}, vlan=vlan, bandwidth=BANDWIDTH
            ),
            with_fields(
                {"mode": st.just("macvtap"), "macvtap_mode": st.sampled_from(["bridge", "vepa", "private"])},
                devices=st.sampled_from([{"interfaces": ["eth0", "eth1"]}, {"pf": "eth0"}]),
            ),
            with_fields(
                {"mode": st.just("macvtap"), "macvtap_mode": st.just("passthrough")},
                devices=st.just({"interfaces": ["eth0"]}),
                vlan=vlan,
                virtualport=with_fields({"type": st.just("802.1Qbh")}, profileid=WORD),
            ),
            with_fields(
                {"mode": st.just("hostdev")},
                devices=st.sampled_from(
                    [
                        {"pf": "eth0", "managed": True},
                        {"pci": [{"bus": 3, "slot": 31, "function": 7}, {"domain": 1}], "driver": "vfio"},
                    ]
                ),
                vlan=vlan,
                virtualport=with_fields({"type": st.just("802.1Qbg")}, typeid=st.integers(0, 0xFFFFFF)),
            ),
        )
    )


NETWORKS = st.one_of(virtual_networks(), pool_networks())
