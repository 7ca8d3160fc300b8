"""``vnetctl switch …`` against the daemon's front end, over a real bus."""

from pathlib import Path

import pytest
from support.fake_services import FakeServices
from support.fake_world import switch_view
from support.vnetctl import Vnetctl

from vnetd.model.errors import NotConfirmed


@pytest.fixture
def office(services: FakeServices) -> str:
    """A switch that is there."""
    services.world.add("switch", switch_view("office", uplinks=("eth0", "eth1"), problems=("eth1 is away",)))
    return "office"


@pytest.fixture
def document(tmp_path: Path) -> str:
    """A file that describes another one."""
    path = tmp_path / "floor.json"
    path.write_text('{"name": "floor"}')
    return str(path)


async def test_switches_are_listed(vnetctl: Vnetctl, office: str) -> None:
    done = await vnetctl.ok("switch", "list")
    assert done.lines[0] == ["Name", "State", "Bridge", "Uplinks", "Autostart", "Persistent"]
    assert done.lines[1][:3] == ["office", "inactive", "office"]
    assert (await vnetctl.ok("switch", "list", "--name")).lines == [["office"]]
    (row,) = (await vnetctl.ok("--json", "switch", "list")).json
    assert (row["uplinks"], row["unconfirmed"]) == (["eth0", "eth1"], False)


async def test_one_is_shown_as_a_table_or_as_its_document(vnetctl: Vnetctl, office: str) -> None:
    shown = (await vnetctl.ok("switch", "show", office)).lines
    assert any("eth0" in word for line in shown for word in line)
    assert any("away" in word for line in shown for word in line)
    assert (await vnetctl.ok("switch", "show", office, "--format", "json")).lines == [["json", "of", "office"]]


async def test_what_must_be_confirmed_is_said(vnetctl: Vnetctl, services: FakeServices, document: str) -> None:
    defined = await vnetctl.ok("switch", "define", document, "--confirm", "30")
    assert [word in defined.lines[0] for word in ("floor", "30", "unless", "confirm")] == [True] * 4
    assert services.world.called("define_switch") == [('{"name": "floor"}', {"confirm": 30})]
    started = await vnetctl.ok("switch", "start", "floor", "--confirm", "60")
    assert "60" in started.lines[0]
    assert services.world.called("start_switch")[0][-1] == {"confirm": 60}
    assert services.switches.get("floor").unconfirmed
    await vnetctl.ok("switch", "confirm", "floor")
    assert not services.switches.get("floor").unconfirmed


async def test_a_plan_says_whether_the_host_notices(vnetctl: Vnetctl, services: FakeServices, document: str) -> None:
    done = await vnetctl.ok("switch", "plan", document, "--lenient")
    assert done.lines[-2:] == [["guests", "disturbed:", "no"], ["host", "disturbed:", "yes"]]
    assert services.world.called("plan_switch") == [('{"name": "floor"}', {"lenient": True})]
    assert (await vnetctl.ok("switch", "plan", document, "--json")).json["disturbs_host"] is True


async def test_a_switch_lives_its_whole_life(vnetctl: Vnetctl, services: FakeServices, document: str) -> None:
    await vnetctl.ok("switch", "create", document)
    assert services.switches.get("floor").active
    await vnetctl.ok("switch", "stop", "floor")
    await vnetctl.ok("switch", "start", "floor")
    assert services.world.called("start_switch")[0][-1] == {}
    await vnetctl.ok("switch", "autostart", "floor")
    assert services.switches.get("floor").autostart
    await vnetctl.ok("switch", "autostart", "floor", "--disable")
    assert not services.switches.get("floor").autostart
    await vnetctl.ok("switch", "undefine", "floor")
    assert services.switches.list() == ()


async def test_who_confirms_too_late_is_told(vnetctl: Vnetctl, services: FakeServices, office: str) -> None:
    services.world.failure = NotConfirmed("switch office was not confirmed in time: all is as it was before")
    done = await vnetctl("switch", "confirm", office)
    assert (done.code, done.err.startswith("error: switch office was not confirmed in time")) == (1, True)


async def test_one_that_is_not_there_is_not_found(vnetctl: Vnetctl) -> None:
    assert (await vnetctl("switch", "show", "nosuch")).code == 3
