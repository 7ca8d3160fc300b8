"""Filters on guests of a running daemon, seen by packets: bound, set, attached with, redefined, kept."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.client import BINDING, MANAGER, PORT, ROOT, Refused, variant
from support.netns import Guest, Lab
from support.site import Administrator, AttachedGuest
from support.traffic import Pinging, pings_answered, reaches, serving
from support.waiting import SILENCE, eventually, wait_until

DOCUMENTS = Path(__file__).parent.parent / "golden" / "filter" / "documents"
LAB = {"name": "lab", "mode": "isolated", "addresses": [{"address": "192.168.77.1/24"}, {"address": "fd77::1/64"}]}
GUEST, PEER = "192.168.77.10", "192.168.77.11"
MAC = "52:54:00:00:00:61"
UUID = "3f1c2a9e-7f0c-4b57-9f3d-0c8a5e0c9d11"


def document(name: str) -> str:
    """A user's filter document."""
    return (DOCUMENTS / f"filter-{name}.xml").read_text()


@dataclass(frozen=True)
class Scene:
    """A guest to be filtered and a peer beside it; both are pinged from the host, too."""

    admin: Administrator
    guest: AttachedGuest
    peer: AttachedGuest

    def pinged(self, wait: float = 1) -> bool:
        """Whether the guest answers pings of the peer and of the host within ``wait`` seconds: both or none."""
        answers = pings_answered([(self.peer, GUEST), (self.admin.site.host, GUEST)], wait=wait)
        assert len(set(answers)) == 1
        return answers[0]

    async def set_filter(self, name: str, **parameters: str | Sequence[str]) -> None:
        """Put another filter in force on the guest's port."""
        values = {key: variant(value) for key, value in parameters.items()}
        await self.admin.call(self.guest.port, PORT, "SetFilter", "sa{sv}", name, values)


@pytest.fixture
async def scene(admin: Administrator) -> AsyncIterator[Scene]:
    await admin.raise_network(LAB)
    for name in ("blockicmp", "blockip", "testfilter1"):
        await admin.define_filter(document(name))
    guest = await admin.add_guest("lab", f"{GUEST}/24", "fd77::10/64", name="guest", mac=MAC)
    peer = await admin.add_guest("lab", f"{PEER}/24", "fd77::11/64", name="peer")
    with serving(guest, "tcp:22", "tcp:80", "tcp:81"):
        yield Scene(admin, guest, peer)


@pytest.fixture
def strange(scene: Scene, lab: Lab) -> Iterator[Guest]:
    """A guest somebody else plugged into the network's bridge, and unplugs afterwards."""
    guest = lab.guest(scene.admin.site.host, "virbr0", "strange")
    guest.run("ip", "address", "add", "192.168.77.12/24", "dev", "eth0")
    yield guest
    scene.admin.site.host.run("ip", "link", "delete", guest.device)


async def test_blockicmp_bound_to_a_strangers_port_stops_ping_and_leaves_tcp(scene: Scene, strange: Guest) -> None:
    senders = [(scene.peer, "192.168.77.12"), (scene.admin.site.host, "192.168.77.12")]
    with serving(strange, "tcp:22"):
        assert all(pings_answered(senders))
        binding = await scene.admin.bind(strange.device, "blockicmp", {})
        assert not any(pings_answered(senders, wait=SILENCE))
        assert reaches(scene.peer, "192.168.77.12", 22)
        assert reaches(scene.admin.site.host, "192.168.77.12", 22)
        assert scene.pinged()
        await scene.admin.call(binding, BINDING, "Delete")
        assert all(pings_answered(senders))


async def test_a_filter_may_wait_for_its_device(scene: Scene, lab: Lab) -> None:
    """A container's runtime may bind before it plugs: the device is filtered from its first packet on."""
    await scene.admin.bind("later0", "blockicmp", {})
    guest = lab.namespace("later")
    lab.veth(scene.admin.site.host, "later0", guest, "eth0")
    guest.run("ip", "address", "add", "192.168.77.13/24", "dev", "eth0")
    scene.admin.site.host.run("ip", "link", "set", "later0", "master", "virbr0", "up")
    with Pinging(scene.peer, "192.168.77.13") as ping, serving(guest, "tcp:22"):
        guest.run("ip", "link", "set", "eth0", "up")
        assert wait_until(lambda: reaches(scene.peer, "192.168.77.13", 22), "TCP works")
        assert ping.answered() == 0
    scene.admin.site.host.run("ip", "link", "delete", "later0")


async def test_blockicmp_set_on_a_port_stops_ping_until_it_is_taken_away(scene: Scene) -> None:
    assert scene.pinged()
    await scene.set_filter("blockicmp")
    assert await scene.admin.get(scene.guest.port, PORT, "Filter") == "blockicmp"
    assert not scene.pinged(wait=SILENCE)
    assert reaches(scene.peer, GUEST, 22)
    assert pings_answered([(scene.peer, "fd77::10")]) == [True]
    await scene.set_filter("")
    assert scene.pinged()


async def test_a_port_attached_with_a_filter_never_answered_without_it(scene: Scene) -> None:
    inside = scene.admin.vacant_guest("early")
    address = "192.168.77.14"
    eager = f"until ip address add {address}/24 dev eth0 2>/dev/null; do :; done; ip link set eth0 up"
    watcher = inside.start("sh", "-c", eager)
    with Pinging(scene.peer, address, interval=0.002) as ping, serving(inside, "tcp:22"):
        await scene.admin.attach("lab", {"kind": "veth", "netns": inside.path, "filter": "blockicmp"})
        assert watcher.wait(timeout=10) == 0
        assert wait_until(lambda: reaches(scene.peer, address, 22), "TCP works")
        assert ping.answered() == 0


async def test_testfilter1_works_as_it_reads(scene: Scene) -> None:
    await scene.set_filter("testfilter1", IP=[GUEST])
    with serving(scene.peer, "tcp:22", "udp:53"):
        for sender in (scene.peer, scene.admin.site.host):
            assert reaches(sender, GUEST, 22)
            assert reaches(sender, GUEST, 80)
            assert not reaches(sender, GUEST, 81, wait=SILENCE)
        assert not scene.pinged(wait=SILENCE)
        assert all(pings_answered([(scene.guest, PEER), (scene.guest, "192.168.77.1")]))
        assert not reaches(scene.guest, PEER, 22, wait=SILENCE)


async def test_testfilter1_keeps_the_guest_from_using_another_address(scene: Scene) -> None:
    scene.guest.configure("192.168.77.66/24")
    assert scene.guest.ping(PEER, source="192.168.77.66")
    await scene.set_filter("testfilter1", IP=[GUEST])
    assert not scene.guest.ping(PEER, source="192.168.77.66", wait=SILENCE)
    assert scene.guest.ping(PEER)


async def test_a_filter_that_lacks_its_parameter_is_refused_and_nothing_changes(scene: Scene) -> None:
    with pytest.raises(Refused, match=r"Invalid.*unresolvable variables: IP"):
        await scene.set_filter("blockip", CTRL_IP_LEARNING="none")
    assert await scene.admin.get(scene.guest.port, PORT, "Filter") == ""
    assert scene.pinged()


async def test_redefining_a_filter_in_use_switches_all_its_users(scene: Scene, strange: Guest) -> None:
    identified = document("blockicmp").replace("<rule", f"<uuid>{UUID}</uuid><rule", 1)
    named = identified.replace("'blockicmp'", "'mine'")
    await scene.admin.define_filter(named)
    await scene.set_filter("mine")
    await scene.admin.bind(strange.device, "mine", {})
    pings = [(scene.peer, GUEST), (scene.peer, "192.168.77.12")]
    assert not any(pings_answered(pings, wait=SILENCE))
    await scene.admin.define_filter(named.replace("<icmp/>", "<tcp dstportstart='80'/>"))
    assert all(pings_answered(pings))
    assert not reaches(scene.peer, GUEST, 80, wait=SILENCE)
    assert reaches(scene.peer, GUEST, 22)
    with serving(strange, "tcp:80", "tcp:22"):
        assert not reaches(scene.peer, "192.168.77.12", 80, wait=SILENCE)
        assert reaches(scene.peer, "192.168.77.12", 22)


async def test_a_filter_in_use_cannot_be_undefined(scene: Scene) -> None:
    await scene.set_filter("blockicmp")
    path = await scene.admin.call(ROOT, MANAGER, "GetFilter", "s", "blockicmp")
    with pytest.raises(Refused, match=rf"InUse.*{scene.guest.device}"):
        await scene.admin.call(path, "org.vnetd1.Filter", "Undefine")
    assert not scene.pinged(wait=SILENCE)
    assert await scene.admin.get(path, "org.vnetd1.Filter", "UsedBy") == [scene.guest.device]


async def test_filters_hold_while_the_daemon_is_killed_and_after(scene: Scene, strange: Guest) -> None:
    await scene.set_filter("blockicmp")
    await scene.admin.bind(strange.device, "blockicmp", {})
    with Pinging(scene.peer, GUEST) as one, Pinging(scene.peer, "192.168.77.12") as two:
        scene.admin.site.daemon.kill()
        scene.admin.site.daemon.start()
        assert reaches(scene.peer, GUEST, 22)
        assert (one.answered(), two.answered()) == (0, 0)
    assert await scene.admin.get(scene.guest.port, PORT, "Filter") == "blockicmp"
    (binding,) = await scene.admin.call(ROOT, MANAGER, "ListBindings", "a{sv}", {})
    assert (binding["device"], binding["filter"]) == (strange.device, "blockicmp")


async def test_flushed_filters_come_back(scene: Scene) -> None:
    await scene.set_filter("blockicmp")
    before = scene.admin.site.ruleset()
    scene.admin.site.host.run("nft", "flush", "ruleset")
    await eventually(lambda: scene.admin.site.ruleset() == before, "the rules are as they were")
    assert not scene.pinged(wait=SILENCE)


async def test_nothing_of_a_filter_is_left_when_its_guest_goes(scene: Scene) -> None:
    await scene.set_filter("testfilter1", IP=[GUEST])
    await scene.admin.call(scene.guest.port, PORT, "Detach")
    assert scene.guest.device not in str(scene.admin.site.elements())
