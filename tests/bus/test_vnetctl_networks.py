"""``vnetctl network``, over a real bus."""

import json
from pathlib import Path

import pytest
from support.fake_services import FakeServices, one_of_each
from support.vnetctl import Vnetctl


async def test_networks_are_listed_by_name_whatever_the_case(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("beta", "Alpha", "gamma")
    done = await vnetctl.ok("network", "list")
    assert done.lines[0][:3] == ["Name", "State", "Mode"]
    assert [line[0] for line in done.lines[1:]] == ["Alpha", "beta", "gamma"]
    assert done.lines[1] == ["Alpha", "inactive", "nat", "virbr0", "192.168.122.1/24", "no", "yes"]


async def test_an_empty_list_is_a_success(vnetctl: Vnetctl) -> None:
    assert (await vnetctl.ok("network", "list")).lines[0][0] == "Name"
    assert (await vnetctl.ok("--json", "network", "list")).json == []


async def test_a_program_gets_every_value(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("lab", healed_count=3, problems=("no uplink",))
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
    services.add_networks("up", active=True, state="active", persistent=False)
    services.add_networks("down")
    assert (await vnetctl.ok("network", "list", "--name", *options)).out.splitlines() == names


async def test_names_are_taken_as_names_and_as_uuids(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("lab")
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
    services.add_networks("lab")
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
    assert services.world.called("define") == [(document, {})]
    assert services.world.called("create") == [('{"name": "tmp"}', {"lenient": True})]


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
    services.add_networks("lab")
    assert (await vnetctl.ok("network", "start", "lab")).out == "network lab started\n"
    assert services.networks.get("lab").active
    assert (await vnetctl.ok("network", "stop", "lab")).out == "network lab stopped\n"
    assert not services.networks.get("lab").active
    assert (await vnetctl.ok("network", "undefine", "lab", "--json")).json[0]["name"] == "lab"
    assert services.networks.list() == ()


async def test_several_are_done_even_if_one_fails(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("one", "two")
    done = await vnetctl("network", "start", "one", "none", "two")
    assert done.code == 3
    assert done.out.splitlines() == ["network one started", "network two started"]
    assert done.err.startswith("error: ") and "'none'" in done.err and done.err.count("\n") == 1


async def test_stop_all_stops_what_is_active(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks(*(f"net{number}" for number in range(200)), active=True, state="active")
    services.add_networks("idle")
    done = await vnetctl.ok("network", "stop", "--all", "--json")
    assert len(done.json) == 200
    assert not any(view.active for view in services.networks.list())
    assert (await vnetctl.ok("network", "stop", "--all")).out == ""


async def test_autostart_is_set_and_taken_back(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("lab")
    await vnetctl.ok("network", "autostart", "lab")
    assert services.networks.get("lab").autostart
    await vnetctl.ok("network", "autostart", "lab", "--disable")
    assert not services.networks.get("lab").autostart


async def test_update_passes_its_element_on(vnetctl: Vnetctl, services: FakeServices, tmp_path: Path) -> None:
    services.add_networks("lab")
    element = "<host mac='52:54:00:00:00:07' ip='192.168.122.7'/>"
    file = tmp_path / "host.xml"
    file.write_text(element)
    await vnetctl.ok("network", "update", "lab", "add", "ip-dhcp-host", element, "--live", "--config")
    await vnetctl.ok("network", "update", "lab", "delete", "ip-dhcp-host", str(file), "--parent-index", "1")
    updates = [call[1:] for call in services.world.called("update")]
    assert updates == [
        ("add-last", "ip-dhcp-host", element, {"live": True, "config": True}),
        ("delete", "ip-dhcp-host", element, {"parent_index": 1}),
    ]


async def test_leases_are_listed_with_local_times(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("lab")
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
