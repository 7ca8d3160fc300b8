"""Documents a daemon cannot read: nothing of what they described is torn down, and nobody else is kept from working."""

import json

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, lab, raised, running, view
from support.memory_host import MemoryHost, difference, host_with_uplink

from vnetd.model.errors import VnetError

VETH = {"kind": "veth", "netns": "guest"}


def damage(host: MemoryHost, kind: str, name: str, how: str) -> None:
    """Make a document unreadable."""
    texts = host.files.files[kind]
    if how == "cut off":
        texts[name] = texts[name][:-5]
    elif how == "of another version":
        document = json.loads(texts[name])
        (document["network"] if "network" in document and kind != "run/ports" else document)["invented"] = 1
        texts[name] = json.dumps(document)
    else:
        texts[name] = json.dumps(["something", "else"])


@pytest.mark.parametrize("how", ["cut off", "of another version", "something else"])
@hastily
async def test_a_running_network_whose_record_cannot_be_read_is_not_torn_down(how: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = await raised(daemon)
        await raised(daemon, "other", 78)
    damage(host, "run/networks", str(uuid), how)
    before = without_documents(host)
    async with running(host) as daemon:
        assert not difference(before, without_documents(host))
        assert view(daemon, "other").state == "active"
        with pytest.raises(VnetError):
            await daemon.services.networks.create(ROOT, lab("third", 77), {})


def without_documents(host: MemoryHost) -> dict[str, object]:
    """The host's state but the documents."""
    return {key: value for key, value in host.state().items() if not key.startswith("document")}


@pytest.mark.parametrize("how", ["cut off", "of another version", "something else"])
@hastily
async def test_a_definition_that_cannot_be_read_keeps_nobody_from_working(how: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        await raised(daemon, "other", 78)
    text = host.files.files["etc/networks"]["lab"]
    damage(host, "etc/networks", "lab", how)
    damaged, before = host.files.files["etc/networks"]["lab"], without_documents(host)
    async with running(host) as daemon:
        assert not difference(before, without_documents(host)), "what runs goes on"
        assert (view(daemon, "other").state, view(daemon).state, view(daemon).persistent) == ("active", "active", False)
    assert damaged in {host.files.files["etc/networks"].get("lab"), host.files.aside.get("etc/networks", {}).get("lab")}
    host.files.files["etc/networks"]["lab"] = text
    async with running(host) as daemon:
        assert view(daemon).persistent


@pytest.mark.parametrize("how", ["cut off", "of another version", "something else"])
@hastily
async def test_a_port_whose_record_cannot_be_read_keeps_its_device_and_its_filter(how: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        attached = await daemon.services.ports.attach(ROOT, "lab", {**VETH, "filter": "no-mac-spoofing"})
    damage(host, "run/ports", str(attached.port.uuid), how)
    before = without_documents(host)
    async with running(host):
        assert not difference(before, without_documents(host))


@hastily
async def test_a_record_that_cannot_be_realised_any_more_does_not_keep_the_daemon_from_starting() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = await raised(daemon)
        await raised(daemon, "other", 78)
    record = json.loads(host.files.files["run/networks"][str(uuid)])
    record["network"]["dnsmasq_options"] = ["conf-script=/bin/true"]
    host.files.files["run/networks"][str(uuid)] = json.dumps(record)
    before = without_documents(host)
    async with running(host) as daemon:
        assert view(daemon, "other").state == "active"
        assert not difference(before, without_documents(host)), "nothing of it is torn down"
