"""Macvtaps on a host in memory: which device of a pool they lie on, how long they live, how they are filtered."""

import pytest
from support.dhcp_packets import MAC as GUEST_MAC
from support.dhcp_packets import dhcp
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, running, view
from support.memory_host import MemoryHost
from support.memory_unbridged import MAC, USER, host, lower_of, plug, raised
from support.waiting import eventually

from vnetd.model.errors import InUse, Unsupported
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.kernel import DeleteLink, SetLink
from vnetd.ruleset.unbridged import entrance
from vnetd.service.views import Removed


@hastily
async def test_a_macvtap_has_the_guests_mac_and_its_lower_devices_mtu_and_is_up() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        attached = await plug(daemon, "macvtap", mac=MAC)
        link, lower = daemon.host.link("macvtap0"), daemon.host.link("eth1")
        assert link and lower
        assert (link.kind, link.mac, link.mtu, link.up, lower.up) == ("macvtap", MAC, 9000, True, True)
        assert daemon.host.links.modes[link.index] == "bridge"
        assert link.alias == f"vnetd:port:{attached.port.uuid}"
        assert attached.result["node"] == f"/dev/tap{link.index}" and attached.result["lower"] == "eth1"
        assert daemon.host.macvtap_nodes.owners["macvtap0"] == (107, 36)


@hastily
async def test_ports_go_to_the_least_used_device_of_the_pool_the_first_of_equals() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        ports = [await plug(daemon, "macvtap") for _ in range(4)]
        assert [lower_of(daemon, one.port.device) for one in ports] == ["eth1", "eth2", "eth1", "eth2"]
        await daemon.services.ports.detach(ROOT, ports[1].port.uuid)
        await daemon.services.ports.detach(ROOT, ports[3].port.uuid)
        assert [(await plug(daemon, "macvtap")).result["lower"] for _ in range(2)] == ["eth2", "eth2"]


@hastily
async def test_a_device_in_passthrough_has_one_guest_and_an_exhausted_pool_is_named() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "passthrough")
        first = await plug(daemon, "passthrough", mac=MAC)
        lower = daemon.host.link("eth1")
        assert lower and lower.mac == MAC
        await plug(daemon, "passthrough")
        with pytest.raises(InUse, match=r"network lab requires exclusive access.*eth1 \(port macvtap0\); eth2"):
            await plug(daemon, "passthrough")
        await raised(daemon, "bridge", name="other", devices={"interfaces": ["eth1"]})
        with pytest.raises(InUse, match=r"network other needs a network device, and none of its pool"):
            await plug(daemon, "macvtap", network="other")
        await daemon.services.ports.detach(ROOT, first.port.uuid)
        assert (await plug(daemon, "macvtap", network="other")).result["lower"] == "eth1"
        with pytest.raises(InUse, match="requires exclusive access"):
            await plug(daemon, "passthrough")


@hastily
async def test_a_device_that_is_not_there_is_passed_over_and_named_as_a_problem() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        daemon.host.perform(DeleteLink("eth1", ""))
        await eventually(lambda: view(daemon).state == "degraded")
        assert "eth1 is not there" in view(daemon).problems[0]
        assert (await plug(daemon, "macvtap")).result["lower"] == "eth2"
        daemon.host.links.create("eth1", "")
        await eventually(lambda: view(daemon).state == "active")


@hastily
async def test_a_macvtap_port_is_healed_and_ends_with_its_device_or_lower_device() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        one, other = await plug(daemon, "macvtap", mac=MAC), await plug(daemon, "macvtap")
        daemon.host.perform(SetLink("macvtap0", mtu=1280, up=False), SetLink("eth1", up=False))

        def healed() -> bool:
            link, lower = daemon.host.link("macvtap0"), daemon.host.link("eth1")
            return bool(link and lower and (link.mtu, link.mac, link.up, lower.up) == (9000, MAC, True, True))

        await eventually(healed)
        daemon.host.perform(DeleteLink("macvtap0", ""))
        await eventually(lambda: [port.uuid for port in daemon.services.ports.list()] == [other.port.uuid])
        daemon.host.perform(DeleteLink("eth2", ""))
        await eventually(lambda: not daemon.services.ports.list())
        assert [removed.view.uuid for removed in daemon.told(Removed)] == [one.port.uuid, other.port.uuid]


@hastily
async def test_the_mac_address_of_a_device_in_passthrough_is_kept_and_restored_when_its_macvtap_goes() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "passthrough")
        await plug(daemon, "passthrough", mac=MAC)

        def mac() -> str:
            link = daemon.host.link("eth1")
            return link.mac if link else ""

        daemon.host.perform(SetLink("eth1", mac="52:54:00:00:00:99"))
        await eventually(lambda: mac() == MAC)
        daemon.host.perform(DeleteLink("macvtap0", ""))
        await eventually(lambda: mac() == "00:1b:21:00:00:01")


@hastily
async def test_what_was_handed_out_lives_as_long_as_somebody_holds_it() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        attached = await plug(daemon, "macvtap-fd")
        assert len(attached.fds) == 2 and attached.port.kind == "macvtap-fd"
        await daemon.host.tap_devices.close(attached.fds[:1])
        await daemon.services.full_pass()
        assert daemon.services.ports.list()
        await daemon.host.tap_devices.close(attached.fds[1:])
        await eventually(lambda: not daemon.services.ports.list())
        assert daemon.host.link(attached.port.device) is None


@hastily
async def test_what_was_let_go_of_while_the_daemon_was_away_is_gone_after_its_start() -> None:
    made = host()
    async with running(made) as daemon:
        await raised(daemon, "bridge")
        kept, gone = await plug(daemon, "macvtap-fd"), await plug(daemon, "macvtap-fd")
    await made.tap_devices.close(gone.fds)
    async with running(made) as daemon:
        await daemon.services.full_pass()
        await eventually(lambda: [port.uuid for port in daemon.services.ports.list()] == [kept.port.uuid])
        assert made.link(gone.port.device) is None
        await made.tap_devices.close(kept.fds)


@hastily
async def test_a_macvtap_is_filtered_before_it_is_up_or_refused_where_rules_cannot_be() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        nft = daemon.host.rules
        nft.features = BridgeFeatures(unhooked="nftables says: no")
        with pytest.raises(Unsupported, match=r"in no bridge, needs rules where packets leave a device.*says: no"):
            await plug(daemon, "macvtap", caller=USER)
        port = (await plug(daemon, "macvtap")).port
        with pytest.raises(Unsupported, match="needs rules where packets leave a device"):
            await daemon.services.ports.set_filter(ROOT, port.uuid, "clean-traffic", {})
        nft.features = BridgeFeatures(unhooked="")
        port = (await plug(daemon, "macvtap", caller=USER)).port
        assert port.filter == "vnetd-guest"
        hooks = [one.hook for one in nft.tables["netdev"].chains.values() if one.hook]
        assert {hook.device for hook in hooks} == {port.device}
        assert {hook.hook for hook in hooks} == {"ingress", "egress"}
        commits = [call.arguments[1] for call in daemon.host.calls if call.verb == "nft.commit"]
        (written,) = [one for one in commits if any(chain.hook for chain in one.chains)]
        assert {element.key[0] for element in written.elements} == {port.device}, "all its rules come at once"
        raising = SetLink(port.device, up=True)
        (up,) = [place for place, call in enumerate(daemon.host.calls) if raising in call.arguments]
        assert entrance(port.device).chains[0] in [
            chain for call in daemon.host.calls[:up] if call.verb == "nft.commit" for chain in call.arguments[1].chains
        ]
        await daemon.services.ports.detach(USER, port.uuid)
        assert "netdev" not in nft.tables or not nft.tables["netdev"].chains


@hastily
async def test_a_filter_bound_to_somebody_elses_macvtap_is_at_each_device_of_that_name() -> None:
    made = host()
    async with running(made) as daemon:
        first = made.links.create("mv0", "macvtap", MAC, 1500)
        binding = await daemon.services.filters.bind(ROOT, "mv0", "no-mac-spoofing", {"MAC": [MAC]})

        def entered() -> bool:
            return bool(set(entrances) <= set(made.rules.tables["netdev"].chains))

        entrances = [chain.name for chain in entrance("mv0").chains]
        assert entered()
        made.links.remove(first)
        await eventually(lambda: not entered(), "before Linux 6.16 it went with the device")
        second = made.links.create("mv0", "macvtap", MAC, 1500)
        await eventually(entered, "the other device has it, too")
    async with running(made) as daemon:
        assert entered()
        made.links.remove(second)
        await eventually(lambda: not entered(), "it is looked after by the next daemon")
    async with running(made) as daemon:
        assert not entered()
        made.links.create("mv0", "macvtap", MAC, 1500)
        await eventually(entered, "a device that was away for long has it")
        await daemon.services.filters.unbind(ROOT, binding.uuid)
        assert not made.rules.tables.get("netdev") or not made.rules.tables["netdev"].chains


FILTERS = {"prerouting", "postrouting"}
LEARNING = {"learning_prerouting", "learning_postrouting"}


def entered_at(made: MemoryHost, device: str) -> set[str]:
    """Base chains at a device, without its name."""
    table = made.rules.tables.get("netdev")
    chains = table.chains.values() if table else ()
    return {one.name.removesuffix(f"_{device}") for one in chains if one.hook and one.hook.device == device}


@hastily
async def test_a_macvtap_has_base_chains_for_learning_as_long_as_its_filter_learns() -> None:
    given = {"IP": ("10.0.0.1",)}
    learned = {"CTRL_IP_LEARNING": ("dhcp",)}
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        port = (await plug(daemon, "macvtap", filter="clean-traffic", **{"parameter.IP": "10.0.0.1"})).port
        assert entered_at(daemon.host, port.device) == FILTERS
        for filter, parameters, names in (
            ("clean-traffic", learned, FILTERS | LEARNING),
            ("vnetd-guest", learned, FILTERS | LEARNING | {"neighbours"}),
            ("clean-traffic", given, FILTERS),
        ):
            await daemon.services.ports.set_filter(ROOT, port.uuid, filter, parameters)
            assert entered_at(daemon.host, port.device) == names
        await daemon.services.ports.set_filter(ROOT, port.uuid, "", {})
        assert not entered_at(daemon.host, port.device)


@hastily
async def test_what_is_for_a_guest_is_led_to_its_filter_once_that_has_rules_for_it() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "bridge")
        port = (await plug(daemon, "macvtap", filter="clean-traffic", mac=GUEST_MAC)).port
        assert entered_at(daemon.host, port.device) == {"prerouting"} | LEARNING
        daemon.host.packets.show(dhcp(port.device, 5, "10.0.0.1"))
        await eventually(lambda: entered_at(daemon.host, port.device) == FILTERS | LEARNING)


@hastily
@pytest.mark.parametrize("hooked", [True, False], ids=["its chains stay", "its chains went with it"])
async def test_of_a_filtered_macvtap_that_went_while_no_daemon_ran_nothing_is_left(hooked: bool) -> None:
    made = host()
    async with running(made) as daemon:
        await raised(daemon, "bridge")
        port = (await plug(daemon, "macvtap", caller=USER)).port
        assert entered_at(made, port.device)
    made.perform(DeleteLink(port.device, ""))
    if not hooked:  # before Linux 6.16
        table = made.rules.tables["netdev"]
        table.chains = {name: one for name, one in table.chains.items() if not one.hook}
    seen = len(made.rules.commits)
    async with running(made) as daemon:
        await eventually(lambda: not daemon.services.ports.list(), "the port goes")
        await eventually(lambda: not made.files.files["run/ports"], "and its record")
        added = [one for _, add in made.rules.commits[seen:] for one in add.chains]
        assert not [one for one in added if one.hook and one.hook.device], "the kernel would refuse it, and all with it"
        assert not [key for key, members in made.ruleset().items() if key.startswith("set netdev") and members]
        assert not entered_at(made, port.device)
