"""Virtual functions and passt processes handed out on a host in memory."""

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, running
from support.memory_host import difference
from support.memory_unbridged import MAC, USER, host, plug, raised
from support.waiting import eventually

from vnetd.model.errors import Denied, InUse, Invalid, NotFound, Unsupported
from vnetd.model.functions import VfState
from vnetd.plan.functions import Function, SetFunction


@hastily
async def test_functions_are_handed_out_exclusively_with_what_their_card_shall_do_for_them() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "hostdev", vlan={"tags": [{"id": 42}]})
        one = await plug(daemon, "hostdev", mac=MAC)
        assert {key: one.result[key] for key in ("pci", "vf", "pf")} == {"pci": "0000:03:10.0", "vf": 0, "pf": "eth1"}
        wanted = VfState(mac=MAC, vlan=42, spoof_check=False, trust=True, link_state="auto")
        assert daemon.host.links.cards["eth1"][0] == wanted
        daemon.host.perform(SetFunction("eth1", 0, vlan=(3, 0), trust=False))
        await eventually(lambda: daemon.host.links.cards["eth1"][0] == wanted)
        assert (await plug(daemon, "hostdev")).result["pci"] == "0000:03:10.1"
        with pytest.raises(InUse, match=r"exclusive access to a virtual function.*0000:03:10.0 \(port hostdev0\)"):
            await plug(daemon, "hostdev")
        await daemon.services.ports.detach(ROOT, one.port.uuid)
        former = VfState(vlan=7, spoof_check=True, trust=False, link_state="auto")
        assert daemon.host.links.cards["eth1"][0] == former
        assert (await plug(daemon, "hostdev")).result["vf"] == 0


@hastily
async def test_functions_can_be_named_one_by_one_by_their_pci_address() -> None:
    async with running(host()) as daemon:
        addresses = [{"bus": 3, "slot": 16, "function": 1}]
        await raised(daemon, "hostdev", devices={"pci": addresses})
        assert (await plug(daemon, "hostdev")).result["pci"] == "0000:03:10.1"
        with pytest.raises(InUse):
            await plug(daemon, "hostdev")


@hastily
async def test_a_function_that_is_not_there_is_passed_over_and_named_if_there_is_no_other() -> None:
    away, there = ({"bus": 3, "slot": 16, "function": number} for number in (7, 1))
    async with running(host()) as daemon:
        await raised(daemon, "hostdev", devices={"pci": [away, there]})
        await raised(daemon, "hostdev", name="away", devices={"pci": [away]})
        assert (await plug(daemon, "hostdev")).result["pci"] == "0000:03:10.1"
        with pytest.raises(NotFound, match=r"there is no PCI device 0000:03:10\.7"):
            await plug(daemon, "hostdev", network="away")


@hastily
async def test_a_function_is_not_handed_out_while_macvtaps_lie_on_its_device_nor_the_other_way_round() -> None:
    made = host()
    made.cards.cards["eth1"] = (Function("0000:03:10.0", "eth1", 0, "eth2"),)
    async with running(made) as daemon:
        await raised(daemon, "hostdev")
        await raised(daemon, "bridge", name="other", devices={"pf": "eth1"})
        macvtap = await plug(daemon, "macvtap", network="other")
        with pytest.raises(InUse, match=r"exclusive access to a virtual function.*0000:03:10.0 \(port macvtap0\)"):
            await plug(daemon, "hostdev")
        await daemon.services.ports.detach(ROOT, macvtap.port.uuid)
        await plug(daemon, "hostdev")
        with pytest.raises(InUse, match=r"network other needs a network device, and none of its pool is available"):
            await plug(daemon, "macvtap", network="other")


@hastily
async def test_what_the_driver_of_a_card_does_not_know_is_refused_to_who_asks_for_it() -> None:
    made = host()
    made.links.cards["eth1"] = dict.fromkeys(range(2), VfState(spoof_check=True, link_state="auto"))
    async with running(made) as daemon:
        await raised(daemon, "hostdev")
        with pytest.raises(Unsupported, match="the driver of eth1 does not know trust"):
            await plug(daemon, "hostdev", spoof_check=False, trust=True)
        assert made.links.cards["eth1"][0] == VfState(spoof_check=True, link_state="auto")
        await plug(daemon, "hostdev", mac=MAC, spoof_check=False, trust=None)
        assert made.links.cards["eth1"][0] == VfState(mac=MAC, spoof_check=False, link_state="auto")


@pytest.mark.parametrize("wishes", [{}, {"spoof_check": False}, {"trust": True}], ids=str)
@pytest.mark.parametrize("filter", [None, "clean-traffic", ""])
@hastily
async def test_who_is_not_root_gets_no_function_and_so_neither_trust_nor_a_mac_nobody_checks(
    wishes: dict[str, bool], filter: str | None
) -> None:
    spec = {"kind": "hostdev", **wishes} | ({} if filter is None else {"filter": filter})
    async with running(host()) as daemon:
        await raised(daemon, "hostdev")
        before = daemon.host.state()
        with pytest.raises((Denied, Unsupported), match=r"has no port without|only root may have a port"):
            await daemon.services.ports.attach(USER, "lab", spec)
        assert not difference(before, daemon.host.state())
        port = (await plug(daemon, "hostdev", filter="")).port
        await raised(daemon, "hostdev", name="other", devices={"pf": "eth2"})
        with pytest.raises(Denied, match=port.device):
            await daemon.services.ports.move(USER, port.uuid, "other")


@hastily
async def test_passt_is_started_anew_when_it_dies_and_missing_is_named_with_its_package() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "user", forwards=[{"protocol": "udp", "listen": 5353, "to": MAC, "port": 53}])
        attached = await plug(daemon, "passt", mac=MAC, mtu=1400)
        (instance,) = daemon.host.passts.running.values()
        assert attached.result["socket"] == daemon.host.passts.socket(str(attached.port.uuid))
        assert (instance.uid, instance.gid, instance.mtu) == (65534, 65534, 1400)
        assert [(f.protocol, f.listen, f.port) for f in instance.forwards] == [("tcp", 8022, 22), ("udp", 5353, 53)]
        daemon.host.passts.die(instance.port)
        await eventually(lambda: daemon.host.passts.running.get(instance.port) == instance)
        daemon.host.passts.missing = True
        with pytest.raises(Unsupported, match=r"needs the program passt.*install it \(package passt\)"):
            await plug(daemon, "passt", forwards=[])
        assert len(daemon.services.ports.list()) == 1


@hastily
async def test_passt_runs_as_its_owner_and_only_root_gives_away_low_ports_or_other_users() -> None:
    async with running(host()) as daemon:
        await raised(daemon, "user")
        await plug(daemon, "passt", caller=USER)
        (instance,) = daemon.host.passts.running.values()
        assert instance.uid == 1000
        with pytest.raises(Denied, match="tcp port 80 of the host is below 1024"):
            await plug(daemon, "passt", caller=USER, forwards=["tcp:80"])
        with pytest.raises(Denied, match="cannot have a port run as uid 33"):
            await plug(daemon, "passt", caller=USER, owner=33)
        await plug(daemon, "passt", owner=33, forwards=["tcp:80"])
        assert {one.uid for one in daemon.host.passts.running.values()} == {1000, 33}


@pytest.mark.parametrize("text", ["tcp", "sctp:80", "tcp:0", "tcp:99999", "tcp:80:x", "tcp:1.2.3:80", "tcp:1:2:3"])
@hastily
async def test_a_forward_that_is_none_is_refused(text: str) -> None:
    async with running(host()) as daemon:
        await raised(daemon, "user")
        with pytest.raises(Invalid, match="port forwards"):
            await plug(daemon, "passt", forwards=[text])


@hastily
async def test_strays_of_an_earlier_run_end_when_nobody_has_them_on_record() -> None:
    made = host()
    async with running(made) as daemon:
        await raised(daemon, "user")
        await plug(daemon, "passt")
    for kind in ("run/ports",):
        made.files.files[kind].clear()
    async with running(made) as daemon:
        assert not made.passts.running and not daemon.services.ports.list()
