"""Every kind of port on a running daemon: what is made, who owns it, and how it ends."""

import os
from contextlib import ExitStack
from typing import Any

import pytest
from support.client import MANAGER, NETWORK, PORT, ROOT, Refused, plain, variant
from support.netns import Lab, run
from support.private_bus import client_of, method_call
from support.site import Administrator
from support.waiting import SILENCE, eventually, wait_until

LAB = {"name": "lab", "mode": "isolated", "mtu": 1400, "addresses": [{"address": "192.168.77.1/24"}]}


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


async def none_left(admin: Administrator, network: str) -> bool:
    """Whether the network has no ports."""
    return await admin.get(network, NETWORK, "Ports") == []


def master(admin: Administrator, device: str) -> str | None:
    """The bridge a device is in."""
    return (admin.site.host.link(device) or {}).get("master")


async def test_a_persistent_tap_belongs_to_whom_the_caller_names(admin: Administrator, network: str) -> None:
    port = await admin.attach("lab", {"kind": "tap", "owner": 65534, "group": 65533, "mac": "52:54:00:00:00:91"})
    device = await admin.get(port, PORT, "Device")
    (tap,) = admin.site.host.ip("link", "show", "dev", device)
    facts = tap["linkinfo"]["info_data"]
    assert (facts["user"], facts["persist"]) == ("nobody", True)
    assert (tap["master"], tap["mtu"], tap["address"]) == ("virbr0", 1400, "fe:54:00:00:00:91")
    await admin.call(port, PORT, "Detach")
    assert device not in admin.site.devices()
    assert await none_left(admin, network)


async def test_an_existing_device_joins_and_leaves_but_is_never_deleted(
    admin: Administrator, network: str, lab: Lab
) -> None:
    host, guest = admin.site.host, lab.namespace("guest")
    lab.veth(host, "mine0", guest, "eth0")
    guest.run("ip", "address", "add", "192.168.77.10/24", "dev", "eth0")
    guest.run("ip", "link", "set", "eth0", "up")
    port = await admin.attach("lab", {"kind": "existing", "device": "mine0"})
    assert wait_until(lambda: guest.ping("192.168.77.1"), "the guest reaches the host")
    await admin.call(port, PORT, "Detach")
    assert host.link("mine0")
    assert master(admin, "mine0") is None
    assert not guest.ping("192.168.77.1", wait=SILENCE)
    host.run("ip", "link", "delete", "mine0")


async def test_a_stopped_network_lets_go_of_an_existing_device(admin: Administrator, network: str, lab: Lab) -> None:
    lab.veth(admin.site.host, "mine0", lab.namespace("guest"), "eth0")
    await admin.attach("lab", {"kind": "existing", "device": "mine0"})
    await admin.stop(network)
    assert master(admin, "mine0") is None
    admin.site.host.run("ip", "link", "delete", "mine0")


async def test_a_device_in_anothers_bridge_is_not_taken(admin: Administrator, network: str) -> None:
    host = admin.site.host
    host.run("ip", "link", "add", "theirs", "type", "bridge")
    host.run("ip", "link", "add", "mine0", "type", "veth", "peer", "name", "mine1")
    host.run("ip", "link", "set", "mine0", "master", "theirs")
    with pytest.raises(Refused, match=r"InUse.*mine0"):
        await admin.attach("lab", {"kind": "existing", "device": "mine0"})
    assert master(admin, "mine0") == "theirs"
    assert await none_left(admin, network)
    for device in ("mine0", "theirs"):
        host.run("ip", "link", "delete", device)


async def test_an_opened_tap_goes_with_its_last_descriptor(admin: Administrator, network: str) -> None:
    async with client_of(admin.site.bus) as bus:
        call = method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", {"queues": variant(2)})
        reply = await bus.call(call)
        assert reply is not None and reply.signature == "oaha{sv}", plain(reply and reply.body)
        port, _, result = plain(reply.body)
        with ExitStack() as fds:
            for fd in reply.unix_fds:
                fds.callback(os.close, fd)
            assert len(reply.unix_fds) == 2
            assert master(admin, result["device"]) == "virbr0"
            assert await admin.get(network, NETWORK, "Ports") == [port]
            admin.site.daemon.kill()
            admin.site.daemon.start()
            assert master(admin, result["device"]) == "virbr0"
            assert await admin.get(network, NETWORK, "Ports") == [port]
        await eventually(lambda: none_left(admin, network), "the port is forgotten")
        assert admin.site.devices() == {"virbr0"}


async def test_a_port_ends_with_its_guests_namespace(admin: Administrator, network: str) -> None:
    guest = await admin.add_guest("lab")
    run("ip", "netns", "delete", guest.name)
    await eventually(lambda: none_left(admin, network), "the port is forgotten")
    with pytest.raises(Refused):
        await admin.get(guest.port, PORT, "Device")


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"kind": "veth"}, "Invalid.*netns"),
        ({"kind": "veth", "netns": "no-such"}, "NotFound.*no-such"),
        ({"kind": "veth", "netns": "/etc/passwd"}, "NotFound"),
        ({"kind": "veth", "netns": "../../proc/1/ns/net"}, "Invalid|NotFound"),
        ({"kind": "tap", "device": "virbr0"}, "Exists.*virbr0"),
        ({"kind": "tap", "device": "lo"}, "Exists.*lo"),
        ({"kind": "tap", "device": "a/b"}, "Invalid"),
        ({"kind": "tap", "device": "much-too-long-for-a-name"}, "Invalid"),
        ({"kind": "tap", "mac": "01:00:5e:00:00:01"}, "Invalid.*mac"),
        ({"kind": "existing", "device": "no-such"}, "NotFound.*no-such"),
        ({"kind": "tap", "filter": "no-such"}, "no-such"),
        ({"kind": "carrier-pigeon"}, "Invalid.*kind"),
    ],
)
async def test_a_bad_attachment_is_refused_and_leaves_nothing(
    admin: Administrator, network: str, spec: dict[str, Any], error: str
) -> None:
    with pytest.raises(Refused, match=error):
        await admin.attach("lab", spec)
    assert admin.site.devices() == {"virbr0"}
    assert await none_left(admin, network)
    assert not list((admin.site.root / "run/vnetd/ports").glob("*"))
