"""Name servers on a host in memory move with an uplink's addresses."""

from dataclasses import replace

import pytest
from support.memory_calls import Refusal, verb
from support.memory_daemon import ROOT
from support.memory_resolver import DEFAULTS
from support.memory_switches import (
    DNS,
    OWN,
    addresses,
    deaf,
    define,
    index_of,
    rich_host,
    start,
    starting,
    view,
)

from vnetd.service.views import Changed


async def test_name_servers_move_with_the_addresses_and_back() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon)
        assert (host.name_servers.shown("br0"), host.name_servers.shown("eth0")) == (DNS, DEFAULTS)
        meanwhile = replace(DNS, servers=DNS.servers[:1])
        host.name_servers.links[index_of(host, "br0")] = meanwhile
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert host.name_servers.shown("eth0") == meanwhile


async def test_without_a_resolver_there_is_nothing_to_move_and_no_problem() -> None:
    host = rich_host()
    host.name_servers.runs = False
    async with deaf(host) as daemon:
        assert ((await start(daemon)).state, addresses(host, "br0")) == ("active", OWN)


@pytest.mark.parametrize("refused", ["resolver.settings", "resolver.give", "resolver.take"])
async def test_name_servers_that_cannot_be_moved_are_a_problem_until_they_can(refused: str) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await define(daemon)
        host.before = Refusal(verb(refused), times=100)
        await starting(daemon)
        (problem,) = view(daemon).problems
        assert ("of eth0 to br0: Input/output error" in problem, view(daemon).state) == (True, "degraded")
        assert ("203.0.113.53" in problem) is (refused != "resolver.settings"), "it says which as soon as it knows"
        assert (addresses(host, "br0"), host.name_servers.shown("eth0")) == (OWN, DNS)
        host.before = Refusal(lambda _: False)
        await daemon.services.full_pass()
        assert (view(daemon).state, view(daemon).problems) == ("active", ())
        assert [one.view.problems for one in daemon.told(Changed)][-1] == (), "and that is told"
        assert (host.name_servers.shown("br0"), host.name_servers.shown("eth0")) == (DNS, DEFAULTS)


async def test_name_servers_that_a_manager_of_the_uplink_tells_the_resolver_stay_known_of_it() -> None:
    host = rich_host()
    host.name_servers.managed.add("eth0")
    async with deaf(host) as daemon:
        switch = await start(daemon)
        assert (host.name_servers.shown("br0"), host.name_servers.shown("eth0")) == (DNS, DNS)
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert (view(daemon).problems, host.name_servers.shown("eth0")) == ((), DNS)
