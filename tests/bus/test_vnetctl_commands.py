"""vnetctl against the daemon's front end, over a real bus."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.fake_services import FakeServices, network_view, one_of_each
from support.private_bus import NOBODY, PrivateBus
from support.vnetctl import Vnetctl

from vnetd.bus.server import BusServer
from vnetd.model.errors import Busy, HostError

HOSTILE = "a\x1b]0;owned\x07\u202eb"


@pytest.fixture
def vnetctl(bus: PrivateBus, server: BusServer) -> Vnetctl:
    """The command, with a daemon to talk to."""
    return Vnetctl(bus.address)


def called(services: FakeServices, what: str) -> list[tuple[Any, ...]]:
    """Arguments of every call ``what``, without the caller."""
    return [call[2:] for call in services.world.calls if call[0] == what]


def networks(services: FakeServices, *names: str, **differences: Any) -> None:
    for name in names:
        services.world.add("network", network_view(name, **differences))


async def test_networks_are_listed_by_name_whatever_the_case(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "beta", "Alpha", "gamma")
    done = await vnetctl.ok("network", "list")
    assert done.lines[0][:3] == ["Name", "State", "Mode"]
    assert [line[0] for line in done.lines[1:]] == ["Alpha", "beta", "gamma"]
    assert done.lines[1] == ["Alpha", "inactive", "nat", "virbr0", "192.168.122.1/24", "no", "yes"]


async def test_an_empty_list_is_a_success(vnetctl: Vnetctl) -> None:
    assert (await vnetctl.ok("network", "list")).lines[0][0] == "Name"
    assert (await vnetctl.ok("--json", "network", "list")).json == []


async def test_a_program_gets_every_value(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "lab", healed_count=3, problems=("no uplink",))
    (row,) = (await vnetctl.ok("network", "list", "--json")).json
    assert row["name"] == "lab"
    assert row["healed_count"] == 3
    assert row["problems"] == ["no uplink"]
    assert row["path"].startswith("/org/vnetd1/network/")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--active"], ["up"]),
        (["--inactive"], ["down"]),
        (["--transient"], ["up"]),
        (["--persistent", "--no-autostart"], ["down"]),
        (["--autostart"], []),
    ],
)
async def test_lists_can_be_narrowed(
    vnetctl: Vnetctl, services: FakeServices, options: list[str], names: list[str]
) -> None:
    networks(services, "up", active=True, state="active", persistent=False)
    networks(services, "down")
    assert (await vnetctl.ok("network", "list", "--name", *options)).out.splitlines() == names


async def test_names_are_taken_as_names_and_as_uuids(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "lab")
    uuid = (await vnetctl.ok("network", "list", "--uuid")).out.strip()
    by_name = await vnetctl.ok("network", "show", "lab")
    assert by_name.out == (await vnetctl.ok("network", "show", uuid)).out
    assert ["Name:", "lab"] in by_name.lines
    assert ["UUID:", uuid] in by_name.lines
    assert ["State:", "inactive"] in by_name.lines


async def test_show_names_the_devices_of_a_networks_ports(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    (port,) = services.ports.list()
    services.world.change("network", port.network, ports=(port.uuid,))
    assert ["Ports:", port.device] in (await vnetctl.ok("network", "show", "lab")).lines


async def test_a_document_is_printed_as_the_daemon_gives_it(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "lab")
    assert (await vnetctl.ok("network", "show", "lab", "--format", "xml")).out == "xml of lab\n"
    await vnetctl.ok("network", "show", "lab", "--format", "json", "--inactive")
    asked = [call[2:] for call in services.world.calls if call[0] == "describe"]
    assert asked == [("xml", {}), ("json", {"inactive": True})]


async def test_define_and_create_read_a_file_or_standard_input(
    vnetctl: Vnetctl, services: FakeServices, tmp_path: Path
) -> None:
    document = '{"name": "büro"}'
    file = tmp_path / "net.json"
    file.write_text("\ufeff" + document)
    assert (await vnetctl.ok("network", "define", str(file))).out == f"network büro defined from {file}\n"
    created = (await vnetctl.ok("--json", "network", "create", "-", "--lenient", stdin='{"name": "tmp"}')).json
    assert created["name"] == "tmp" and created["path"].startswith("/org/vnetd1/network/")
    assert called(services, "define") == [(document, {})]
    assert called(services, "create") == [('{"name": "tmp"}', {"lenient": True})]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"x" * (1 << 20) + b"x", "longer than 1 MiB"), (b"\xff\xfe<", "not UTF-8"), (b'{"name": "\0"}', "without NUL")],
)
async def test_a_file_that_is_no_document_is_not_sent(
    vnetctl: Vnetctl, services: FakeServices, tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "net.json"
    file.write_bytes(content)
    done = await vnetctl("network", "define", str(file))
    assert done.code == 1
    assert reason in done.err and done.err.count("\n") == 1
    assert services.world.calls == []


async def test_a_file_that_is_not_there_is_a_failure(vnetctl: Vnetctl) -> None:
    done = await vnetctl("network", "define", "/nonexistent.xml")
    assert (done.code, done.err) == (1, "error: cannot read '/nonexistent.xml': No such file or directory\n")


async def test_a_network_is_started_stopped_and_undefined(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "lab")
    assert (await vnetctl.ok("network", "start", "lab")).out == "network lab started\n"
    assert services.networks.get("lab").active
    assert (await vnetctl.ok("network", "stop", "lab")).out == "network lab stopped\n"
    assert not services.networks.get("lab").active
    assert (await vnetctl.ok("network", "undefine", "lab", "--json")).json[0]["name"] == "lab"
    assert services.networks.list() == ()


async def test_several_are_done_even_if_one_fails(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "one", "two")
    done = await vnetctl("network", "start", "one", "none", "two")
    assert done.code == 3
    assert done.out.splitlines() == ["network one started", "network two started"]
    assert done.err.startswith("error: ") and "'none'" in done.err and done.err.count("\n") == 1


async def test_stop_all_stops_what_is_active(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, *(f"net{number}" for number in range(200)), active=True, state="active")
    networks(services, "idle")
    done = await vnetctl.ok("network", "stop", "--all", "--json")
    assert len(done.json) == 200
    assert not any(view.active for view in services.networks.list())
    assert (await vnetctl.ok("network", "stop", "--all")).out == ""


async def test_autostart_is_set_and_taken_back(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "lab")
    await vnetctl.ok("network", "autostart", "lab")
    assert services.networks.get("lab").autostart
    await vnetctl.ok("network", "autostart", "lab", "--disable")
    assert not services.networks.get("lab").autostart


async def test_update_passes_its_element_on(vnetctl: Vnetctl, services: FakeServices, tmp_path: Path) -> None:
    networks(services, "lab")
    element = "<host mac='52:54:00:00:00:07' ip='192.168.122.7'/>"
    file = tmp_path / "host.xml"
    file.write_text(element)
    await vnetctl.ok("network", "update", "lab", "add", "ip-dhcp-host", element, "--live", "--config")
    await vnetctl.ok("network", "update", "lab", "delete", "ip-dhcp-host", str(file), "--parent-index", "1")
    updates = [call[1:] for call in called(services, "update")]
    assert updates == [
        ("add-last", "ip-dhcp-host", element, {"live": True, "config": True}),
        ("delete", "ip-dhcp-host", element, {"parent_index": 1}),
    ]


async def test_leases_are_listed_with_local_times(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "lab")
    done = await vnetctl.ok("network", "leases", "lab")
    assert done.lines[1] == [
        "2023-11-14", "22:13:20", "52:54:00:00:00:07", "ipv4", "192.168.122.7/24", "web", "01:52"
    ]  # fmt: skip
    assert (await vnetctl.ok("network", "leases", "lab", "52:54:0:0:0:7", "--json")).json[0]["expiry"] == 1_700_000_000
    assert (await vnetctl.ok("network", "leases", "lab", "52:54:00:00:00:08", "--json")).json == []


async def test_plan_says_when_there_is_nothing_to_do(vnetctl: Vnetctl) -> None:
    done = await vnetctl.ok("network", "plan", "-", stdin='{"name": "lab"}')
    assert "nothing to do" in done.out
    assert (await vnetctl.ok("network", "plan", "-", "--json", stdin='{"name": "lab"}')).json == {"steps": []}


async def test_plan_lists_steps_and_says_whether_guests_notice(
    vnetctl: Vnetctl, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [{"phase": "link", "what": "bridge virbr0", "operation": "CreateBridge", "arguments": {}}]

    async def plan(*_: object) -> str:
        return json.dumps({"steps": steps, "disturbs_guests": True})

    monkeypatch.setattr(services.networks, "plan", plan)
    done = await vnetctl.ok("network", "plan", "-", stdin='{"name": "lab"}')
    assert done.lines[1:] == [["1", "link", "bridge", "virbr0", "CreateBridge"], ["guests", "disturbed:", "yes"]]


async def test_filters_are_defined_shown_and_undefined(vnetctl: Vnetctl, services: FakeServices) -> None:
    assert (await vnetctl.ok("filter", "define", "-", stdin='{"name": "block"}')).out == "filter block defined from -\n"
    assert (await vnetctl.ok("filter", "list", "--name")).out == "block\n"
    assert (await vnetctl.ok("filter", "show", "block", "--format", "xml")).out == "xml of block\n"
    assert ["Used", "by:", "-"] in (await vnetctl.ok("filter", "show", "block")).lines
    await vnetctl.ok("filter", "undefine", "block")
    assert services.filters.list() == ()


async def test_a_filter_is_bound_to_a_device_with_parameters(vnetctl: Vnetctl, services: FakeServices) -> None:
    await vnetctl.ok("filter", "define", "-", stdin='{"name": "block"}')
    words = "--parameter IP=192.0.2.1 --parameter IP=192.0.2.2 --parameter MAC=52:54:00:00:00:09"
    await vnetctl.ok("filter", "bind", "tap7", "block", *words.split())
    assert called(services, "bind") == [
        ("tap7", "block", {"IP": ("192.0.2.1", "192.0.2.2"), "MAC": ("52:54:00:00:00:09",)})
    ]
    line = (await vnetctl.ok("filter", "bindings")).out.splitlines()[1]
    assert line.split()[:2] == ["tap7", "block"]
    assert "IP=192.0.2.1, 192.0.2.2" in line
    assert (await vnetctl.ok("filter", "unbind", "tap7")).out == "filter block unbound from tap7\n"
    assert services.filters.bindings() == ()


async def test_a_filter_is_bound_to_a_port_in_place_of_the_one_it_has(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    (port,) = services.ports.list()
    await vnetctl.ok("filter", "bind", port.device, "block", "--parameter", "IP=192.0.2.1")
    await vnetctl.ok("filter", "unbind", str(port.uuid))
    assert called(services, "set_filter") == [(port.uuid, "block", {"IP": ("192.0.2.1",)}), (port.uuid, "", {})]
    done = await vnetctl("filter", "unbind", port.device)
    assert done.code == 3


async def test_a_port_is_attached_listed_shown_and_detached(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, "lab", "other")
    words = "--veth --netns /run/netns/web --host-device vweb --mtu 1400 --filter clean --parameter IP=192.0.2.1"
    attached = (await vnetctl.ok("--json", "port", "attach", "lab", *words.split())).json
    assert called(services, "attach") == [
        (
            "lab",
            {
                "kind": "veth",
                "device": "vweb",
                "netns": "/run/netns/web",
                "mtu": 1400,
                "filter": "clean",
                "parameter.IP": ("192.0.2.1",),
            },
        )
    ]
    assert attached["device"] == "vweb" and attached["result"]["mtu"] == 1500
    assert (await vnetctl.ok("port", "list", "--device")).out == "vweb\n"
    assert (await vnetctl.ok("port", "list", "--device", "--network", "other")).out == ""
    assert ["Network:", "lab"] in (await vnetctl.ok("port", "show", "vweb")).lines
    assert (await vnetctl.ok("port", "link", "vweb", "down")).out == "link of port vweb set down\n"
    assert called(services, "set_link")[0][1:] == (False,)
    assert (await vnetctl.ok("port", "detach", attached["uuid"])).out == "port vweb detached from network lab\n"
    assert services.ports.list() == ()


async def test_status_counts_and_names_what_is_not_well(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    networks(services, "bad", active=True, state="degraded", problems=("virbr9 is fought over by systemd-networkd",))
    text = (await vnetctl.ok("status")).out
    assert "2, 1 active, not well: bad" in text
    assert "bad: virbr9 is fought over by systemd-networkd" in text
    facts = (await vnetctl.ok("status", "--json")).json
    assert (facts["networks"], facts["active"], facts["degraded"], facts["ports"]) == (2, 1, ["bad"], 1)


async def test_capabilities_are_listed_with_the_reason_of_each_no(vnetctl: Vnetctl, services: FakeServices) -> None:
    lines = (await vnetctl.ok("status", "--capabilities")).out.splitlines()
    assert "dnsmasq         yes   2.90" in lines
    assert "sr-iov          no    no device of this host has virtual functions" in lines
    listed = {row["name"]: row for row in (await vnetctl.ok("status", "--capabilities", "--json")).json}
    assert listed["nat"] == {"name": "nat", "ok": True, "reason": ""}
    assert listed["polkit"]["ok"] is False, "the test's bus has nobody else"
    assert "org.freedesktop.PolicyKit1" in listed["polkit"]["reason"]


async def test_the_rules_in_force_on_a_device_are_shown_with_their_counts(vnetctl: Vnetctl) -> None:
    done = await vnetctl.ok("filter", "show", "--bound", "tap0")
    assert done.out.splitlines()[1].split() == [
        "network",
        "out",
        "drop",
        "500:",
        "icmp",
        "block",
        "root",
        "3",
        "252",
        "2",
    ]
    (row,) = (await vnetctl.ok("--json", "filter", "show", "--bound", "tap0")).json
    assert (row["rule"], row["packets"], row["bytes"], row["shared"]) == ("out drop 500: icmp", 3, 252, 2)
    assert (await vnetctl("filter", "show", "--bound", "tap1")).code == 3


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
    assert len(called(services, "reconcile")) == 1


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
    networks(services, "lab")
    assert (await vnetctl("network", "list", "--name", user=NOBODY)).out == "lab\n"
    done = await vnetctl("network", "start", "lab", user=NOBODY)
    assert done.code == 4
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert not services.networks.get("lab").active


@pytest.mark.parametrize("error", [Busy("network lab is in use"), HostError("add address", "192.0.2.1 on virbr0", 17)])
async def test_a_failure_is_1_with_the_daemons_sentence(
    vnetctl: Vnetctl, services: FakeServices, error: Exception
) -> None:
    networks(services, "lab")
    services.world.failure = error
    done = await vnetctl("network", "start", "lab")
    assert (done.code, done.out) == (1, "")
    assert str(error) in done.err


async def test_a_bus_without_the_daemon_is_5(bus: PrivateBus) -> None:
    done = await Vnetctl(bus.address)("network", "list")
    assert done.code == 5
    assert "vnetd does not run" in done.err and done.err.count("\n") == 1


async def test_names_from_documents_steer_no_terminal(vnetctl: Vnetctl, services: FakeServices) -> None:
    networks(services, HOSTILE, problems=(HOSTILE,))
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
    networks(services, "lab")
    elsewhere: Mapping[str, str] = {"VNETD_BUS": "unix:path=/nonexistent"}
    assert (await vnetctl("network", "list", environment=elsewhere)).code == 5
    done = await vnetctl.ok("network", "list", "--name", "--bus", bus.address, environment=elsewhere)
    assert done.out == "lab\n"
    system = {**elsewhere, "DBUS_SYSTEM_BUS_ADDRESS": bus.address}
    assert (await vnetctl.ok("--bus", "system", "network", "list", "--name", environment=system)).out == "lab\n"


async def test_a_port_is_moved_limited_and_isolated(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    (port,) = services.ports.list()
    await vnetctl.ok("port", "move", port.device, "other", "--portgroup", "slow")
    await vnetctl.ok("port", "limit", port.device, "--inbound", "4096,,512,0", "--outbound", "100")
    await vnetctl.ok("port", "isolate", str(port.uuid), "on")
    assert called(services, "move") == [(port.uuid, "other")]
    assert called(services, "set_port_group") == [(port.uuid, "slow")]
    limits = {"inbound.average": 4096, "inbound.burst": 512, "inbound.floor": 0, "outbound.average": 100}
    assert called(services, "set_bandwidth") == [(port.uuid, limits)]
    assert called(services, "set_isolated") == [(port.uuid, True)]
    shown = (await vnetctl.ok("port", "show", port.device)).lines
    assert ["Isolated:", "yes"] in shown and ["Port", "group:", "slow"] in shown
    for wrong in (("move", port.device), ("limit", port.device), ("limit", port.device, "--inbound", "fast")):
        assert (await vnetctl("port", *wrong)).code == 2


async def test_addresses_of_a_port_are_listed(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    (port,) = services.ports.list()
    assert ["192.168.122.7", "ipv4", "lease", "7"] in (await vnetctl.ok("port", "addresses", port.device)).lines
