"""The host's resolver is told name servers by link: the one in memory, and systemd-resolved on a bus of its own."""

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from support.memory_kernel import MemoryKernel
from support.memory_resolver import MemoryResolver
from support.netns import run
from support.private_bus import private_bus
from support.resolved import POLICY, UNPREPARED, prepared, resolved
from support.waiting import eventually

from vnetd.host.resolver import Resolver
from vnetd.linux.resolved import Resolved
from vnetd.model.errors import HostError
from vnetd.plan.link_dns import LinkDns, LinkDomain, NameServer

LINK = "nic0"
RICH = LinkDns(
    servers=(
        NameServer(ip_address("192.0.2.1")),
        NameServer(ip_address("192.0.2.2"), 5353, "dns.example"),
        NameServer(ip_address("2001:db8::1")),
    ),
    domains=(LinkDomain("example"), LinkDomain("corp.example", route_only=True), LinkDomain(".", route_only=True)),
    default_route=True,
    llmnr="resolve",
    multicast_dns="resolve",
    dns_over_tls="opportunistic",
    dnssec="allow-downgrade",
    negative_trust_anchors=("bad.example", "worse.example"),
)


@dataclass(frozen=True)
class Site:
    """A resolver and what happens beside it."""

    resolver: Resolver
    make: Callable[[str], None]
    delete: Callable[[str], None]


@pytest.fixture(params=["memory", pytest.param("systemd-resolved", marks=pytest.mark.kernel)])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """With one link that has an address, so that names can be asked for there."""
    with ExitStack() as stack:
        made = _in_memory() if request.param == "memory" else _real(stack)
        made.make(LINK)
        yield made


def _in_memory() -> Site:
    kernel = MemoryKernel()

    def index_of(name: str) -> int:
        entry = kernel.find(name)
        return entry.link.index if entry else 0

    return Site(
        MemoryResolver(index_of),
        lambda name: kernel.create(name, "") and None,
        lambda name: kernel.remove(index_of(name)),
    )


def _real(stack: ExitStack) -> Site:
    if not prepared():
        pytest.skip(UNPREPARED)
    bus = stack.enter_context(private_bus(more=POLICY))
    stack.enter_context(resolved(bus, "/proc/thread-self/ns/net"))

    def make(name: str) -> None:
        run("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
        run("ip", "address", "add", "192.0.2.9/24", "dev", name)
        run("ip", "link", "set", name, "up")
        run("ip", "link", "set", f"{name}-far", "up")

    return Site(Resolved(bus.address), make, lambda name: run("ip", "link", "delete", name) and None)


async def settings(site: Site, link: str = LINK) -> LinkDns:
    found = await site.resolver.settings(link)
    assert found is not None
    return found


async def test_a_link_of_which_nothing_was_said_has_no_servers(site: Site) -> None:
    assert not await settings(site)


async def test_of_a_link_that_is_not_there_nothing_is_known_and_nothing_can_be_said(site: Site) -> None:
    assert await site.resolver.settings("nosuch") is None
    await site.resolver.take("nosuch")
    with pytest.raises(HostError, match="set name servers of nosuch: No such device") as refused:
        await site.resolver.give("nosuch", RICH)
    assert refused.value.errno == errno.ENODEV


async def test_everything_that_was_given_is_told_and_can_be_given_again(site: Site) -> None:
    before = await settings(site)
    await site.resolver.give(LINK, RICH)
    await eventually(lambda: _is(site, RICH), "told as given, once the resolver asks there")
    await site.resolver.give(LINK, RICH)
    assert await settings(site) == RICH
    await site.resolver.take(LINK)
    await site.resolver.take(LINK)
    assert await settings(site) == before


async def test_what_the_resolver_decides_by_itself_is_told_from_what_was_said(site: Site) -> None:
    plain = replace(await settings(site), servers=RICH.servers[:1], domains=RICH.domains[:1])
    await site.resolver.give(LINK, plain)
    await eventually(lambda: _is(site, plain))
    said = replace(plain, default_route=False)
    await site.resolver.give(LINK, said)
    await eventually(lambda: _is(site, said), "told once the resolver asks there")


async def test_a_new_link_of_the_same_name_is_another_one(site: Site) -> None:
    await site.resolver.give(LINK, RICH)
    site.delete(LINK)
    site.make(LINK)
    assert not await settings(site)


async def _is(site: Site, wanted: LinkDns) -> bool:
    return await site.resolver.settings(LINK) == wanted


@pytest.mark.kernel
async def test_where_no_resolver_runs_nothing_is_known_and_nothing_is_done() -> None:
    run("ip", "link", "add", LINK, "type", "bridge")
    with private_bus() as bus:
        for address in (bus.address, "unix:path=/nonexistent/bus"):
            resolver = Resolved(address)
            assert await resolver.settings(LINK) is None
            await resolver.give(LINK, RICH)
            await resolver.take(LINK)


@pytest.mark.kernel
@pytest.mark.skipif(not prepared(), reason=UNPREPARED)
async def test_a_resolver_of_another_network_namespace_is_not_told_of_our_links() -> None:
    run("ip", "netns", "add", "elsewhere")
    try:
        with private_bus(more=POLICY) as bus, resolved(bus, "/run/netns/elsewhere") as other:
            run("ip", "link", "add", LINK, "type", "bridge")
            run("ip", "netns", "exec", "elsewhere", "ip", "link", "add", LINK, "type", "bridge")
            assert await Resolved(bus.address).settings(LINK) is None
            await Resolved(bus.address).give(LINK, RICH)
            assert other.shown(LINK)["dns"] == ""
    finally:
        run("ip", "netns", "delete", "elsewhere")


@pytest.mark.kernel
@pytest.mark.skipif(not prepared(), reason=UNPREPARED)
async def test_a_resolver_that_refuses_or_stays_silent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run("ip", "link", "add", LINK, "type", "bridge")
    monkeypatch.setattr("vnetd.linux.resolved.PATIENCE", 0.5)
    with private_bus(more=POLICY) as bus, resolved(bus, "/proc/thread-self/ns/net") as running:
        with pytest.raises(HostError, match=r"set name servers of nic0: systemd-resolved: .*[Dd]omain"):
            await Resolved(bus.address).give(LINK, LinkDns(domains=(LinkDomain("not..a.domain"),)))
        running.pause()
        with pytest.raises(HostError, match="read name servers of nic0: systemd-resolved: no answer within"):
            await Resolved(bus.address).settings(LINK)
