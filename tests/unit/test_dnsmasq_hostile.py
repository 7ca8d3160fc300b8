"""No value a client sends can become a line, a field or an option it does not belong in.

The values bypass the model's own rules here (``model_construct``): dnsmasq's files are the last line of defence.
"""

import re
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vnetd.dnsmasq.render import render
from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.network import (
    Address,
    Bootp,
    Dhcp,
    DhcpHost,
    DhcpOption,
    DhcpRange,
    Dns,
    DnsForwarder,
    DnsHost,
    DnsService,
    DnsText,
    Domain,
    Mode,
    Network,
)

INJECTED = "conf-script=/bin/evil"
PIECES = ["\n", "\r", "\0", "\x0b", "\x85", "\u2028", " ", "\t", ",", "#", " #", '"', "\\", "/", "=", "@", "%", "*"]
PIECES += ["tag:x", "net:x", "set:x", "id:*", "[::1]", INJECTED, "a", "é", "<300>", "<1100>", "infinite", "ignore"]
LONG = {"<300>": "x" * 300, "<1100>": "x" * 1100}  # written out, they would bury what a failing test shows


def joined(pieces: list[str]) -> str:
    """One text of these pieces."""
    return "".join(LONG.get(piece, piece) for piece in pieces)


hostile = st.sampled_from(PIECES).map(lambda piece: joined([piece])) | st.lists(
    st.sampled_from(PIECES) | st.text(max_size=3), max_size=6
).map(joined)
number = st.none() | st.integers(0, 65535)
zones = hostile.filter(lambda text: bool(text) and not set("%/") & set(text))
zoned = st.builds(lambda zone: IPv6Address(f"fe80::1%{zone}"), zones)
address = st.just(IPv4Address("10.0.0.9")) | st.just(IPv6Address("fd00::9")) | zoned


def text(good: str | None) -> st.SearchStrategy[str | None]:
    """Mostly a good value: else the first refusal would hide all others."""
    return st.integers(0, 7).flatmap(lambda chance: hostile if chance == 7 else st.just(good))


dns = st.builds(
    Dns.model_construct,
    enable=st.none(),
    forward_plain_names=st.none(),
    forwarders=st.just(())
    | st.tuples(st.builds(DnsForwarder.model_construct, domain=text("d.example"), address=st.none() | address)),
    texts=st.tuples(st.builds(DnsText.model_construct, name=text("t"), value=text("v"))),
    services=st.tuples(
        st.builds(
            DnsService.model_construct,
            service=text("sip"),
            protocol=text("tcp"),
            domain=text(None),
            target=text("a.example"),
            port=number,
            priority=number,
            weight=number,
        )
    ),
    hosts=st.just(())
    | st.tuples(st.builds(DnsHost.model_construct, address=address, hostnames=st.tuples(text("h"), text("i")))),
)
dhcp = st.builds(
    Dhcp.model_construct,
    ranges=st.just(()) | st.tuples(st.builds(DhcpRange.model_construct, start=address, end=address, lease=st.none())),
    hosts=st.tuples(
        st.builds(
            DhcpHost.model_construct,
            mac=text("52:54:00:00:00:01"),
            id=st.none(),
            name=text(None),
            address=address,
            lease=st.none(),
        )
    ),
    bootp=st.none() | st.builds(Bootp.model_construct, file=text("f"), server=st.none() | address),
    options=st.just(())
    | st.tuples(st.builds(DhcpOption.model_construct, option=st.just(3) | text("mtu"), values=st.tuples(text("1")))),
)
HARMLESS: Mapping[str, Any] = {"dns": None, "dhcp": Dhcp(), "domain": None, "tftp": None, "options": ()}
parts = st.one_of(
    st.fixed_dictionaries({"dns": dns}),
    st.fixed_dictionaries({"dhcp": dhcp}),
    st.fixed_dictionaries(
        {"domain": st.builds(Domain.model_construct, name=hostile, local_only=st.just(True), register_=st.none())}
    ),
    st.fixed_dictionaries({"tftp": hostile}),
    st.fixed_dictionaries(
        {
            "options": st.tuples(
                st.sampled_from(["log-queries", "address=/x/", ""]).flatmap(
                    lambda start: hostile.map(lambda text: start + text)
                )
            )
        }
    ),
)

EXPECTED = {
    "addn-hosts", "bind-dynamic", "bind-interfaces",
    "dhcp-authoritative", "dhcp-boot", "dhcp-hostsfile", "dhcp-lease-max",
    "dhcp-leasefile", "dhcp-no-override", "dhcp-option", "dhcp-range", "domain", "enable-ra", "enable-tftp",
    "except-interface", "expand-hosts", "interface", "local", "log-async", "no-ping", "no-resolv", "pid-file", "port",
    "servers-file", "srv-host", "strict-order", "tftp-root", "txt-record", "log-queries", "address",
}  # fmt: skip
# How often a part of one network may give a line of a kind.
SEVERAL = {"dhcp-range": 2, "dhcp-option": 2}


def built(part: Mapping[str, Any]) -> Network:
    """A network with this part, whatever the model would say to it."""
    chosen = {**HARMLESS, **part}
    subnets = (
        Address.model_construct(address=ip_interface("10.0.0.1/24"), dhcp=chosen["dhcp"], tftp_root=chosen["tftp"]),
        Address.model_construct(address=ip_interface("fd00::1/64"), dhcp=None),
    )
    return Network.model_construct(
        name="lab",
        mode=Mode.NAT,
        domain=chosen["domain"],
        dns=chosen["dns"],
        addresses=subnets,
        dnsmasq_options=chosen["options"],
    )


def dnsmasq_lines(text: str) -> list[str]:
    """The lines as dnsmasq reads them: at most 1,024 bytes at once, ended by newlines only (``fgets``)."""
    pieces = []
    for line in text.encode().split(b"\n"):
        pieces += [line[at : at + 1024] for at in range(0, len(line), 1024)]
    return [piece.decode(errors="replace").strip() for piece in pieces if piece.strip()]


@settings(max_examples=1000)
@given(parts)
def test_no_value_makes_a_line_that_was_not_meant(part: dict[str, Any]) -> None:
    try:
        instance = render(built(part), uuid="u", bridge="br0", directory="/d", run_directory="/r", upstream=())
    except (Invalid, Unsupported):
        return
    lines = [line for line in dnsmasq_lines(instance.files["dnsmasq.conf"]) if not line.startswith("#")]
    names = Counter(line.partition("=")[0].strip() for line in lines)  # dnsmasq allows blanks there
    assert set(names) <= EXPECTED
    assert all(count <= SEVERAL.get(name, 1) for name, count in names.items())
    assert all(line.startswith("server=") for line in dnsmasq_lines(instance.files["servers"]))
    assert len(dnsmasq_lines(instance.files.get("hosts", ""))) <= 1
    assert len(dnsmasq_lines(instance.files["addnhosts"])) <= 1
    # A zone is any text to Python: only a server may have one, and only an interface's name.
    addressed = [line for line in lines if line.startswith("dhcp-range")]
    assert "%" not in "".join([*addressed, instance.files.get("hosts", ""), instance.files["addnhosts"]])
    assert all(re.fullmatch(r"server=[^ ,@\x00-\x1f]+", line) for line in dnsmasq_lines(instance.files["servers"]))


@given(hostile)
def test_a_line_of_a_static_host_has_the_fields_it_was_given(name: str) -> None:
    host = DhcpHost.model_construct(mac="52:54:00:00:00:01", name=name, address=IPv4Address("10.0.0.9"))
    part = {"dhcp": Dhcp.model_construct(hosts=(host,))}
    try:
        instance = render(built(part), uuid="u", bridge="br0", directory="/d", run_directory="/r", upstream=())
    except Invalid:
        return
    assert instance.files["hosts"].split(",") == [
        "52:54:00:00:00:01",
        *(f"10.0.0.9,{name}".rstrip(",") + "\n").split(","),
    ]
    assert not set(name) & set(' \t\n",#\\/:=')


@given(hostile, hostile)
def test_names_around_the_network_are_checked_as_well(bridge: str, path: str) -> None:
    try:
        instance = render(built({}), uuid="u", bridge=bridge, directory=f"/{path}", run_directory="/r", upstream=())
    except Invalid:
        return
    assert f"\ninterface={bridge}\n" in instance.files["dnsmasq.conf"]
    assert "*" not in bridge and "\n" not in path
    assert f"\nservers-file=/{path}/servers\n" in instance.files["dnsmasq.conf"]
