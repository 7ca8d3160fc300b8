"""A host that refuses: taken ports and subnets, full or read-only disks, rules of others, no IPv6."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, NETWORK, PORT, PROPERTIES, ROOT, Refused, variant
from support.netns import Lab, run
from support.site import Administrator, Site, site_with_daemon
from support.waiting import eventually

RANGE = {"start": "192.168.77.10", "end": "192.168.77.99"}
LAB = {"name": "lab", "mode": "nat", "addresses": [{"address": "192.168.77.1/24", "dhcp": {"ranges": [RANGE]}}]}
DUAL = {**LAB, "addresses": [*LAB["addresses"], {"address": "fd77::1/64"}]}


def subnet(*addresses: str, **fields: Any) -> str:
    """An isolated network with these addresses."""
    return json.dumps(
        {"name": "lab", "mode": "isolated", "addresses": [{"address": one} for one in addresses], **fields}
    )


def present(site: Site) -> tuple[Any, ...]:
    """Devices, elements that make rules apply to them (what all share stays for a while), and processes.

    Elements as text: nft 1.0.6 lists a table with an owner as no JSON at all.
    """
    elements = re.findall(r"elements = \{[^}]*\}", site.host.run("nft", "list", "ruleset"))
    return site.devices(), elements, site.processes()


async def refused_start(admin: Administrator, network: str, error: str) -> str:
    """Have a start refused; nothing of it may be left. Returns the sentence."""
    before = present(admin.site)
    with pytest.raises(Refused) as caught:
        await admin.start(network)
    assert caught.value.name == f"org.vnetd1.Error.{error}", str(caught.value)
    assert present(admin.site) == before
    assert not list((admin.site.root / "run/vnetd/networks").glob("*"))
    assert not list((admin.site.root / "run/vnetd/dnsmasq").glob("*"))
    assert await admin.get(network, NETWORK, "Active") is False
    assert "\n" not in str(caught.value)
    return str(caught.value)


TAKEN = {
    "an address": (["address", "add", "10.61.0.1/24", "dev", "busy0"], "10.61.0.1/24"),
    "a wider one": (["address", "add", "10.0.0.1/8", "dev", "busy0"], "10.62.7.1/24"),
    "a narrower one": (["address", "add", "10.63.0.129/25", "dev", "busy0"], "10.63.0.1/16"),
    "a route": (["route", "add", "10.64.0.0/16", "dev", "busy0"], "10.64.3.1/24"),
    "a route of another table": (["route", "add", "10.65.0.0/16", "dev", "busy0", "table", "51820"], "10.65.3.1/24"),
    "IPv6": (["-6", "address", "add", "fd66::1/64", "dev", "busy0", "nodad"], "fd66::9/64"),
    "an IPv6 route": (["-6", "route", "add", "fd67::/32", "dev", "busy0"], "fd67:0:1::1/64"),
    "an IPv6 route of another table": (["-6", "route", "add", "fd68::/48", "dev", "busy0", "table", "7"], "fd68::1/64"),
}


@pytest.fixture
def busy(admin: Administrator) -> Iterator[None]:
    """A device of the host's that is up."""
    host = admin.site.host
    host.run("ip", "link", "add", "busy0", "type", "veth", "peer", "name", "busy1")
    for device in ("busy0", "busy1"):
        host.run("ip", "link", "set", device, "up")
    yield
    host.run("ip", "link", "delete", "busy0")


@pytest.mark.parametrize("what", TAKEN)
async def test_a_subnet_in_use_is_refused_with_its_interface_until_it_is_free(
    admin: Administrator, busy: None, what: str
) -> None:
    command, address = TAKEN[what]
    network = await admin.define_network(subnet(address))
    admin.site.host.run("ip", *command)
    assert "busy0" in await refused_start(admin, network, "InUse")
    with pytest.raises(Refused, match=r"InUse.*busy0"):
        await admin.call(ROOT, MANAGER, "CreateNetwork", "sa{sv}", subnet(address, name="other"), {})
    with pytest.raises(Refused, match=r"InUse.*busy0"):
        await admin.call(ROOT, MANAGER, "Plan", "sa{sv}", subnet(address, name="other"), {})
    admin.site.host.run("ip", *(word if word != "add" else "delete" for word in command if word != "nodad"))
    await admin.start(network)


async def test_a_static_route_over_a_subnet_of_the_host_is_refused(admin: Administrator, busy: None) -> None:
    admin.site.host.run("ip", "address", "add", "10.61.0.1/24", "dev", "busy0")
    route = {"destination": "10.61.0.0/16", "gateway": "10.1.0.2"}
    network = await admin.define_network(subnet("10.1.0.1/24", routes=[route]))
    assert "busy0" in await refused_start(admin, network, "InUse")


async def test_a_subnet_of_another_network_is_refused_with_its_name(admin: Administrator) -> None:
    await admin.raise_network(LAB)
    network = await admin.define_network(subnet("192.168.77.129/25", name="other"))
    assert "network lab" in await refused_other(admin, network)


async def refused_other(admin: Administrator, network: str) -> str:
    """Have the start of a second network refused; the first must not notice."""
    before = admin.site.realised("virbr0")
    with pytest.raises(Refused, match=r"Error\.InUse") as caught:
        await admin.start(network)
    assert admin.site.realised("virbr0") == before
    return str(caught.value)


async def test_an_unknown_uplink_may_be_defined_but_is_refused_at_start(admin: Administrator) -> None:
    network = await admin.define_network(json.dumps({**LAB, "devices": {"interfaces": ["wwan7"]}}))
    assert "wwan7" in await refused_start(admin, network, "NotFound")
    with pytest.raises(Refused, match=r"NotFound.*wwan7"):
        document = json.dumps({**LAB, "name": "other", "devices": {"interfaces": ["wwan7"]}})
        await admin.call(ROOT, MANAGER, "CreateNetwork", "sa{sv}", document, {})
    admin.site.host.run("ip", "link", "add", "wwan7", "type", "veth", "peer", "name", "wwan8")
    await admin.start(network)
    admin.site.host.run("ip", "link", "delete", "wwan7")
    await eventually(lambda: admin.state(network), "the daemon takes it well")


@contextmanager
def squatting(site: Site, kind: socket.SocketKind, port: int, address: str = "0.0.0.0") -> Iterator[None]:
    """Another server of the host on a port."""
    with site.host.entered():
        squatter = socket.socket(socket.AF_INET, kind)
    with squatter:
        squatter.bind((address, port))
        if kind is socket.SOCK_STREAM:
            squatter.listen()
        yield


@pytest.mark.parametrize(("kind", "port"), [(socket.SOCK_DGRAM, 53), (socket.SOCK_STREAM, 53), (socket.SOCK_DGRAM, 67)])
async def test_a_port_of_dnsmasq_that_is_taken_is_named_and_nothing_is_left(
    admin: Administrator, kind: socket.SocketKind, port: int
) -> None:
    network = await admin.define_network(json.dumps(LAB))
    with squatting(admin.site, kind, port):
        sentence = await refused_start(admin, network, "Host")
        assert "dnsmasq" in sentence and "in use" in sentence
        assert await admin.state(network) == "failed"
    await admin.start(network)
    assert (await admin.state(network), await admin.get(network, NETWORK, "Problems")) == ("active", [])


async def test_a_resolver_on_another_address_of_the_host_disturbs_nobody(admin: Administrator) -> None:
    with squatting(admin.site, socket.SOCK_DGRAM, 53, "127.0.0.1"):
        await admin.raise_network(LAB)
        guest = await admin.add_guest("lab")
        assert guest.lease()


@contextmanager
def small_root(lab: Lab, size: str) -> Iterator[Site]:
    """A daemon whose files lie on a disk of their own."""
    with ExitStack() as stack:
        site = stack.enter_context(site_with_daemon())
        site.daemon.stop()
        for place in ("etc", "var", "run"):
            (site.root / place).mkdir(exist_ok=True)
            run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "disk", str(site.root / place))
            stack.callback(run, "umount", "-l", str(site.root / place), check=False)
        site.daemon.start()
        stack.callback(site.daemon.close)
        yield site


def fill(directory: Path) -> Path:
    """Leave no room in the file system of a directory."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return filler


async def test_a_full_disk_is_an_error_and_leaves_everything_as_it_was(lab: Lab) -> None:
    with small_root(lab, "256k") as site:
        async with Administrator(site, lab) as admin:
            network = await admin.raise_network(LAB)
            guest = await admin.add_guest("lab")
            address = guest.lease()
            before, kept = site.realised("virbr0"), await describe(admin, network)
            fillers = [fill(site.root / place) for place in ("etc", "run")]
            changed = json.dumps({**LAB, "uuid": uuid_in(kept), "mtu": 1400})
            for attempt in (
                admin.define_network(json.dumps({**LAB, "name": "other"})),
                admin.define_network(changed),
                admin.attach("lab", {"kind": "tap"}),
                admin.call(network, PROPERTIES, "Set", "ssv", NETWORK, "Autostart", variant(True)),
                admin.bind("tap9", "no-mac-spoofing", {"MAC": "52:54:00:00:00:09"}),
            ):
                with pytest.raises(Refused, match=r"Error\.Host.*No space left"):
                    await attempt
            assert site.realised("virbr0") == before
            assert await describe(admin, network) == kept
            assert await admin.state(network) == "active"
            assert guest.ping("192.168.77.1")
            for filler in fillers:
                filler.unlink()
            await admin.define_network(changed)
            assert json.loads(await describe(admin, network))["mtu"] == 1400
            assert address in {one["address"] for one in await admin.leases(network)}
            await admin.clear()
            assert not [path for place in ("etc", "run") for path in (site.root / place).rglob("*.tmp")]


async def test_a_read_only_disk_is_an_error_and_what_runs_can_still_be_stopped(lab: Lab) -> None:
    with small_root(lab, "1m") as site:
        async with Administrator(site, lab) as admin:
            network = await admin.raise_network(LAB)
            run("mount", "-o", "remount,ro", str(site.root / "etc"))
            with pytest.raises(Refused, match=r"Error\.Host.*Read-only"):
                await admin.define_network(json.dumps({**LAB, "name": "other"}))
            with pytest.raises(Refused, match=r"Error\.Host.*Read-only"):
                await admin.call(network, NETWORK, "Undefine")
            assert {name: one["persistent"] for name, one in (await admin.networks()).items()} == {"lab": True}
            await admin.stop(network)
            assert not site.leftovers()
            run("mount", "-o", "remount,rw", str(site.root / "etc"))
            await admin.call(network, NETWORK, "Undefine")
            assert await admin.networks() == {}


async def describe(admin: Administrator, network: str) -> str:
    """The document of a network."""
    return str(await admin.call(network, NETWORK, "Describe", "sa{sv}", "json", {}))


def uuid_in(document: str) -> str:
    """The UUID of a document."""
    return str(json.loads(document)["uuid"])


OWNER = """
import sys
from nftables import Nftables
nft = Nftables()  # the table goes with its socket
code, _, error = nft.cmd("table inet vnetd { flags owner; }")
print("owned" if code == 0 else error, flush=True)
sys.stdin.read()
"""


async def test_rules_that_the_kernel_refuses_fail_the_start_with_its_words(lab: Lab) -> None:
    with site_with_daemon() as site:
        async with Administrator(site, lab) as admin:
            network = await admin.define_network(json.dumps(LAB))
            owner = site.host.start(sys.executable, "-c", OWNER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            try:
                assert owner.stdout is not None and owner.stdout.readline() == "owned\n"
                assert "not permitted" in await refused_start(admin, network, "Host")
                assert site.daemon.alive()
            finally:
                owner.kill()
                owner.communicate()
            await admin.start(network)  # the table went with its owner
            await admin.clear()


OFF = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"
NO_IPV6 = ("sh", "-c", f'{OFF} && exec "$@"', "sh")


async def test_a_host_without_ipv6_serves_ipv4_and_ipv6_of_its_own_networks(lab: Lab) -> None:
    with site_with_daemon(prefix=NO_IPV6) as site:
        async with Administrator(site, lab) as admin:
            plain = await admin.raise_network(LAB)
            guest = await admin.add_guest("lab")
            assert guest.lease()
            assert guest.ping(site.outside.ipv4)
            await admin.stop(plain)
            await admin.call(plain, NETWORK, "Undefine")
            # IPv6 is off for the host, but a network that asks for it has it on its own bridge.
            dual = await admin.raise_network(DUAL)
            assert await admin.state(dual) == "active"
            assert "fd77::1/64" in site.host.addresses("virbr0")
            await admin.clear()


async def test_a_dnsmasq_that_dies_again_and_again_does_not_end_the_daemon(admin: Administrator) -> None:
    network = await admin.raise_network(LAB)
    for _ in range(3):
        os.kill(admin.site.dnsmasq(network), signal.SIGKILL)
        await eventually(lambda: admin.site.dnsmasq(network), "dnsmasq is back")
    assert await admin.state(network) == "active"
    assert admin.site.daemon.alive()


async def test_what_is_asked_of_objects_that_went_meanwhile_is_answered_by_name(admin: Administrator) -> None:
    network = await admin.raise_network(LAB)
    port = await admin.attach("lab", {"kind": "tap"})
    await admin.stop(network)
    await admin.call(network, NETWORK, "Undefine")
    for path, interface, member in ((network, NETWORK, "Start"), (network, NETWORK, "Stop"), (port, PORT, "Detach")):
        with pytest.raises(Refused, match=r"UnknownObject|NotFound"):
            await admin.call(path, interface, member)
