"""What a guest gets from its network's DNS server, asked with dig; upstream is a real server outside."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.netns import Guest
from support.site import Administrator, Site
from support.waiting import wait_until

DHCP = {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.99"}]}
FORWARDER = {"address": "203.0.113.1"}


def lab(dns: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A NAT network with DHCP and these DNS settings."""
    addresses = [{"address": "192.168.77.1/24", "dhcp": DHCP}]
    return {"name": "lab", "mode": "nat", "addresses": addresses, "dns": dns, **fields}


def ask(guest: Guest, name: str, kind: str = "A") -> list[str]:
    """Answers of the network's server, [] if there are none."""
    shown = guest.run("dig", "@192.168.77.1", "+short", "+time=2", "+tries=3", name, kind, check=False)
    return shown.splitlines()


def status(guest: Guest, name: str) -> str:
    """How the network's server answers: NOERROR, NXDOMAIN, REFUSED …"""
    shown = guest.run("dig", "@192.168.77.1", "+time=2", "+tries=3", name)
    return shown.partition("status: ")[2].partition(",")[0]


@pytest.fixture
def asked_outside(shared_site: Site, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A DNS server outside that knows ``*.outside.example``; call it for the log of what it was asked."""
    log = tmp_path / "queries"
    server = shared_site.outside.start(
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="),
        *("--address=/outside.example/198.51.100.7", "--log-queries", f"--log-facility={log}"),
        *("--bind-interfaces", "--listen-address=203.0.113.1"),
    )
    wait_until(lambda: shared_site.host.succeeds("dig", "@203.0.113.1", "+time=1", "+tries=1", "up.outside.example"))
    yield log.read_text
    server.kill()
    server.wait()


async def test_a_guest_resolves_what_the_document_lists(admin: Administrator) -> None:
    dns = {
        "hosts": [{"address": "192.168.77.250", "hostnames": ["gateway", "gw"]}],
        "texts": [{"name": "note", "value": "hello world"}],
        "services": [
            {
                "service": "ldap",
                "protocol": "tcp",
                "domain": "lab.example",
                "target": "ldap.lab.example",
                "port": 389,
                "priority": 5,
                "weight": 7,
            }
        ],
    }
    await admin.raise_network(lab(dns))
    guest = await admin.add_guest("lab", "192.168.77.10/24")
    assert ask(guest, "gateway") == ask(guest, "gw") == ["192.168.77.250"]
    assert ask(guest, "note", "TXT") == ['"hello world"']
    assert ask(guest, "_ldap._tcp.lab.example", "SRV") == ["5 7 389 ldap.lab.example."]


async def test_a_guest_is_known_by_the_name_it_registers(admin: Administrator) -> None:
    await admin.raise_network(lab({}, domain={"name": "lab.example", "local_only": True}))
    web = await admin.add_guest("lab", name="web")
    other = await admin.add_guest("lab", "192.168.77.200/24", name="other")
    address = web.lease(hostname="web1")
    assert wait_until(lambda: ask(other, "web1.lab.example"), "it is known") == [address]
    assert ask(other, "web1") == [address]
    pointer = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    assert ask(other, pointer, "PTR") == ["web1.lab.example."]


async def test_what_the_network_does_not_know_is_asked_of_its_forwarder(
    admin: Administrator, asked_outside: Callable[[], str]
) -> None:
    await admin.raise_network(lab({"forwarders": [FORWARDER]}))
    guest = await admin.add_guest("lab", "192.168.77.10/24")
    assert ask(guest, "www.outside.example") == ["198.51.100.7"]
    assert "www.outside.example" in asked_outside()


async def test_a_local_domain_is_never_asked_for_outside(
    admin: Administrator, asked_outside: Callable[[], str]
) -> None:
    domain = {"name": "lab.outside.example", "local_only": True}
    await admin.raise_network(lab({"forwarders": [FORWARDER]}, domain=domain))
    guest = await admin.add_guest("lab", "192.168.77.10/24")
    assert status(guest, "secret.lab.outside.example") == "NXDOMAIN"
    assert ask(guest, "www.outside.example") == ["198.51.100.7"]
    assert "secret" not in asked_outside()


async def test_plain_names_stay_inside_if_the_document_says_so(
    admin: Administrator, asked_outside: Callable[[], str]
) -> None:
    await admin.raise_network(lab({"forwarders": [FORWARDER], "forward_plain_names": False}))
    guest = await admin.add_guest("lab", "192.168.77.10/24")
    assert status(guest, "printer") == "NXDOMAIN"
    assert ask(guest, "www.outside.example") == ["198.51.100.7"]
    assert "printer" not in asked_outside()


async def test_a_forwarder_for_one_domain_is_asked_for_nothing_else(
    admin: Administrator, asked_outside: Callable[[], str]
) -> None:
    await admin.raise_network(lab({"forwarders": [{"domain": "outside.example", **FORWARDER}]}, mode="isolated"))
    guest = await admin.add_guest("lab", "192.168.77.10/24")
    assert ask(guest, "www.outside.example") == ["198.51.100.7"]
    assert ask(guest, "www.elsewhere.example") == []
    assert "elsewhere" not in asked_outside()


async def test_without_dns_nobody_answers_and_leases_are_given_all_the_same(admin: Administrator) -> None:
    await admin.raise_network(lab({"enable": False}))
    guest = await admin.add_guest("lab")
    assert guest.lease()
    assert not guest.succeeds("dig", "@192.168.77.1", "+time=1", "+tries=1", "anything.example")
