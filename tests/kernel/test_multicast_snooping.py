"""Whether the bridge of a network snoops multicast, as the kernel shows it and as guests notice."""

import json
import socket
import struct
import time
from typing import Any

import pytest
from support.filtering import Station, Tap, ethernet
from support.frames import IGMP, IPV4, UDP, Frame, checksum, ip
from support.site import Administrator
from support.waiting import SILENCE, eventually, wait_until

UUID = "6b3f2a52-5b58-4f0d-9d7e-0a1f4f9b7c02"
MODES = ("isolated", "nat", "route", "open")
POSER, SPEAKER, LISTENER = "52:54:00:00:00:71", "52:54:00:00:00:72", "52:54:00:00:00:73"
GROUP, GROUP_MAC = "239.1.2.3", "01:00:5e:01:02:03"


def lab(mode: str = "isolated", **bridge: Any) -> dict[str, Any]:
    addresses = [{"address": "192.168.77.1/24"}]
    return {"name": "lab", "uuid": UUID, "mode": mode, "addresses": addresses, "bridge": bridge}


def snoops(admin: Administrator) -> bool:
    link = admin.site.host.link("virbr0")
    assert link is not None
    return bool(link["linkinfo"]["info_data"]["mcast_snooping"])


@pytest.mark.parametrize("mode", MODES)
async def test_no_bridge_snoops_unless_its_network_asks(admin: Administrator, mode: str) -> None:
    network = await admin.raise_network(lab(mode))
    assert not snoops(admin)
    await admin.stop(network)
    await admin.define_network(json.dumps(lab(mode, multicast_snooping=True)))
    await admin.start(network)
    assert snoops(admin)
    assert await admin.healed(network) == 0


@pytest.mark.parametrize("asked", [False, True])
async def test_it_holds_against_others_and_is_changed_while_the_network_runs(admin: Administrator, asked: bool) -> None:
    network = await admin.raise_network(lab(multicast_snooping=not asked))
    await admin.define_network(json.dumps(lab(multicast_snooping=asked)))
    assert snoops(admin) is asked
    assert await admin.healed(network) == 0, "a change is no repair"
    admin.site.host.run("ip", "link", "set", "virbr0", "type", "bridge", "mcast_snooping", str(int(not asked)))
    await eventually(lambda: snoops(admin) is asked, "it is as it was")

    async def counted() -> bool:
        return await admin.healed(network) == 1

    await eventually(counted, "the repair is counted")


def query() -> bytes:
    """A membership query for all groups, to be answered within 0.1 s (RFC 2236): the sender is the querier now."""
    body = struct.pack("!BB", 0x11, 1)
    body += checksum(body + bytes(6)) + bytes(4)
    ends = socket.inet_aton("192.168.77.10") + socket.inet_aton("224.0.0.1")
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(body), 1, 0, 1, IGMP)
    return ethernet(POSER, "01:00:5e:00:00:01", IPV4, head + checksum(head + b"\0\0" + ends) + ends + body)


def spoken() -> bytes:
    """A datagram to a group."""
    return Frame(SPEAKER, GROUP_MAC, IPV4, ip("192.168.77.11", GROUP, UDP)).encode()


async def station(admin: Administrator, name: str, mac: str) -> Station:
    guest = await admin.add_guest("lab", name=name, mac=mac)
    return Station(guest, guest.device, mac, "", "")


async def test_a_guest_that_poses_as_querier_takes_multicast_from_others_only_where_it_is_snooped(
    admin: Administrator,
) -> None:
    """Nobody hears of the listener's membership, as where its filter keeps the reports away."""
    await admin.raise_network(lab())
    poser = await station(admin, "poser", POSER)
    speaker = await station(admin, "speaker", SPEAKER)
    with Tap(await station(admin, "listener", LISTENER), IPV4) as tap:

        def hears() -> bool:
            speaker.send_frame(spoken())
            return tap.sees(spoken(), SILENCE)

        wait_until(hears, "multicast gets everywhere")
        poser.send_frame(query())
        assert tap.sees(query())
        end = time.monotonic() + SILENCE  # three times what the query leaves for answers
        while time.monotonic() < end:
            assert hears()
        await admin.define_network(json.dumps(lab(multicast_snooping=True)))
        assert hears()
        poser.send_frame(query())
        wait_until(lambda: not hears(), "it gets only to whom the poser knows")
        await admin.define_network(json.dumps(lab()))
        assert hears()
