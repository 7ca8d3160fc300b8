"""Guests on macvtap devices of the host's cards, tried with frames: who hears whom, and what is left when they go."""

import os
import stat
from collections.abc import Iterator

import pytest
from support.client import MANAGER, PORT, ROOT, Refused
from support.holder import SIOCSIFHWADDR, Holder, hardware_address
from support.macvtaps import ONE, OTHER, Lan, finish, guest, lan_of, listening, network
from support.netns import Lab
from support.site import Administrator, Site
from support.vnetctl import Vnetctl
from support.waiting import eventually


@pytest.fixture
def lan(shared_site: Site, lab: Lab) -> Iterator[Lan]:
    with lan_of(shared_site, lab) as made:
        yield made


@pytest.mark.parametrize(("mode", "reached"), [("bridge", True), ("private", False), ("vepa", False)])
async def test_guests_reach_the_network_and_each_other_only_where_the_mode_says(
    admin: Administrator, lan: Lan, mode: str, reached: bool
) -> None:
    await admin.raise_network(network(mode))
    async with guest(admin, ONE) as one, guest(admin, OTHER) as other:
        device = lan.host.link(str(one.result["device"]))
        assert device and (device["address"], device["link"]) == (ONE, "lan0")
        assert device["linkinfo"]["info_data"]["mode"] == mode
        with listening(lan.machine, "eth0") as heard:

            def sent() -> bool:
                one.send("ff:ff:ff:ff:ff:ff", ONE, 1)
                return 1 in heard()

            await eventually(sent)
        wait = 5.0 if reached else 0.5
        assert other.hears(2, lambda: one.send(OTHER, ONE, 2), wait) is reached
    await finish(admin)


async def test_the_port_and_its_device_go_when_the_last_descriptor_is_closed(admin: Administrator, lan: Lan) -> None:
    path = await admin.raise_network(network())
    async with guest(admin, ONE, queues=2) as tap:
        assert len(tap.fds) == 2 and tap.result["lower"] == "lan0"
        os.close(tap.fds.pop())
        await admin.call(ROOT, MANAGER, "Reconcile")
        assert await admin.get(path, "org.vnetd1.Network", "Ports") == [tap.port]
        tap.close()

        async def gone() -> bool:
            return await admin.get(path, "org.vnetd1.Network", "Ports") == []

        await eventually(gone)
        assert lan.host.link(str(tap.result["device"])) is None
    await finish(admin)


async def test_a_guest_keeps_its_device_over_a_restart_and_one_that_ended_meanwhile_is_gone(
    admin: Administrator, lan: Lan
) -> None:
    path = await admin.raise_network(network())
    async with guest(admin, ONE) as one, guest(admin, OTHER) as other:
        admin.site.daemon.kill()
        other.close()
        admin.site.daemon.start()

        async def alone() -> bool:
            return await admin.get(path, "org.vnetd1.Network", "Ports") == [one.port]

        await eventually(alone)
        assert lan.host.link(str(other.result["device"])) is None
        with listening(lan.machine, "eth0") as heard:

            def sent() -> bool:
                one.send("ff:ff:ff:ff:ff:ff", ONE, 3)
                return 3 in heard()

            await eventually(sent)
        one.close()

        async def gone() -> bool:
            return await admin.get(path, "org.vnetd1.Network", "Ports") == []

        await eventually(gone)
    await finish(admin)


async def test_a_card_in_passthrough_has_one_guests_mac_address_and_gets_its_own_back(
    admin: Administrator, lan: Lan
) -> None:
    own = lan.card()["address"]
    await admin.raise_network(network("passthrough"))
    async with guest(admin, ONE) as one:
        assert lan.card()["address"] == ONE
        with pytest.raises(Refused, match=r"InUse.*exclusive access.*lan0 \(port macvtap0\)"):
            await admin.attach("lab", {"kind": "macvtap"})
        await admin.call(one.port, PORT, "Detach")
        assert lan.card()["address"] == own
    async with guest(admin, OTHER) as other:
        admin.site.daemon.kill()
        other.close()
        admin.site.daemon.start()
        await eventually(lambda: lan.card()["address"] == own)
    await finish(admin)


async def test_a_macvtap_is_healed_and_what_its_lower_device_lacks_too(admin: Administrator, lan: Lan) -> None:
    await admin.raise_network(network())
    async with guest(admin, ONE) as one:
        device = str(one.result["device"])
        lan.host.run("ip", "link", "set", device, "mtu", "1280", "down")
        lan.host.run("ip", "link", "set", "lan0", "down")

        def healed() -> bool:
            link = lan.host.link(device)
            return bool(link and link["mtu"] == 1500 and "UP" in link["flags"] and "UP" in lan.card()["flags"])

        await eventually(healed)
    await finish(admin)


async def test_a_holder_that_takes_another_mac_is_set_down_and_has_its_own_again(
    admin: Administrator, lan: Lan
) -> None:
    await admin.raise_network(network())
    async with guest(admin, ONE) as one:
        device = str(one.result["device"])
        holder = Holder(one.fds)
        assert holder.does(SIOCSIFHWADDR, hardware_address(OTHER)) == 0

        def set_down() -> bool:
            link = lan.host.link(device) or {}
            return link.get("address") == ONE and "UP" not in link["flags"]

        await eventually(set_down)

        async def told() -> bool:
            return any(f"{OTHER} (1 of 3 times)" in text for text in await admin.get(one.port, PORT, "Problems"))

        await eventually(told)
        await admin.call(one.port, PORT, "SetLink", "b", True)
        assert "UP" in (lan.host.link(device) or {})["flags"] and not await admin.get(one.port, PORT, "Problems")
        holder.kill()
        await eventually(lambda: lan.host.link(device) is None)
    await finish(admin)


async def test_a_macvtap_that_stays_has_a_node_of_its_owners_and_ends_with_its_card(
    admin: Administrator, lan: Lan
) -> None:
    path = await admin.raise_network(network())
    port = await admin.attach("lab", {"kind": "macvtap", "mac": ONE, "owner": 65534, "group": 65534})
    device = await admin.get(port, PORT, "Device")
    link = lan.host.link(str(device))
    assert link is not None
    found = os.stat(f"/dev/tap{link['ifindex']}")
    assert stat.S_ISCHR(found.st_mode)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o660)
    lan.host.run("ip", "link", "delete", "lan0")

    async def gone() -> bool:
        return await admin.get(path, "org.vnetd1.Network", "Ports") == []

    await eventually(gone)
    assert await admin.state(path) == "degraded"
    lan.host.run("ip", "link", "add", "lan0", "type", "veth")
    await finish(admin)


async def test_the_host_reaches_what_is_on_the_card_over_its_own_device_and_guests_reach_it(
    admin: Administrator, lan: Lan
) -> None:
    path = await admin.raise_network(network(host_access=True, addresses=[{"address": "192.168.50.5/24"}]))
    uuid = str(await admin.get(path, "org.vnetd1.Network", "UUID"))
    name = f"vh-{uuid.replace('-', '')[:12]}"
    assert lan.host.addresses(name) == {"192.168.50.5/24"}
    await eventually(lambda: lan.host.ping("192.168.50.1"))
    async with guest(admin, ONE) as one:
        mac = str((lan.host.link(name) or {})["address"])
        with listening(lan.host, name) as heard:

            def sent() -> bool:
                one.send(mac, ONE, 4)
                return 4 in heard()

            await eventually(sent)
    lan.host.run("ip", "link", "delete", name)
    await eventually(lambda: lan.host.addresses(name) == {"192.168.50.5/24"})
    await eventually(lambda: lan.host.ping("192.168.50.1"))
    await finish(admin)
    assert lan.host.link(name) is None


async def test_vnetctl_attaches_shows_and_describes_a_macvtap(admin: Administrator, lan: Lan) -> None:
    await admin.raise_network(network("vepa"))
    vnetctl = Vnetctl(admin.site.bus.address)
    made = (await vnetctl.ok("--json", "port", "attach", "lab", "--macvtap", "mv%d", "--mac", ONE, "--owner", "0")).json
    assert (made["kind"], made["device"], made["result"]["lower"]) == ("macvtap", "mv0", "lan0")
    assert made["result"]["node"].startswith("/dev/tap")
    assert "macvtap" in (await vnetctl.ok("port", "list")).out
    document = (await vnetctl.ok("port", "show", "mv0", "--format", "xml")).out
    assert "<plug type='direct' dev='lan0' mode='vepa'/>" in document and f"<mac address='{ONE}'/>" in document
    again = await vnetctl.ok("convert", "-", "--to", "json", stdin=document)
    assert again.json == (await vnetctl.ok("port", "show", "mv0", "--format", "json")).json
    live = (await vnetctl.ok("network", "show", "lab", "--format", "xml")).out
    assert "<network connections='1'>" in live and "<interface dev='lan0' connections='1'/>" in live
    await vnetctl.ok("port", "detach", "mv0")
    await finish(admin)
