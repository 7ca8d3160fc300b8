"""What others break heals by itself while guests go on: every case is done to a host whose guest is pinging."""

import asyncio
import os
import re
import signal
from asyncio import Queue
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.client import NETWORK
from support.site import Administrator, AttachedGuest, Site
from support.traffic import Pinging
from support.waiting import eventually

LAB = {
    "name": "lab",
    "mode": "nat",
    "nat": {"ipv6": True},
    "addresses": [
        {"address": "192.168.77.1/24", "dhcp": {"ranges": [{"start": "192.168.77.50", "end": "192.168.77.99"}]}},
        {"address": "fd77::1/64"},
    ],
    "routes": [{"destination": "10.99.0.0/24", "gateway": "192.168.77.10"}],
}
GATEWAYS = ("192.168.77.1", "fd77::1")


@dataclass
class Scene:
    """A network with a guest that pings the outside over both IP versions."""

    admin: Administrator
    network: str
    guest: AttachedGuest
    pings: tuple[Pinging, Pinging]
    healed: "Queue[list[Any]]"
    before: dict[str, Any]
    heard: list[tuple[str, str]] = field(default_factory=list)

    @property
    def site(self) -> Site:
        """The host."""
        return self.admin.site

    def repairs(self) -> list[tuple[str, str]]:
        """What was announced as repaired so far, each with its cause."""
        while not self.healed.empty():
            what, details = self.healed.get_nowait()
            self.heard.append((what, details.get("cause", "")))
        return self.heard

    async def heals(self, what: str, cause: str = "") -> None:
        """Return when that is announced as repaired, all is as it was, both pings go on and the count has risen.

        ``cause`` is who must be named for it; without it any may be, or nobody: the kernel does not always tell.
        """

        def announced() -> bool:
            return any(re.fullmatch(what, one) and by in {cause, cause or by} for one, by in self.repairs())

        await eventually(announced, f"{what} is healed")
        await eventually(lambda: self.site.realised("virbr0") == self.before, "all is as it was")
        await asyncio.gather(*(ping.goes_on() for ping in self.pings))
        assert await self.admin.healed(self.network) > 0
        assert await self.admin.state(self.network) == "active"


@pytest.fixture
async def scene(admin: Administrator) -> AsyncIterator[Scene]:
    network = await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", "192.168.77.10/24", "fd77::10/64", gateway=GATEWAYS)
    outside = admin.site.outside
    with Pinging(guest, outside.ipv4) as one, Pinging(guest, outside.ipv6) as two:
        healed = await admin.listen("Healed", network)
        await asyncio.gather(one.goes_on(), two.goes_on())
        assert await admin.healed(network) == 0
        yield Scene(admin, network, guest, (one, two), healed, admin.site.realised("virbr0"))


RULES = {
    "the whole ruleset flushed": (("flush", "ruleset"), "table inet vnetd is missing"),
    "the table deleted": (("delete", "table", "inet", "vnetd"), "table inet vnetd is missing"),
    "a chain flushed": (("flush", "chain", "inet", "vnetd", "forward"), "chain inet vnetd forward has changed rules"),
    "every guest's traffic dropped": (
        ("insert", "rule", "inet", "vnetd", "forward", "drop"),
        "chain inet vnetd forward has changed rules",
    ),
    "an element deleted": (
        ("delete", "element", "inet", "vnetd", "guarded", "{ virbr0 }"),
        "element virbr0 of set inet vnetd guarded is missing",
    ),
    "a translation deleted": (
        ("delete", "element", "inet", "vnetd", "nat4", "{ virbr0 . 192.168.77.0/24 }"),
        "element virbr0, 192.168.77.0/24 of set inet vnetd nat4 is missing",
    ),
    "a foreign chain in our table": (("add", "chain", "inet", "vnetd", "theirs"), ""),
}


@pytest.mark.parametrize("case", RULES)
async def test_rules_heal(scene: Scene, case: str) -> None:
    command, what = RULES[case]
    scene.site.host.run("nft", *command, check=not scene.site.owns_its_tables())
    await rules_heal(scene, what)


async def test_a_deleted_rule_heals(scene: Scene) -> None:
    handle = scene.site.host.nft("chain", "inet", "vnetd", "to_guest")[-1]["rule"]["handle"]
    command = ("delete", "rule", "inet", "vnetd", "to_guest", "handle", str(handle))
    scene.site.host.run("nft", *command, check=not scene.site.owns_its_tables())
    await rules_heal(scene, "chain inet vnetd to_guest has changed rules")


async def rules_heal(scene: Scene, what: str) -> None:
    """Where the kernel keeps others off the tables there is nothing to heal; else nft is named as the cause."""
    if scene.site.owns_its_tables() or not what:
        await eventually(lambda: scene.site.realised("virbr0") == scene.before, "the rules are as they were")
        for ping in scene.pings:
            await ping.goes_on()
    else:
        await scene.heals(what, "nft")


COMMANDS = {
    "ip link delete virbr0": "bridge virbr0",
    "ip link set virbr0 down": "bridge virbr0",
    "ip link set virbr0 address 52:54:00:99:99:99": "bridge virbr0",
    "ip link set virbr0 alias theirs": "bridge virbr0",
    "ip link set virbr0 mtu 1300": "bridge virbr0",
    "ip link set virbr0 type bridge stp_state 1": "bridge virbr0",
    "ip link set virbr0 type bridge forward_delay 1500": "bridge virbr0",
    "ip link set virbr0 type bridge mcast_snooping 1": "bridge virbr0",
    "ip link set veth0 mtu 1300": "MTU of port veth0",
    "ip address flush dev virbr0": r"address 192\.168\.77\.1/24",
    "ip -6 address flush dev virbr0": "address fd77::1/64",
    "ip address delete 192.168.77.1/24 dev virbr0": r"address 192\.168\.77\.1/24",
    "ip route delete 10.99.0.0/24": r"route 10\.99\.0\.0/24",
    "sysctl -w net.ipv4.ip_forward=1 net.ipv4.ip_forward=0": "sysctl net/ipv4/conf/.*/forwarding",
    "sysctl -w net.ipv4.conf.virbr0.forwarding=0": "sysctl net/ipv4/conf/virbr0/forwarding",
    "sysctl -w net.ipv4.conf.uplink0.forwarding=0": "sysctl net/ipv4/conf/uplink0/forwarding",
    "sysctl -w net.ipv6.conf.all.forwarding=0": "sysctl net/ipv6/conf/.*/forwarding",
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_the_network_heals_after(scene: Scene, command: str) -> None:
    scene.site.host.run(*command.split())
    await scene.heals(COMMANDS[command])


@pytest.mark.parametrize("change", ["nomaster", "down"])
async def test_a_guests_port_comes_back_to_its_bridge(scene: Scene, change: str) -> None:
    scene.site.host.run("ip", "link", "set", scene.guest.device, change)
    await scene.heals(f"port {scene.guest.device}")


async def test_a_port_that_was_moved_to_another_bridge_comes_back(scene: Scene) -> None:
    scene.site.host.run("ip", "link", "add", "theirs", "type", "bridge")
    try:
        scene.site.host.run("ip", "link", "set", scene.guest.device, "master", "theirs")
        await eventually(lambda: scene.repairs(), "the port is healed")
    finally:
        scene.site.host.run("ip", "link", "delete", "theirs")
    await scene.heals(f"port {scene.guest.device}")


async def test_a_killed_dnsmasq_is_started_again_and_knows_its_leases(scene: Scene) -> None:
    late = await scene.admin.add_guest("lab", name="late", mac="52:54:00:00:00:41")
    address = late.lease()
    scene.before = scene.site.realised("virbr0")
    killed = scene.site.dnsmasq(scene.network)
    os.kill(killed, signal.SIGKILL)
    await scene.heals("dnsmasq")
    assert scene.site.dnsmasq(scene.network) not in {0, killed}
    assert late.lease() == address
    assert [lease["address"] for lease in await scene.admin.leases(scene.network)] == [address]


@pytest.mark.parametrize("name", ["hosts", "addnhosts", "servers"])
@pytest.mark.parametrize("change", ["changed", "deleted", "replaced by a directory"])
async def test_a_file_of_dnsmasq_is_written_anew_when_it_was(scene: Scene, name: str, change: str) -> None:
    file = scene.site.data_file(scene.network, name)
    text = file.read_text()
    serving = scene.site.dnsmasq(scene.network)
    _tamper(file, change)
    await eventually(lambda: file.is_file() and file.read_text() == text, "the file is as it was")
    await scene.heals(f"dnsmasq file {name}")
    assert scene.site.dnsmasq(scene.network) == serving


@pytest.mark.parametrize("change", ["changed", "deleted"])
async def test_the_configuration_of_dnsmasq_is_written_anew_when_it_was(scene: Scene, change: str) -> None:
    file = scene.site.runtime_file(scene.network, "conf")
    text = file.read_text()
    _tamper(file, change)
    await eventually(lambda: file.is_file() and file.read_text() == text, "the file is as it was")
    await scene.heals("dnsmasq file dnsmasq.conf|dnsmasq")
    guest = await scene.admin.add_guest("lab", name="late")
    assert guest.lease()


def _tamper(file: Any, change: str) -> None:
    if change == "changed":
        file.write_text("# mine now\n")
        return
    file.unlink()
    if change != "deleted":
        file.mkdir()


async def test_much_broken_at_once_heals_at_once(scene: Scene) -> None:
    os.kill(scene.site.dnsmasq(scene.network), signal.SIGKILL)
    for command in ("ip link delete virbr0", "nft flush ruleset", "sysctl -w net.ipv6.conf.all.forwarding=0"):
        scene.site.host.run(*command.split())
    await scene.heals("bridge virbr0")
    assert await eventually(lambda: scene.site.dnsmasq(scene.network), "dnsmasq serves")
    guest = await scene.admin.add_guest("lab", name="late")
    assert guest.lease()


async def test_what_others_put_on_the_bridge_is_left_alone(scene: Scene) -> None:
    scene.site.host.run("ip", "address", "add", "10.55.0.1/24", "dev", "virbr0")
    scene.site.host.run("ip", "route", "add", "10.56.0.0/24", "via", "192.168.77.10")
    await scene.admin.call("/org/vnetd1", "org.vnetd1.Manager", "Reconcile")
    assert "10.55.0.1/24" in scene.site.host.addresses("virbr0")
    assert scene.site.host.ip("route", "show", "10.56.0.0/24")
    assert await scene.admin.healed(scene.network) == 0


@contextmanager
def somebody_who(site: Site, loop: str) -> Iterator[None]:
    """Somebody else on the host, who runs this in a shell all the while."""
    somebody = site.host.start("sh", "-c", loop)
    try:
        yield
    finally:
        somebody.kill()
        somebody.wait()


def deleting_again_and_again(site: Site, address: str, device: str) -> AbstractContextManager[None]:
    """Somebody else who takes an address away as often as it comes back."""
    return somebody_who(site, f"while :; do ip address delete {address} dev {device} 2>/dev/null; sleep 0.05; done")


async def test_a_fight_degrades_one_network_and_no_other(scene: Scene) -> None:
    admin = scene.admin
    other = await admin.raise_network({"name": "other", "mode": "nat", "addresses": [{"address": "10.5.0.1/24"}]})
    neighbour = await admin.add_guest("other", "10.5.0.10/24", name="other", gateway=("10.5.0.1",))
    await eventually(lambda: neighbour.ping(scene.site.outside.ipv4), "the other guest reaches the outside")
    with Pinging(neighbour, scene.site.outside.ipv4) as undisturbed:
        with deleting_again_and_again(scene.site, "192.168.77.1/24", "virbr0"):
            await eventually(lambda: _is(admin, scene.network, "degraded"), "the network is degraded")
            (problem,) = await admin.get(scene.network, NETWORK, "Problems")
            assert "address 192.168.77.1/24" in problem
            assert await admin.state(other) == "active"
            assert await admin.get(other, NETWORK, "Problems") == []
            assert await admin.healed(other) == 0
        await undisturbed.goes_on()
        assert undisturbed.lost() <= 1  # the one under way when it ended
    await eventually(
        lambda: scene.site.realised("virbr0")["addresses"] == scene.before["addresses"], "it heals", deadline=30
    )
    await scene.pings[0].goes_on()
    await eventually(lambda: _is(admin, scene.network, "active"), "the network is active again", deadline=60)
    assert await admin.get(scene.network, NETWORK, "Problems") == []


NATTED = {"name": "natted", "mode": "nat", "addresses": [{"address": "10.4.0.1/24"}]}
ROUTED = {"name": "routed", "mode": "route", "addresses": [{"address": "10.5.0.1/24"}]}
MASQUERADE = ("inet", "vnetd", "masquerade-1024-65535")
"""A chain that only networks with translation have."""


def deleting_rules_again_and_again(site: Site, family: str, table: str, chain: str) -> AbstractContextManager[None]:
    """Somebody else who deletes the rule of a chain as often as it comes back."""
    find = f"nft -a list chain {family} {table} {chain} | sed -n '/^\t\t.*# handle/s/.*# handle //p' | tail -n 1"
    delete = f"nft delete rule {family} {table} {chain} handle"
    return somebody_who(site, f'while :; do rule=$({find}); [ -z "$rule" ] || {delete} $rule; sleep 0.02; done')


async def test_while_a_rule_is_fought_over_another_networks_rule_is_back_at_once(admin: Administrator) -> None:
    site = admin.site
    natted, routed = await admin.raise_network(NATTED), await admin.raise_network(ROUTED)
    if site.owns_its_tables():  # now that there are some
        pytest.skip("the kernel keeps others off tables that vnetd owns")
    bridge = await admin.get(routed, NETWORK, "Bridge")

    def guarded() -> bool:
        return bridge in str(site.host.nft("set", "inet", "vnetd", "guarded"))

    before = site.ruleset()
    with deleting_rules_again_and_again(site, *MASQUERADE):
        await eventually(lambda: _is(admin, natted, "degraded"), "its network shows it", deadline=30)
        (problem,) = await admin.get(natted, NETWORK, "Problems")
        assert "chain inet vnetd masquerade-1024-65535 has changed rules" in problem and "by nft" in problem
        await eventually(lambda: not _rules(site, *MASQUERADE), "it is left alone")
        for _ in range(3):
            site.host.run("nft", "delete", "element", "inet", "vnetd", "guarded", f"{{ {bridge} }}")
            await eventually(guarded, "another network's is back", deadline=1)
        assert (await admin.state(natted), await admin.state(routed)) == ("degraded", "active")
        assert await admin.get(routed, NETWORK, "Problems") == []
    await eventually(lambda: site.ruleset() == before, "its time comes", deadline=60)
    await eventually(lambda: _is(admin, natted, "active"), "all is well again", deadline=60)


async def test_a_network_that_stops_ends_the_fight_over_its_rules(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(NATTED)
    if site.owns_its_tables():  # now that there are some
        pytest.skip("the kernel keeps others off tables that vnetd owns")
    count = len(_rules(site, *MASQUERADE))
    with deleting_rules_again_and_again(site, *MASQUERADE):
        await eventually(lambda: _is(admin, network, "degraded"), "it is fought over", deadline=30)
    await admin.call(network, NETWORK, "Stop")
    await admin.call(network, NETWORK, "Start")
    await eventually(lambda: len(_rules(site, *MASQUERADE)) == count, "it is whole again", deadline=1)
    assert (await admin.state(network), await admin.get(network, NETWORK, "Problems")) == ("active", [])
    last = _rules(site, *MASQUERADE)[-1]
    site.host.run("nft", "delete", "rule", *MASQUERADE, "handle", str(last["handle"]))
    await eventually(lambda: len(_rules(site, *MASQUERADE)) == count, "and healed at once", deadline=1)


def _rules(site: Site, *chain: str) -> list[Any]:
    return [entry["rule"] for entry in site.host.nft("chain", *chain) if "rule" in entry]


async def _is(admin: Administrator, network: str, state: str) -> bool:
    await asyncio.sleep(0.05)
    return await admin.state(network) == state
