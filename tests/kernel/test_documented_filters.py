"""The examples of docs/FILTERS.md do what the page says, seen by packets."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.filtering import HOST4, Bench, Tap, bridge, plug, wait_for_forwarding
from support.frames import IPV4, TCP, Frame, ip
from support.netns import Lab, Namespace
from support.waiting import SILENCE

from vnetd.linux.nft import LinuxNft
from vnetd.model.filter import Filter
from vnetd.xmlcodec.documents import parse_filter
from vnetd.xmlcodec.filter_builtin import builtin_filters

PAGE = Path(__file__).parents[2] / "docs" / "FILTERS.md"


def examples(kind: str) -> dict[str, Filter]:
    """The filters of the page written as ``xml`` or ``json``, by name."""
    texts = re.findall(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {one.name: one for one in (parse_filter(text).value for text in texts)}


@pytest.fixture
async def bench(lab: Lab, inside_host: Namespace) -> AsyncIterator[Bench]:
    bridge(inside_host)
    one, two = plug(lab, inside_host, 11), plug(lab, inside_host, 12)
    wait_for_forwarding(inside_host, one, two)
    nft = LinuxNft()
    await nft.open()
    made = Bench(inside_host, one, two, nft, {**builtin_filters(), **examples("xml")})
    yield made
    made.close()
    await nft.close()


async def test_blockicmp_is_the_same_in_both_forms_and_stops_ping_alone(bench: Bench) -> None:
    assert examples("json")["blockicmp"] == examples("xml")["blockicmp"]
    bench.serve(bench.one.namespace, "tcp:80")
    await bench.bind(bench.one, "blockicmp")
    assert not bench.two.pings(bench.one.address4, wait=SILENCE)
    assert not bench.one.pings(bench.two.address4, wait=SILENCE)
    assert bench.two.reaches(bench.one.address4, 80)


async def test_the_web_server_serves_and_asks_dns_and_can_do_nothing_else(bench: Bench) -> None:
    bench.serve(bench.one.namespace, "tcp:80", "tcp:443", "tcp:22")
    bench.serve(bench.two.namespace, "tcp:80", "udp:53")
    await bench.bind(bench.one, "web-server", IP=[bench.one.address4])
    assert bench.two.reaches(bench.one.address4, 80)
    assert bench.host_reaches(bench.one.address4, 443)
    assert not bench.two.reaches(bench.one.address4, 22, wait=SILENCE)
    assert bench.one.answers(bench.two.address4, 53)
    assert not bench.one.reaches(bench.two.address4, 80, wait=SILENCE)
    assert not bench.two.pings(bench.one.address4, wait=SILENCE)
    await bench.bind(bench.one, "web-server", IP=["10.7.0.99"])
    assert not bench.two.reaches(bench.one.address4, 80, wait=SILENCE)


async def test_peers_only_opens_each_port_to_each_peer(bench: Bench) -> None:
    bench.serve(bench.two.namespace, "tcp:22", "tcp:80", "tcp:81")
    bench.serve(bench.host, "tcp:22")
    await bench.bind(bench.one, "peers-only", PEER=["10.7.0.13", bench.two.address4], PORT=["22", "80"])
    assert bench.one.reaches(bench.two.address4, 22)
    assert bench.one.reaches(bench.two.address4, 80)
    assert not bench.one.reaches(bench.two.address4, 81, wait=SILENCE)
    assert not bench.one.reaches(HOST4, 22, wait=SILENCE)
    assert not bench.one.pings(bench.two.address6, wait=SILENCE)


async def test_the_careful_server_takes_connections_that_begin_with_syn_and_begins_none(bench: Bench) -> None:
    bench.serve(bench.one.namespace, "tcp:22", "tcp:80")
    bench.serve(bench.two.namespace, "tcp:22")
    await bench.bind(bench.one, "careful-server")
    assert bench.two.reaches(bench.one.address4, 22)
    assert not bench.two.reaches(bench.one.address4, 80, wait=SILENCE)
    assert not bench.one.reaches(bench.two.address4, 22, wait=SILENCE)
    stray, first = (
        Frame(bench.two.mac, bench.one.mac, IPV4, ip(bench.two.address4, bench.one.address4, TCP, dport=22, **more))
        for more in ({"flags": 0x10, "sport": 998}, {"flags": 0x02, "sport": 999})
    )
    with Tap(bench.one, IPV4) as tap:
        bench.two.send_frame(stray.encode())
        bench.two.send_frame(first.encode())
        assert tap.sees(first.encode())
        bench.two.send_frame(stray.encode())
        assert not tap.sees(stray.encode(), wait=SILENCE)
