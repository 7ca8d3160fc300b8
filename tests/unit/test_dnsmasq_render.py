"""A network's dnsmasq files: worked examples word by word, and the rules behind them."""

import json
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from vnetd.dnsmasq.render import HEADER, needs_dnsmasq, render
from vnetd.dnsmasq.servers import nameservers
from vnetd.model.errors import Invalid
from vnetd.model.network import Address, Dhcp, DhcpHost, Network
from vnetd.plan.dnsmasq import Instance

GOLDEN = Path(__file__).resolve().parents[1] / "golden/dnsmasq"
UUID = "8a54c7f3-e910-4d12-8312-34a11467ac86"
DHCP4 = {"address": "10.0.0.1/24", "dhcp": {"ranges": [{"start": "10.0.0.2", "end": "10.0.0.9"}]}}


def network(**fields: Any) -> Network:
    """A network as a client's JSON would make it."""
    document = {"name": "lab", "mode": "nat", "addresses": [DHCP4]} | fields
    return Network.model_validate_json(json.dumps(document))


def rendered(wanted: Network, upstream: tuple[str, ...] = ("192.0.2.53",)) -> Instance:
    """Its files with fixed names around it."""
    return render(wanted, uuid=UUID, bridge="virbr0", directory="/d", run_directory="/r", upstream=upstream)


def lines(wanted: Network, name: str = "dnsmasq.conf") -> list[str]:
    """The lines of one file."""
    return rendered(wanted).files[name].splitlines()


def dhcp_host(address: str, **host: Any) -> Network:
    """A network with one static host, of which the model's own rules were not asked."""
    where = ip_address(address)
    unchecked = DhcpHost.model_construct(address=where, **host)
    subnet = ip_interface("fd00::1/64" if where.version == 6 else "10.0.0.1/24")
    with_host = Address.model_construct(address=subnet, dhcp=Dhcp.model_construct(hosts=(unchecked,)))
    return network().model_copy(update={"addresses": (with_host,)})


@pytest.mark.parametrize("document", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_documents_give_exactly_these_files(document: Path) -> None:
    instance = rendered(Network.model_validate_json(document.read_text()))
    shown = "".join(f"== {name}\n{text.removeprefix(HEADER + chr(10))}" for name, text in instance.files.items())
    assert shown == document.with_suffix(".expected").read_text()


def test_a_network_without_address_or_service_needs_no_dnsmasq() -> None:
    bare = {"address": "10.0.0.1/24"}
    assert not needs_dnsmasq(network(mode="isolated", addresses=[]))
    assert not needs_dnsmasq(network(addresses=[bare], dns={"enable": False}))
    assert not needs_dnsmasq(network(mode="bridge", addresses=[], bridge={"name": "br0"}))
    assert not needs_dnsmasq(network(addresses=[bare | {"dhcp": {"bootp": {"file": "x"}}}], dns={"enable": False}))


def test_dns_dhcp_and_tftp_each_need_dnsmasq() -> None:
    bare, no_dns = {"address": "10.0.0.1/24"}, {"enable": False}
    assert needs_dnsmasq(network(addresses=[bare]))
    assert needs_dnsmasq(network(addresses=[DHCP4], dns=no_dns))
    assert needs_dnsmasq(network(addresses=[bare | {"tftp_root": "/srv"}], dns=no_dns))


def test_the_hosts_servers_are_asked_unless_a_forwarder_takes_everything() -> None:
    assert lines(network(), "servers") == ["server=192.0.2.53"]
    one_domain = network(dns={"forwarders": [{"domain": "corp.example", "address": "10.9.9.9"}]})
    assert lines(one_domain, "servers") == ["server=/corp.example/10.9.9.9", "server=192.0.2.53"]
    everything = network(dns={"forwarders": [{"address": "10.9.9.9"}]})
    assert lines(everything, "servers") == ["server=10.9.9.9"]


def test_an_isolated_network_asks_no_server_of_the_host() -> None:
    assert rendered(network(mode="isolated")).files["servers"] == ""


def test_a_new_upstream_server_changes_only_the_file_that_is_read_on_a_signal() -> None:
    before, after = rendered(network(), ("192.0.2.1",)).files, rendered(network(), ("192.0.2.2",)).files
    assert {name for name in before if before[name] != after[name]} == {"servers"}


def test_no_dns_means_no_port_no_records_and_no_files_for_it() -> None:
    silent = network(dns={"enable": False})
    assert "port=0" in lines(silent)
    assert "port=53" in lines(network())  # vnetd launches it with 0, so that it serves nobody before it has read this
    assert set(rendered(silent).files) == {"dnsmasq.conf", "hosts"}


def test_a_reverse_zone_is_local_only_where_the_subnet_is_one() -> None:
    with pytest.raises(Invalid, match=r"local_ptr.*10\.0\.0\.1/20"):
        lines(network(addresses=[{"address": "10.0.0.1/20", "local_ptr": True}]))
    with pytest.raises(Invalid, match="reverse zone"):
        lines(network(addresses=[{"address": "fd00::1/62", "local_ptr": True}]))


@pytest.mark.parametrize(
    ("lease", "text"),
    [
        ({"expiry": 0}, "infinite"),
        ({"expiry": 180, "unit": "seconds"}, "180s"),
        ({"expiry": 30}, "30m"),
        ({"expiry": 24, "unit": "hours"}, "24h"),
        ({"expiry": 2**63, "unit": "hours"}, "infinite"),
    ],
)
def test_lease_times_are_given_as_written_and_never_overflow(lease: dict[str, Any], text: str) -> None:
    span = {"start": "10.0.0.2", "end": "10.0.0.9", "lease": lease}
    wanted = network(addresses=[{"address": "10.0.0.1/24", "dhcp": {"ranges": [span]}}])
    assert f"dhcp-range=10.0.0.2,10.0.0.9,255.255.255.0,{text}" in lines(wanted)


def test_fixed_hosts_beside_the_ranges_do_not_use_up_their_leases() -> None:
    dhcp = {"ranges": [{"start": "10.0.0.2", "end": "10.0.0.9"}], "hosts": []}
    dhcp["hosts"] = [{"name": f"h{n}", "address": f"10.0.0.{n}"} for n in (5, 50, 51)]
    assert "dhcp-lease-max=10" in lines(network(addresses=[{"address": "10.0.0.1/24", "dhcp": dhcp}]))


def test_a_raw_limit_on_leases_takes_the_place_of_the_computed_one() -> None:
    limited = [line for line in lines(network(dnsmasq_options=["dhcp-lease-max=3"])) if "lease-max" in line]
    assert limited == ["dhcp-lease-max=3"]  # given twice, dnsmasq would not start


def test_raw_options_come_last() -> None:
    assert lines(network(dnsmasq_options=["cache-size=10", "log-queries"]))[-2:] == ["cache-size=10", "log-queries"]


def test_many_names_of_one_address_are_spread_over_lines_dnsmasq_can_read() -> None:
    names = [f"a-rather-long-name-of-a-host-{n}.example.com" for n in range(100)]
    found = lines(network(dns={"hosts": [{"address": "10.0.0.7", "hostnames": names}]}), "addnhosts")
    assert max(map(len, found)) <= 1000
    assert [name for line in found for name in line.split("\t")[1:-1]] == names
    assert {line.split("\t")[0] for line in found} == {"10.0.0.7"}


def test_dhcpv6_on_a_subnet_wider_than_dnsmasq_can_serve_is_refused() -> None:
    span = {"start": "fd00::2", "end": "fd00::9"}
    with pytest.raises(Invalid, match=r"fd00::1/48.*64"):
        lines(network(addresses=[{"address": "fd00::1/48", "dhcp": {"ranges": [span]}}]))


@pytest.mark.parametrize("name", ["infinite", "ignore", "2h", "12", "10.0.0.5", "-x", "a,b", "a b", 'a"'])
def test_a_host_name_that_dnsmasq_would_misread_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="DHCP host name"):
        lines(dhcp_host(name=name, address="10.0.0.5"), "hosts")


def test_a_host_without_identity_is_refused() -> None:
    with pytest.raises(Invalid, match="neither mac nor name"):
        lines(dhcp_host(id="00:01", address="10.0.0.5"), "hosts")
    with pytest.raises(Invalid, match="neither id nor name"):
        lines(dhcp_host(mac="52:54:00:00:00:01", address="fd00::5"), "hosts")


def test_text_records_keep_what_dnsmasq_would_take_for_a_comment_or_a_quote() -> None:
    def record(value: str) -> str:
        found = lines(network(dns={"texts": [{"name": "t", "value": value}]}))
        return next(line for line in found if line.startswith("txt-record="))

    assert record("k=v; x=y") == "txt-record=t,k=v; x=y"
    assert record("one # two") == 'txt-record=t,"one # two"'
    assert record('"a,b",c') == 'txt-record=t,"a,b",c'
    with pytest.raises(Invalid, match="not closed"):
        record('say "hi')


def test_name_servers_are_read_from_resolv_conf_whatever_else_it_holds() -> None:
    text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nsearch x\nnameserver fe80::1%eth0\nnameserver 127.0.0.53\n"
    assert nameservers(text + "nameserver\nnameserver nonsense\nnameserver fe80::1%a,b\n options\x00") == (
        "127.0.0.53",
        "fe80::1%eth0",
    )


def test_a_value_too_long_for_one_line_of_dnsmasq_is_refused() -> None:
    # dnsmasq takes what stands behind the 1,024th byte for a line of its own
    value = "x" * 1011 + "conf-script=/bin/sh"
    with pytest.raises(Invalid, match=r"TXT record value.*1000"):
        lines(network(dns={"texts": [{"name": "t", "value": value}]}))
