"""What somebody fights over is left alone, and nothing else of the target that it is part of."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from uuid import UUID

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, Running, defined, lab, raised, running, view
from support.memory_healing import quiet, settled
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.memory_nft import MemoryNft
from support.memory_ports import plug
from support.waiting import eventually

from vnetd.model.errors import HostError
from vnetd.plan.kernel import AddAddress, DeleteAddress, SetLink, WriteSysctl
from vnetd.plan.rules import Chain, Element, Family, Fragment, Set
from vnetd.reconcile.backoff import FIRST_HOLD, LIMIT, WINDOW
from vnetd.reconcile.rules import RulesKeeper
from vnetd.ruleset.expressions import ACCEPT, DROP
from vnetd.service.views import Changed, Healed

V4 = ip_interface("192.168.77.1/24")
GUARDED = "element {} of set inet vnetd guarded is missing"
AT_ONCE = 0.1
"""Seconds of the hasty loop within which a repair is over that nobody holds back."""


def guarded(host: MemoryHost, device: str) -> Element | None:
    """The element that has a network's guests guarded; set ``guarded`` has one for each network."""
    held = host.rules.tables["inet"].elements["guarded"].values()
    return next((element for element in held if element.key == (device,)), None)


def unguard(host: MemoryHost, device: str) -> None:
    """Somebody deletes it."""
    element = guarded(host, device)
    assert element is not None
    host.rules.delete_element(element)


async def fight(daemon: Running, change: Callable[[], object], times: int = LIMIT) -> None:
    """Somebody makes a change anew as soon as it is undone, until that is held back."""
    before = daemon.host.state()
    for _ in range(times):
        assert not difference(before, daemon.host.state()), "it is repaired each time"
        change()
        assert difference(before, daemon.host.state())
        await asyncio.sleep(AT_ONCE)


async def fight_over_lab(daemon: Running) -> None:
    """Somebody fights over an element of network lab, and has changed it once more."""
    await fight(daemon, lambda: unguard(daemon.host, "virbr0"))
    unguard(daemon.host, "virbr0")
    await asyncio.sleep(AT_ONCE)
    assert guarded(daemon.host, "virbr0") is None, "it is left alone"


@hastily
async def test_rules_of_other_networks_are_repaired_at_once_while_somebody_fights_over_one() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await settled(daemon, "other", 78)
        before = daemon.host.state()
        await fight_over_lab(daemon)
        (problem,) = view(daemon).problems
        assert (view(daemon).state, GUARDED.format("virbr0") in problem, "by nft" in problem) == (
            "degraded",
            True,
            True,
        )
        unguard(daemon.host, "virbr1")
        await asyncio.sleep(AT_ONCE)
        assert guarded(daemon.host, "virbr1")
        assert (view(daemon, "other").state, view(daemon, "other").healed_count) == ("active", 1)
        assert guarded(daemon.host, "virbr0") is None
        await asyncio.sleep(FIRST_HOLD)
        assert not difference(before, daemon.host.state()), "its time has come"
        assert view(daemon).state == "degraded", "he may come again"
        await asyncio.sleep(2 * FIRST_HOLD + WINDOW)
        assert (view(daemon).state, view(daemon).problems) == ("active", ())


@hastily
async def test_a_ruleset_flushed_again_and_again_is_one_fight_of_all_networks() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await settled(daemon, "other", 78)
        before = daemon.host.state()
        await fight(daemon, daemon.host.rules.flush_ruleset)
        for name in ("lab", "other"):
            (problem,) = view(daemon, name).problems
            assert "table inet vnetd is missing" in problem and view(daemon, name).state == "degraded"
        daemon.host.rules.flush_ruleset()
        await asyncio.sleep(AT_ONCE)
        assert not daemon.host.rules.tables
        await asyncio.sleep(FIRST_HOLD)
        assert not difference(before, daemon.host.state())
        await asyncio.sleep(2 * FIRST_HOLD + WINDOW)
        assert view(daemon).state == view(daemon, "other").state == "active"


@hastily
async def test_a_network_takes_what_was_fought_over_with_it_when_it_stops() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon, "other", 78)
        uuid = UUID(await settled(daemon))
        await fight(daemon, lambda: unguard(daemon.host, "virbr1"))
        unguard(daemon.host, "virbr1")
        await asyncio.sleep(AT_ONCE)
        await daemon.services.networks.stop(ROOT, uuid)
        await daemon.services.networks.start(ROOT, uuid)
        await asyncio.sleep(AT_ONCE)
        assert (view(daemon).state, view(daemon).problems) == ("active", ())
        unguard(daemon.host, "virbr1")
        await asyncio.sleep(AT_ONCE)
        assert guarded(daemon.host, "virbr1"), "nothing is suspected any more"


@hastily
async def test_a_network_can_start_while_somebody_fights_over_the_table_it_needs() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await fight(daemon, daemon.host.rules.flush_ruleset)
        daemon.host.rules.flush_ruleset()
        repairs = view(daemon).healed_count
        await settled(daemon, "other", 78)
        assert guarded(daemon.host, "virbr0") and guarded(daemon.host, "virbr1")
        assert view(daemon).healed_count == repairs + 1, "what was put back for it is a repair"
        assert [one.what for one in daemon.told(Healed)][repairs:] == ["table inet vnetd is missing"]
        assert view(daemon, "other").healed_count == 0
        hold = next(text for text in view(daemon).problems if "table inet vnetd is missing" in text)
        assert f"{2 * FIRST_HOLD:.0f} s" in hold, "and one more in the fight"


def leading_to(host: MemoryHost, device: str) -> Element:
    """The element that has a port's packets go through its filter."""
    held = (element for members in host.rules.tables["bridge"].elements.values() for element in members.values())
    return next(element for element in held if device in element.key and element.data.startswith("goto"))


@hastily
async def test_a_port_whose_filter_is_fought_over_shows_it_and_others_do_not() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        quiet_one = (await plug(daemon, "veth")).port
        port = (await plug(daemon, "tap")).port
        await quiet(daemon)
        own = leading_to(daemon.host, port.device)
        await fight(daemon, lambda: daemon.host.rules.delete_element(own))
        ports = daemon.services.ports
        assert (ports.get(port.device).state, ports.get(quiet_one.device).state) == ("degraded", "active")
        assert port.device in ports.get(port.device).problems[0]
        assert view(daemon).state == "active"
        told = len(daemon.notices)
        await ports.detach(ROOT, port.uuid)
        await asyncio.sleep(2 * FIRST_HOLD + WINDOW)
        kinds = [type(notice).__name__ for notice in daemon.notices[told:] if getattr(notice, "kind", "") == "port"]
        assert kinds[-1] == "Removed", "what is gone shows nothing any more"


MASQUERADE = "masquerade-1024-65535"
"""A chain that all networks with translation share, and no others."""


async def fight_over_masquerade(daemon: Running) -> None:
    """Somebody fights over a rule of that chain."""
    await fight(daemon, lambda: daemon.host.rules.delete_rule("inet", MASQUERADE, 0))


@hastily
async def test_a_network_that_comes_to_share_what_is_fought_over_shows_it_at_once_and_as_long_as_it_lasts() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await fight_over_masquerade(daemon)
        repairs = view(daemon).healed_count
        await raised(daemon, "other", 78)
        await raised(daemon, "routed", 79, mode="route")
        await asyncio.sleep(0)
        assert (view(daemon, "other").state, view(daemon, "other").problems) == ("degraded", view(daemon).problems)
        assert MASQUERADE in view(daemon).problems[0]
        assert [one.view.state for one in daemon.told(Changed) if one.view.name == "other"][-1] == "degraded"
        assert view(daemon, "routed").state == "active"
        await asyncio.sleep(FIRST_HOLD + WINDOW)
        assert (view(daemon, "other").state, view(daemon).state) == ("active", "active")
        assert view(daemon).healed_count == repairs, "nothing had to be repaired for it to be shown"


@hastily
async def test_a_network_that_needs_what_is_fought_over_no_more_shows_it_no_more() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        uuid = await settled(daemon, "other", 78)
        await fight_over_masquerade(daemon)
        assert view(daemon, "other").state == "degraded"
        await defined(daemon, lab("other", 78, mode="route", uuid=uuid))
        await asyncio.sleep(0)
        assert (view(daemon, "other").state, view(daemon).state) == ("active", "degraded")


@hastily
async def test_a_port_that_comes_to_share_a_filter_that_is_fought_over_shows_it_at_once() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        early = (await plug(daemon, "veth")).port
        await quiet(daemon)
        name = leading_to(daemon.host, early.device).data.removeprefix("goto ")
        await fight(daemon, lambda: daemon.host.rules.delete_rule("bridge", name, 0))
        late = (await plug(daemon, "tap")).port
        await asyncio.sleep(0)
        shown = daemon.services.ports.get(late.device)
        assert shown.state == "degraded" and name in shown.problems[0]


@hastily
async def test_a_network_whose_uplinks_forwarding_is_fought_over_shows_it_from_its_start() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        forwarding = ("net", "ipv4", "conf", "eth0", "forwarding")
        await fight(daemon, lambda: daemon.host.perform(WriteSysctl(forwarding, "0")))
        await raised(daemon, "other", 78)
        await raised(daemon, "alone", 79, mode="isolated", routes=[])
        await asyncio.sleep(0)
        assert (view(daemon, "other").state, view(daemon, "alone").state) == ("degraded", "active")


@hastily
async def test_a_bridge_whose_mtu_is_fought_over_still_gets_its_address_back() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        before = daemon.host.state()
        await fight(daemon, lambda: daemon.host.perform(SetLink("virbr0", mtu=1300)))
        daemon.host.perform(SetLink("virbr0", mtu=1300), DeleteAddress("virbr0", V4))
        await asyncio.sleep(AT_ONCE)
        entry = daemon.host.links.find("virbr0")
        assert entry is not None and (entry.link.mtu, V4 in entry.addresses) == (1300, True)
        await asyncio.sleep(FIRST_HOLD)
        assert not difference(before, daemon.host.state())


@hastily
async def test_forwarding_of_one_uplink_is_kept_while_that_of_another_is_fought_over() -> None:
    async with running(host_with_uplink()) as daemon:
        daemon.host.links.create("wwan0", "")
        daemon.host.perform(SetLink("wwan0", up=True), AddAddress("wwan0", ip_interface("100.64.0.2/24")))
        await settled(daemon)
        await settled(daemon, "alone", 79, mode="isolated", routes=[])

        def off(device: str) -> None:
            daemon.host.perform(WriteSysctl(("net", "ipv4", "conf", device, "forwarding"), "0"))

        await fight(daemon, lambda: off("eth0"))
        assert (view(daemon).state, view(daemon, "alone").state) == ("degraded", "active")
        off("eth0")
        off("wwan0")
        await asyncio.sleep(AT_ONCE)
        values = daemon.host.links.values
        assert [values["net", "ipv4", "conf", device, "forwarding"] for device in ("eth0", "wwan0")] == ["0", "1"]
        await eventually(lambda: view(daemon).state == "active", "peace", deadline=60)


GUESTS = Set("bridge", "from_guest", ("ifname",), data="verdict")
GUEST = Element("bridge", "from_guest", ("vnet0",), "goto web")
WEB = Chain("bridge", "web", ())


async def test_what_is_left_alone_comes_back_all_the_same_if_something_else_needs_it() -> None:
    nft = MemoryNft()
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": Fragment((WEB,), (GUESTS,), frozenset({GUEST}))})
    spare = frozenset({"chain bridge vnetd web is missing"})
    nft.delete_element(GUEST)
    del nft.tables["bridge"].chains["web"]
    keeper.suspect(("bridge", "chain", "web"))
    async with keeper.lock:
        assert await keeper.converge(spare=spare) == ()
        keeper.suspect(("bridge", "set", "from_guest"))
        assert "chain bridge vnetd web is missing" in await keeper.converge(spare=spare)
    assert "web" in nft.tables["bridge"].chains and guest_of(nft) == {GUEST}
    await keeper.close()


async def test_what_is_left_alone_is_not_what_another_family_has_of_the_same_name() -> None:
    nft = MemoryNft()
    keeper = RulesKeeper(nft)
    families: tuple[Family, ...] = ("bridge", "netdev")
    chains = tuple(Chain(family, "web", ((DROP,),)) for family in families)
    sets = tuple(replace(GUESTS, family=family) for family in families)
    elements = {family: replace(GUEST, family=family) for family in families}
    await keeper.put({"port:1": Fragment(chains, sets, frozenset(elements.values()))})

    async def tampered(family: Family, spare: frozenset[str] = frozenset()) -> tuple[str, ...]:
        nft.delete_rule(family, "web", 0)
        nft.delete_element(elements[family])
        keeper.suspect((family, "chain", "web"))
        keeper.suspect((family, "set", "from_guest"))
        async with keeper.lock:
            return await keeper.converge(spare=spare)

    held = frozenset(await tampered("bridge"))
    assert len(held) == 2
    assert await tampered("bridge", held) == ()
    assert len(await tampered("netdev", held)) == 2
    assert nft.tables["netdev"].chains["web"].rules == ((DROP,),) and nft.tables["netdev"].elements["from_guest"]
    await keeper.close()


def guest_of(nft: MemoryNft) -> set[Element]:
    return set(nft.tables["bridge"].elements["from_guest"].values())


async def test_what_somebody_made_of_a_chain_that_is_left_alone_is_not_learned_as_its_form() -> None:
    nft = MemoryNft()
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": Fragment((replace(WEB, rules=((DROP,),)),))})  # it is listed in a moment
    nft.tables["bridge"].chains["web"] = replace(WEB, rules=((ACCEPT,),))
    keeper.suspect(("bridge", "chain", "web"))
    async with keeper.lock:
        assert await keeper.converge(spare=frozenset({"chain bridge vnetd web has changed rules"})) == ()
    await keeper.close()
    async with keeper.lock:
        assert await keeper.converge() == ("chain bridge vnetd web has changed rules",)
    assert nft.tables["bridge"].chains["web"].rules == ((DROP,),)
    await keeper.close()


async def test_after_a_repair_was_refused_everything_is_looked_at_even_if_less_is_named() -> None:
    nft = MemoryNft()
    keeper = RulesKeeper(nft)
    await keeper.put({"port:1": Fragment((WEB,), (GUESTS,), frozenset({GUEST}))})
    nft.delete_element(GUEST)
    keeper.suspect(("bridge", "set", "from_guest"))
    refused = 0

    async def commit(*_: object) -> None:
        nonlocal refused
        refused += 1
        raise HostError("commit rules", "element", "No buffer space available")

    real, nft.commit = nft.commit, commit  # type: ignore[method-assign]
    async with keeper.lock:
        with pytest.raises(HostError):
            await keeper.converge()
        assert refused == 2
        nft.commit = real  # type: ignore[method-assign]
        keeper.suspect(("bridge", "rules", "web"))
        await keeper.converge()
    assert guest_of(nft) == {GUEST}
    await keeper.close()
