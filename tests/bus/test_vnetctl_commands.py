"""vnetctl against the daemon's front end, over a real bus: exit codes, the bus, what is not of one kind of objects."""

from collections.abc import Mapping

import pytest
from support.fake_services import FakeServices, one_of_each
from support.fake_world import switch_view
from support.private_bus import NOBODY, PrivateBus
from support.vnetctl import Vnetctl

from vnetd.model.errors import Busy, HostError

HOSTILE = "a\x1b]0;owned\x07\u202eb"


async def test_status_counts_and_names_what_is_not_well(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    services.add_networks("bad", active=True, state="degraded", problems=("virbr9 is fought over by systemd-networkd",))
    floor = switch_view("floor", active=True, state="degraded", unconfirmed=True, problems=("eth1 is away",))
    services.world.add("switch", floor)
    text = (await vnetctl.ok("status")).out
    assert "2, 1 active, not well: bad" in text
    assert "bad: virbr9 is fought over by systemd-networkd" in text
    assert "2, 1 active, not well: floor, to be confirmed: floor" in text
    assert "floor: eth1 is away" in text
    facts = (await vnetctl.ok("status", "--json")).json
    assert (facts["networks"], facts["active"], facts["degraded"], facts["ports"]) == (2, 1, ["bad"], 1)
    assert (facts["switches"], facts["active_switches"], facts["unconfirmed"]) == (2, 1, ["floor"])
    assert (facts["degraded_switches"], facts["problems_of_switches"]) == (["floor"], {"floor": ["eth1 is away"]})


async def test_capabilities_are_listed_with_the_reason_of_each_no(vnetctl: Vnetctl, services: FakeServices) -> None:
    lines = (await vnetctl.ok("status", "--capabilities")).out.splitlines()
    assert "dnsmasq         yes   2.90" in lines
    assert "sr-iov          no    no device of this host has virtual functions" in lines
    listed = {row["name"]: row for row in (await vnetctl.ok("status", "--capabilities", "--json")).json}
    assert listed["nat"] == {"name": "nat", "ok": True, "reason": ""}
    assert listed["polkit"]["ok"] is False, "the test's bus has nobody else"
    assert "org.freedesktop.PolicyKit1" in listed["polkit"]["reason"]


@pytest.mark.parametrize(
    ("words", "probe"),
    [
        ((), {}),
        (("--from", "192.0.2.1"), {"from": "192.0.2.1"}),
        (("--from", "192.0.2.1", "--tcp", "80"), {"from": "192.0.2.1", "protocol": "tcp", "port": 80}),
        (("--from", "fd00::1", "--udp", "53"), {"from": "fd00::1", "protocol": "udp", "port": 53}),
        (("--from", "192.0.2.1", "--icmp"), {"from": "192.0.2.1", "protocol": "icmp"}),
    ],
)
async def test_the_doctor_passes_on_what_is_asked(
    vnetctl: Vnetctl, services: FakeServices, words: tuple[str, ...], probe: dict[str, str | int]
) -> None:
    done = await vnetctl.ok("doctor", "tap0", *words)
    assert done.lines[1] == ["tap0", "filter", "ok", "looked", "at", "tap0"]
    assert [call[1:] for call in services.world.calls if call[0] == "examine"] == [("tap0", probe)]


async def test_the_doctor_fails_where_there_is_a_problem(vnetctl: Vnetctl) -> None:
    done = await vnetctl("doctor", "tap0", "--to", "192.0.2.1")
    assert (done.code, done.err) == (1, "error: 1 problem found\n")
    assert "problem" in done.out


async def test_reconcile_waits_for_the_daemon(vnetctl: Vnetctl, services: FakeServices) -> None:
    await vnetctl.ok("reconcile")
    assert len(services.world.called("reconcile")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("network", "show", "none"),
        ("network", "start", "none"),
        ("network", "edit", "none"),
        ("filter", "show", "none"),
        ("filter", "unbind", "none"),
        ("port", "show", "none"),
        ("port", "detach", "none"),
        ("port", "list", "--network", "none"),
    ],
)
async def test_what_is_not_there_is_3(vnetctl: Vnetctl, words: tuple[str, ...]) -> None:
    done = await vnetctl(*words)
    assert done.code == 3
    assert done.err.startswith("error: ") and done.err.count("\n") == 1


async def test_others_may_look_and_are_denied_changes(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("lab")
    assert (await vnetctl("network", "list", "--name", user=NOBODY)).out == "lab\n"
    done = await vnetctl("network", "start", "lab", user=NOBODY)
    assert done.code == 4
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert not services.networks.get("lab").active


@pytest.mark.parametrize("error", [Busy("network lab is in use"), HostError("add address", "192.0.2.1 on virbr0", 17)])
async def test_a_failure_is_1_with_the_daemons_sentence(
    vnetctl: Vnetctl, services: FakeServices, error: Exception
) -> None:
    services.add_networks("lab")
    services.world.failure = error
    done = await vnetctl("network", "start", "lab")
    assert (done.code, done.out) == (1, "")
    assert str(error) in done.err


async def test_a_bus_without_the_daemon_is_5(bus: PrivateBus) -> None:
    done = await Vnetctl(bus.address)("network", "list")
    assert done.code == 5
    assert "vnetd does not run" in done.err and done.err.count("\n") == 1


async def test_names_from_documents_steer_no_terminal(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks(HOSTILE, problems=(HOSTILE,))
    shown = [
        await vnetctl.ok("network", "list"),
        await vnetctl.ok("network", "list", "--name"),
        await vnetctl.ok("network", "show", HOSTILE),
        await vnetctl.ok("network", "start", HOSTILE),
        await vnetctl.ok("status"),
        await vnetctl.ok("--json", "network", "list"),
    ]
    for done in shown:
        assert all(char.isprintable() or char == "\n" for char in done.out)
    assert shown[-1].json[0]["name"] == HOSTILE


async def test_the_bus_can_be_named_by_option(bus: PrivateBus, vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("lab")
    elsewhere: Mapping[str, str] = {"VNETD_BUS": "unix:path=/nonexistent"}
    assert (await vnetctl("network", "list", environment=elsewhere)).code == 5
    done = await vnetctl.ok("network", "list", "--name", "--bus", bus.address, environment=elsewhere)
    assert done.out == "lab\n"
    system = {**elsewhere, "DBUS_SYSTEM_BUS_ADDRESS": bus.address}
    assert (await vnetctl.ok("--bus", "system", "network", "list", "--name", environment=system)).out == "lab\n"
