"""A network from its definition to its end: changed while guests use it, refused cleanly, many at once."""

import asyncio
import json
import socket
from typing import Any

import pytest
from support.client import NETWORK, Refused, variant
from support.netns import Lab
from support.site import Administrator, site_with_daemon
from support.traffic import Pinging, privileged_port, source_seen
from support.waiting import SILENCE, eventually, wait_until

GUEST = "192.168.77.10"
UUID = "6b3f2a52-5b58-4f0d-9d7e-0a1f4f9b7c01"
DHCP = {"ranges": [{"start": "192.168.77.50", "end": "192.168.77.99"}]}


def lab(**fields: Any) -> dict[str, Any]:
    """A NAT network with DHCP and a UUID of its own, so that it can be redefined."""
    addresses = [{"address": "192.168.77.1/24", "dhcp": DHCP}]
    return {"name": "lab", "uuid": UUID, "mode": "nat", "addresses": addresses, **fields}


async def test_a_network_is_redefined_under_its_guests_without_a_packet_lost(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(lab())
    guest = await admin.add_guest("lab", f"{GUEST}/24", gateway=("192.168.77.1",))
    more = [{"address": "192.168.77.1/24", "dhcp": DHCP}, {"address": "10.77.0.1/24"}, {"address": "fd77::1/64"}]
    with Pinging(guest, site.outside.ipv4) as ping:
        await ping.goes_on()
        await admin.define_network(json.dumps(lab(addresses=more, domain={"name": "lab.example"})))
        assert site.host.addresses("virbr0") == {"192.168.77.1/24", "10.77.0.1/24", "fd77::1/64"}
        await admin.define_network(json.dumps(lab()))
        assert site.host.addresses("virbr0") == {"192.168.77.1/24"}
        await ping.goes_on()
        assert ping.lost() <= 1  # the one under way when it ended
    assert await admin.get(network, NETWORK, "Ports") == [guest.port]
    assert await admin.healed(network) == 0


async def test_a_change_of_mode_takes_effect_on_new_connections(admin: Administrator) -> None:
    site = admin.site
    site.outside.route_back("192.168.77.0/24")
    await admin.raise_network(lab())
    guest = await admin.add_guest("lab", f"{GUEST}/24", gateway=("192.168.77.1",))
    seen = source_seen(guest, site.outside, site.outside.ipv4)
    assert seen and seen[0] == site.outside.host_ipv4
    await admin.define_network(json.dumps(lab(mode="route")))
    port = privileged_port()
    assert source_seen(guest, site.outside, site.outside.ipv4, sport=port) == (GUEST, port)
    await admin.define_network(json.dumps(lab(mode="isolated")))
    assert source_seen(guest, site.outside, site.outside.ipv4, wait=SILENCE) is None


async def test_stp_is_switched_on_and_off_again_on_a_running_network(admin: Administrator) -> None:
    await admin.raise_network(lab())

    def spanning() -> tuple[int, int]:
        (link,) = admin.site.host.ip("link", "show", "dev", "virbr0")
        return link["linkinfo"]["info_data"]["stp_state"], link["linkinfo"]["info_data"]["forward_delay"]

    assert spanning() == (0, 0)
    await admin.define_network(json.dumps(lab(bridge={"stp": True, "delay": 4})))
    assert spanning() == (1, 400)
    await admin.define_network(json.dumps(lab()))
    assert spanning() == (0, 0)


async def test_a_redefinition_that_cannot_be_realised_changes_nothing(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(lab())
    before = site.realised("virbr0")
    with pytest.raises(Refused, match=r"InUse.*uplink0"):
        await admin.define_network(json.dumps(lab(addresses=[{"address": "203.0.113.200/25"}])))
    assert site.realised("virbr0") == before
    assert await admin.state(network) == "active"
    assert await admin.get(network, NETWORK, "Addresses") == ["192.168.77.1/24"]


async def test_a_static_host_is_added_live_without_a_restart_of_dnsmasq(admin: Administrator) -> None:
    site = admin.site
    network = await admin.raise_network(lab(addresses=[{"address": "192.168.77.1/24", "dhcp": DHCP}]))
    serving = site.dnsmasq(network)
    host = "<host mac='52:54:00:00:00:81' name='web' ip='192.168.77.60'/>"
    change = (network, NETWORK, "Update", "sssa{sv}", "add-last", "ip-dhcp-host", host)
    await admin.call(*change, {"live": variant(True)})
    guest = await admin.add_guest("lab", mac="52:54:00:00:00:81")
    assert guest.lease() == "192.168.77.60"
    assert site.dnsmasq(network) == serving
    kept = await admin.call(network, NETWORK, "Describe", "sa{sv}", "xml", {"inactive": variant(True)})
    assert "192.168.77.60" not in kept
    await admin.call(
        network, NETWORK, "Update", "sssa{sv}", "add-last", "ip-dhcp-host", host, {"config": variant(True)}
    )
    kept = await admin.call(network, NETWORK, "Describe", "sa{sv}", "xml", {"inactive": variant(True)})
    assert "192.168.77.60" in kept


async def test_an_undefined_network_runs_on_until_it_is_stopped(admin: Administrator) -> None:
    network = await admin.raise_network(lab())
    guest = await admin.add_guest("lab", f"{GUEST}/24", gateway=("192.168.77.1",))
    await admin.call(network, NETWORK, "Undefine")
    assert guest.ping(admin.site.outside.ipv4)
    assert await admin.get(network, NETWORK, "Persistent") is False
    await admin.stop(network)
    assert await admin.networks() == {}


async def test_bridges_get_the_lowest_free_number_and_a_mac_that_stays(admin: Administrator) -> None:
    site = admin.site
    site.host.run("ip", "link", "add", "virbr1", "type", "bridge")
    paths = []
    for number in range(3):
        document = {"name": f"n{number}", "addresses": [{"address": f"10.70.{number}.1/24"}]}
        paths.append(await admin.raise_network(document))
    bridges = [await admin.get(path, NETWORK, "Bridge") for path in paths]
    assert bridges == ["virbr0", "virbr2", "virbr3"]
    mac = (site.host.link("virbr2") or {})["address"]
    assert mac.startswith("52:54:00:")
    await admin.stop(paths[1])
    await admin.start(paths[1])
    assert (site.host.link("virbr2") or {})["address"] == mac
    site.host.run("ip", "link", "delete", "virbr1")


async def test_a_subnet_the_host_uses_is_refused_by_the_name_of_its_interface(admin: Administrator) -> None:
    network = await admin.define_network(json.dumps(lab(addresses=[{"address": "203.0.113.129/25"}])))
    with pytest.raises(Refused, match=r"org\.vnetd1\.Error\.InUse.*uplink0"):
        await admin.start(network)
    assert await admin.get(network, NETWORK, "Active") is False
    assert not admin.site.leftovers()


async def test_a_foreign_device_of_the_bridges_name_is_refused_and_untouched(admin: Administrator) -> None:
    site = admin.site
    site.host.run("ip", "link", "add", "mine0", "type", "bridge")
    network = await admin.define_network(json.dumps(lab(bridge={"name": "mine0"})))
    with pytest.raises(Refused, match=r"org\.vnetd1\.Error\.InUse.*mine0"):
        await admin.start(network)
    assert site.host.link("mine0")
    assert not site.host.addresses("mine0")
    site.host.run("ip", "link", "delete", "mine0")
    assert not site.leftovers()
    await admin.start(network)


async def test_a_start_that_fails_half_way_is_undone_and_says_why(admin: Administrator) -> None:
    site = admin.site
    network = await admin.define_network(json.dumps(lab()))
    with site.host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("0.0.0.0", 53))
        with pytest.raises(Refused, match=r"org\.vnetd1\.Error\.Host.*dnsmasq.*in use"):
            await admin.start(network)
        assert await admin.state(network) in {"failed", "inactive"}
        assert not site.leftovers()
    await admin.start(network)
    assert await admin.state(network) == "active"


async def test_without_dnsmasq_only_networks_that_need_it_are_refused(lab: Lab) -> None:
    hide = 'mount --bind /dev/null $(command -v dnsmasq) && exec "$@"'
    with site_with_daemon(prefix=("unshare", "--mount", "sh", "-c", hide, "sh")) as site:
        async with Administrator(site, lab) as admin:
            needy = await admin.define_network(json.dumps({"name": "needy", "addresses": [{"address": "10.1.0.1/24"}]}))
            with pytest.raises(Refused, match=r"org\.vnetd1\.Error\.Unsupported.*dnsmasq"):
                await admin.start(needy)
            assert not site.leftovers()
            frugal = {"name": "frugal", "addresses": [{"address": "10.2.0.1/24"}], "dns": {"enable": False}}
            await admin.raise_network(frugal)
            # By its process: the daemon's mounts are its own, and so it sees no namespace that is named later.
            guest = admin.vacant_guest()
            sleeper = guest.start("sleep", "1000")
            wait_until(lambda: sleeper.pid in guest.pids(), "the guest runs")
            await admin.attach("frugal", {"kind": "veth", "netns": str(sleeper.pid)})
            guest.run("ip", "address", "add", "10.2.0.2/24", "dev", "eth0")
            assert guest.ping("10.2.0.1")
            sleeper.kill()
            sleeper.wait()
            await admin.clear()


async def test_many_networks_start_and_stop_at_once(admin: Administrator) -> None:
    documents = [{"name": f"n{n}", "mode": "nat", "addresses": [{"address": f"10.71.{n}.1/24"}]} for n in range(20)]
    paths = [await admin.define_network(json.dumps(document)) for document in documents]
    await asyncio.gather(*map(admin.start, paths))
    assert {one["state"] for one in (await admin.networks()).values()} == {"active"}
    assert admin.site.devices() == {f"virbr{n}" for n in range(20)}
    guest = await admin.add_guest("n13", "10.71.13.2/24", gateway=("10.71.13.1",))
    assert wait_until(lambda: guest.ping(admin.site.outside.ipv4), "the guest reaches the outside")
    await asyncio.gather(*map(admin.stop, paths))
    assert not admin.site.leftovers()


async def test_life_of_a_network_is_announced(admin: Administrator) -> None:
    events = await admin.listen("Event")
    network = await admin.raise_network(lab())
    await admin.stop(network)
    await admin.call(network, NETWORK, "Undefine")
    heard: list[str] = []

    def drained() -> list[str]:
        while not events.empty():
            heard.append(events.get_nowait()[0])
        return heard if heard[-1:] == ["undefined"] else []

    assert await eventually(drained, "the end is announced") == ["defined", "started", "stopped", "undefined"]
