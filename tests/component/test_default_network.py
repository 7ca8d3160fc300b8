"""The network that is there after an installation: once, where there is room, and not if nobody wants it."""

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from support.memory_calls import Refusal, verb
from support.memory_daemon import ROOT, defined, lab, running, view
from support.memory_host import MemoryHost, host_with_uplink

from vnetd.plan.kernel import AddRoute, SetLink
from vnetd.plan.links import KernelRoute
from vnetd.service.default_network import DOCUMENT, moved
from vnetd.xmlcodec.documents import parse_network

SHIPPED = (Path(__file__).resolve().parents[2] / "packaging/default-network.xml").read_text()


@pytest.fixture
def host() -> MemoryHost:
    host = host_with_uplink()
    host.files.shipped[DOCUMENT] = SHIPPED
    return host


def document(host: MemoryHost) -> dict[str, object]:
    kept: dict[str, object] = json.loads(host.files.files["etc/networks"]["default"])
    return kept


async def test_it_is_up_after_the_first_start_and_starts_with_the_host(host: MemoryHost) -> None:
    async with running(host) as daemon:
        default = view(daemon, "default")
        assert (default.mode, default.state, default.autostart) == ("nat", "active", True)
        assert (default.bridge, default.addresses) == ("virbr0", ("192.168.122.1/24",))
    host.boot()
    async with running(host) as daemon:
        assert view(daemon, "default").active


async def test_a_user_who_removes_it_is_not_given_it_again(host: MemoryHost) -> None:
    async with running(host) as daemon:
        default = view(daemon, "default")
        await daemon.services.networks.stop(ROOT, default.uuid)
        await daemon.services.networks.undefine(ROOT, default.uuid)
    async with running(host) as daemon:
        assert daemon.services.networks.list() == ()
    host.boot()
    async with running(host) as daemon:
        assert daemon.services.networks.list() == ()


async def test_a_user_who_changes_it_keeps_the_change(host: MemoryHost) -> None:
    async with running(host) as daemon:
        await daemon.services.networks.set_autostart(ROOT, view(daemon, "default").uuid, False)
        await daemon.services.networks.stop(ROOT, view(daemon, "default").uuid)
    async with running(host) as daemon:
        assert (view(daemon, "default").active, view(daemon, "default").autostart) == (False, False)


async def test_where_its_subnet_is_taken_another_is_picked_and_said(
    host: MemoryHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.perform(AddRoute("eth0", KernelRoute(ip_network("192.168.122.0/24"), ip_address("203.0.113.1"))))
    host.perform(AddRoute("eth0", KernelRoute(ip_network("192.168.123.0/25"), ip_address("203.0.113.1"))))
    async with running(host) as daemon:
        default = view(daemon, "default")
        assert (default.state, default.addresses) == ("active", ("192.168.124.1/24",))
    said = [
        record.getMessage()
        for record in caplog.records
        if "192.168.124.0/24 instead of 192.168.122.0/24" in record.getMessage()
    ]
    assert len(said) == 1 and "eth0" in said[0]
    dhcp = json.dumps(document(host))
    assert "192.168.124.2" in dhcp and "192.168.124.254" in dhcp and "192.168.122" not in dhcp


async def test_a_bridge_of_its_name_is_left_alone(host: MemoryHost, caplog: pytest.LogCaptureFixture) -> None:
    host.links.create("virbr0", "bridge")
    host.perform(SetLink("virbr0", up=True))
    before = host.link("virbr0")
    async with running(host) as daemon:
        assert view(daemon, "default").bridge == "virbr1"
    assert host.link("virbr0") == before
    assert "which exists already" in caplog.text


async def test_subnets_of_other_networks_count_even_when_they_do_not_run(host: MemoryHost) -> None:
    host.files.shipped.clear()
    async with running(host) as daemon:
        await defined(daemon, lab("mine", 122, addresses=[{"address": "192.168.122.9/28"}], routes=[]))
    host.files.shipped[DOCUMENT] = SHIPPED
    async with running(host) as daemon:
        assert view(daemon, "default").addresses == ("192.168.123.1/24",)


async def test_a_network_of_that_name_is_kept_as_it_is(host: MemoryHost) -> None:
    host.files.shipped.clear()
    async with running(host) as daemon:
        mine = await defined(daemon, lab("default", 9))
    host.files.shipped[DOCUMENT] = SHIPPED
    for _ in range(2):
        async with running(host) as daemon:
            assert [one.uuid for one in daemon.services.networks.list()] == [mine.uuid]
            assert not view(daemon, "default").active
    async with running(host) as daemon:
        await daemon.services.networks.undefine(ROOT, mine.uuid)
    async with running(host) as daemon:
        assert daemon.services.networks.list() == ()


@pytest.mark.parametrize("text", ["", " \n"])
async def test_a_packager_switches_it_off_by_not_shipping_it(host: MemoryHost, text: str) -> None:
    host.files.shipped[DOCUMENT] = text
    async with running(host) as daemon:
        assert daemon.services.networks.list() == ()


async def test_a_document_that_is_none_hinders_nothing_else(host: MemoryHost, caplog: pytest.LogCaptureFixture) -> None:
    host.files.shipped[DOCUMENT] = "<network><name>default</name><nonsense/></network>"
    async with running(host) as daemon:
        await defined(daemon)
    assert "could not be put in place" in caplog.text and "nonsense" in caplog.text
    host.files.shipped[DOCUMENT] = SHIPPED
    async with running(host) as daemon:
        assert view(daemon, "default").active


async def test_a_host_that_refuses_to_start_it_has_it_defined(
    host: MemoryHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.before = Refusal(verb("kernel.CreateBridge"))
    async with running(host) as daemon:
        assert (view(daemon, "default").active, view(daemon, "default").autostart) == (False, True)
    assert "could not be started" in caplog.text


def test_all_of_a_network_moves_together() -> None:
    text = SHIPPED.replace("</dhcp>", "<host mac='52:54:00:00:00:01' ip='192.168.122.9'/></dhcp>")
    there = moved(parse_network(text).value, ip_network("192.168.122.0/24"), ip_network("10.0.5.0/24"))  # type: ignore[arg-type]
    (address,) = there.addresses
    assert address.dhcp is not None
    assert str(address.address) == "10.0.5.1/24"
    assert [str(one) for span in address.dhcp.ranges for one in (span.start, span.end)] == ["10.0.5.2", "10.0.5.254"]
    assert [str(host.address) for host in address.dhcp.hosts] == ["10.0.5.9"]
