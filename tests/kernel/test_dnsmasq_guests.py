"""What guests get from the dnsmasq of their network: leases, names, advertisements."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.dnsmasq import ADDRESSES, BRIDGE, RANGE4, RANGE6, UUID, Served
from support.netns import Guest, Namespace
from support.waiting import eventually, wait_until

from vnetd.dnsmasq.leases import Lease, parse
from vnetd.host.events import FileEvent
from vnetd.linux.ethtool import disable_tx_checksum

MAC = "52:54:00:00:77:01"
Plug = Callable[..., Guest]


@pytest.fixture
def root() -> Iterator[Path]:
    """A daemon's root which, unlike pytest's own directories, dnsmasq's user can enter."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made)


async def leases_of(served: Served) -> tuple[Lease, ...]:
    """What the lease file holds."""
    return parse(await served.host.leases(UUID) or "") or ()


def plug(guest: Plug) -> Guest:
    """A guest at the bridge, whose checksums are completed as vnetd's kernel part would have it."""
    plugged = guest(BRIDGE, mac=MAC)
    disable_tx_checksum(BRIDGE)
    return plugged


def dhclient6(guest: Guest, directory: Path) -> str:
    """Get a DHCPv6 lease and return its address; dhclient's script would configure it and is not run."""
    wait_until(lambda: "fe80" in guest.run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"))
    lease = directory / "dhclient6.leases"
    guest.run(*("dhclient", "-6", "-1", "-sf", "/bin/true", "-lf", str(lease), "-pf", str(directory / "pid"), "eth0"))
    return next(line.split()[1] for line in lease.read_text().splitlines() if line.strip().startswith("iaaddr"))


async def test_a_guest_gets_an_ipv4_lease_that_is_reported(served: Served, guest: Plug) -> None:
    await served.host.start(served.instance())
    served.events.clear()
    address = plug(guest).lease()
    assert address.startswith("192.168.77.")
    await eventually(lambda: FileEvent(UUID, "leases") in served.events)
    (lease,) = await leases_of(served)
    assert (str(lease.address), lease.family, lease.mac) == (address, "ipv4", MAC)


async def test_a_guest_gets_an_ipv6_lease_with_its_mac_known(served: Served, guest: Plug, tmp_path: Path) -> None:
    await served.host.start(served.instance())
    address = dhclient6(plug(guest), tmp_path)
    assert address.startswith("fd77::")
    (lease,) = await leases_of(served)
    assert (str(lease.address), lease.family, lease.mac) == (address, "ipv6", MAC)
    assert lease.iaid and lease.server_duid


async def test_a_lease_is_kept_when_dnsmasq_is_started_anew(served: Served, guest: Plug) -> None:
    await served.host.start(served.instance())
    plugged = plug(guest)
    address = plugged.lease()
    await served.host.start(served.instance(dnsmasq_options=["cache-size=10"]))
    assert [str(lease.address) for lease in await leases_of(served)] == [address]
    assert plugged.lease() == address


async def test_a_static_host_added_by_a_reload_gets_its_address_and_name(served: Served, guest: Plug) -> None:
    await served.host.start(served.instance())
    pid = (await served.host.observe(UUID)).pid
    fixed = {"mac": MAC, "name": "web1", "address": "192.168.77.5"}
    await served.host.reload(
        served.instance(addresses=[{"address": "192.168.77.1/24", "dhcp": RANGE4 | {"hosts": [fixed]}}, ADDRESSES[1]])
    )
    plugged = plug(guest)
    await eventually(lambda: plugged.lease() == "192.168.77.5")
    assert (await served.host.observe(UUID)).pid == pid
    assert [lease.hostname for lease in await leases_of(served)] == ["web1"]


async def test_an_isolated_guest_is_given_no_router(served: Served, guest: Plug) -> None:
    plugged = plug(guest)
    await served.host.start(served.instance())
    plugged.lease()
    assert plugged.ip("route", "show", "default")
    await served.host.start(served.instance(mode="isolated"))
    plugged.run("ip", "route", "flush", "default", check=False)
    plugged.lease()
    assert plugged.ip("route", "show", "default") == []


async def test_options_reach_the_guest(served: Served, guest: Plug, tmp_path: Path) -> None:
    options = [{"option": "router", "values": ["192.168.77.254"]}, {"option": 17, "values": ["/a # b"]}]
    addresses = [{"address": "192.168.77.1/24", "dhcp": RANGE4 | {"options": options}}]
    await served.host.start(served.instance(addresses=addresses))
    plugged = plug(guest)
    seen = tmp_path / "seen"
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\n[ "$1" = bound ] && echo "$router|$rootpath" > {seen}\nexit 0\n')
    script.chmod(0o755)
    plugged.run("udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "20", "-T", "1", "-O", "rootpath", "-s", str(script))
    assert seen.read_text() == "192.168.77.254|/a # b\n"


async def test_records_and_names_are_answered(served: Served, guest: Plug) -> None:
    dns = {
        "hosts": [{"address": "192.168.77.9", "hostnames": ["printer", "scanner"]}],
        "texts": [
            {"name": "plain", "value": "hello world"},
            {"name": "odd", "value": "one # two"},
            {"name": "two", "value": "a,b"},
        ],
        "services": [
            {
                "service": "sip",
                "protocol": "udp",
                "domain": "lab.test",
                "target": "printer.lab.test",
                "port": 5060,
                "priority": 3,
                "weight": 7,
            }
        ],
    }
    await served.host.start(served.instance(dns=dns, domain={"name": "lab.test", "local_only": True}))
    plugged = plug(guest)
    plugged.lease()

    def ask(name: str, kind: str = "A", server: str = "192.168.77.1") -> str:
        return plugged.run("dig", "+short", "+time=2", f"@{server}", name, kind).strip()

    assert ask("printer.lab.test") == ask("scanner") == "192.168.77.9"
    assert ask("9.77.168.192.in-addr.arpa", "PTR") == "printer.lab.test."
    assert ask("plain", "TXT") == '"hello world"'
    assert ask("odd", "TXT") == '"one # two"'
    assert ask("two", "TXT") == '"a" "b"'
    assert ask("_sip._udp.lab.test", "SRV") == "3 7 5060 printer.lab.test."
    assert ask("nobody.lab.test") == ""


async def test_a_new_upstream_server_is_used_without_a_restart(served: Served, guest: Plug, host_ns: Namespace) -> None:
    await served.host.start(served.instance())
    pid = (await served.host.observe(UUID)).pid
    host_ns.run("ip", "address", "add", "127.9.9.9/32", "dev", "lo", check=False)
    upstream = host_ns.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="),
        *("--listen-address=127.9.9.9", "--bind-interfaces", "--address=/far.example/203.0.113.7"),
    )
    try:
        plugged = plug(guest)
        plugged.lease()
        ask = ("dig", "+short", "+time=1", "@192.168.77.1", "far.example")
        await served.host.reload(served.instance(dns={"forwarders": [{"address": "127.9.9.9"}]}))
        await eventually(lambda: "203.0.113.7" in plugged.run(*ask, check=False))
    finally:
        upstream.kill()
        upstream.wait()
    assert (await served.host.observe(UUID)).pid == pid


async def test_guests_are_advertised_the_prefix(served: Served, guest: Plug) -> None:
    await served.host.start(served.instance(addresses=[ADDRESSES[0], {"address": "fd77::1/64"}]))
    plugged = plug(guest)
    wait_until(lambda: plugged.run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"))
    assert "fd77::/64" in plugged.run("rdisc6", "-1", "-w", "5000", "eth0", check=False)


async def test_a_static_ipv6_host_gets_its_address_by_duid(served: Served, guest: Plug, tmp_path: Path) -> None:
    plugged = plug(guest)
    fixed = {"id": "00:03:00:01:" + MAC, "name": "six", "address": "fd77::22"}
    addresses = [ADDRESSES[0], {"address": "fd77::1/64", "dhcp": RANGE6 | {"hosts": [fixed]}}]
    await served.host.start(served.instance(addresses=addresses))
    wait_until(lambda: "fe80" in plugged.run("ip", "-6", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"))
    lease = tmp_path / "leases"
    plugged.run(
        *("dhclient", "-6", "-1", "-D", "LL", "-sf", "/bin/true", "-lf", str(lease), "-pf", str(tmp_path / "pid")),
        "eth0",
    )
    assert "iaaddr fd77::22 " in lease.read_text()
    assert [(lease.hostname, lease.mac) for lease in await leases_of(served)] == [("six", MAC)]
