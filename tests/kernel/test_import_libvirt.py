"""``vnetctl import-libvirt`` against trees as libvirt leaves them, with a real daemon."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from support.client import NETWORK
from support.site import Administrator
from support.vnetctl import Vnetctl

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
UUID = "b3f1a3c2-6e0f-4a5c-9d55-2a4a6d0f1c01"
LATER = int(time.time()) + 86400
LEASES = [
    {
        "ip-address": "192.168.122.77",
        "mac-address": "52:54:00:00:00:77",
        "hostname": "web",
        "client-id": "01:52:54:00:00:00:77",
        "expiry-time": LATER,
    },
    {"ip-address": "192.168.122.78", "mac-address": "52:54:00:00:00:78", "expiry-time": 1},
    {"ip-address": "10.9.9.9", "mac-address": "52:54:00:00:00:79", "expiry-time": LATER},
]
OUTER = """<filter name='outer' chain='root'><filterref filter='test-inner'/></filter>"""
INNER = """<filter name='test-inner' chain='root'><uuid>5c6d49af-b071-6127-b4ec-6f8ed4b55335</uuid>
<rule action='accept' direction='inout'><tcp dstportstart='22'/></rule></filter>"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A system on which libvirt keeps two networks and two filters; the first of each comes before what it needs."""
    networks, filters = tmp_path / "etc/libvirt/qemu/networks", tmp_path / "etc/libvirt/nwfilter"
    leases = tmp_path / "var/lib/libvirt/dnsmasq"
    for directory in (networks / "autostart", filters, leases):
        directory.mkdir(parents=True)
    text = (GOLDEN / "network/default.xml").read_text()
    comment = "<!--\nThis file is made by a program; edit it with that.\n-->\n\n"
    named = f"<name>default</name><uuid>{UUID}</uuid>"
    (networks / "default.xml").write_text(comment + text.replace("<name>default</name>", named))
    (networks / "isolated1.xml").write_text((GOLDEN / "network/isolated.xml").read_text())
    (networks / "autostart/default.xml").symlink_to("/etc/libvirt/qemu/networks/default.xml")
    (filters / "outer.xml").write_text(OUTER)
    (filters / "test-inner.xml").write_text(INNER)
    (leases / "virbr0.status").write_text(json.dumps(LEASES))
    return tmp_path


def fingerprint(tree: Path) -> dict[str, str]:
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): f"{path.stat().st_mtime_ns} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files}


async def imported(admin: Administrator, tree: Path, *options: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """Outcomes by name."""
    done = await Vnetctl(admin.site.bus.address)("--json", "import-libvirt", str(tree), *options)
    assert done.code == code, done.err
    return {one["name"]: one for one in done.json}


async def test_definitions_autostart_filters_and_leases_are_taken_and_the_tree_is_left_as_it_is(
    admin: Administrator, tree: Path
) -> None:
    before = fingerprint(tree)
    outcomes = await imported(admin, tree)
    assert {name: one["result"] for name, one in outcomes.items()} == dict.fromkeys(
        ("default", "isolated1", "outer", "test-inner"), "taken"
    )
    networks = await admin.networks()
    assert networks["default"]["uuid"] == UUID
    assert {name: (one["autostart"], one["active"]) for name, one in networks.items()} == {
        "default": (True, False),
        "isolated1": (False, False),
    }
    assert outcomes["default"]["leases"] == 1, "of those in force, and on its subnet"
    (note,) = outcomes["default"]["notes"]
    assert note.startswith("lease of 10.9.9.9 not taken: 10.9.9.9 is on no subnet")
    assert fingerprint(tree) == before
    default = networks["default"]["path"]
    assert [(one["address"], one["hostname"]) for one in await admin.leases(default)] == [("192.168.122.77", "web")]
    await admin.start(default)
    guest = await admin.add_guest("default", mac="52:54:00:00:00:77")
    assert guest.lease() == "192.168.122.77", "a guest keeps the address libvirt gave it"


async def test_a_dry_run_says_the_same_and_takes_nothing(admin: Administrator, tree: Path) -> None:
    foretold = await imported(admin, tree, "--dry-run")
    assert await admin.networks() == {}
    done = await imported(admin, tree)
    assert {name: (one["result"], one["autostart"]) for name, one in foretold.items()} == {
        name: (one["result"], one["autostart"]) for name, one in done.items()
    }


async def test_what_vnetd_has_is_not_replaced(admin: Administrator, tree: Path) -> None:
    await imported(admin, tree)
    path = (await admin.networks())["default"]["path"]
    await admin.call(path, NETWORK, "Update", "sssa{sv}", "add-last", "dns-txt", "<txt name='mine' value='x'/>", {})
    (tree / "etc/libvirt/nwfilter/test-inner.xml").write_text(INNER.replace("'22'", "'23'"))
    again = await imported(admin, tree)
    assert {one["result"] for one in again.values()} == {"kept"}
    assert "says something else" in again["test-inner"]["notes"][0]
    assert again["outer"]["notes"] == []
    assert "mine" in await admin.call(path, NETWORK, "Describe", "sa{sv}", "xml", {})
    (tree / "etc/libvirt/qemu/networks/default.xml").write_text(
        f"<network><name>default</name><uuid>{UUID[:-1]}2</uuid><bridge name='virbr7'/></network>"
    )
    other = await imported(admin, tree, code=1)
    assert other["default"]["result"] == "refused"
    assert "another network of this name" in other["default"]["notes"][0]


async def test_a_network_libvirt_runs_is_taken_and_left_to_libvirt_for_now(admin: Administrator, tree: Path) -> None:
    (tree / "run/libvirt/network").mkdir(parents=True)
    (tree / "run/libvirt/network/default.xml").write_text("<networkstatus/>")
    default = (await imported(admin, tree))["default"]
    assert (default["result"], default["autostart"]) == ("taken", False)
    assert "virsh net-destroy default" in default["notes"][0]
    assert not (await admin.networks())["default"]["autostart"]


@pytest.mark.parametrize("taken", ["bridge", "subnet"])
async def test_who_has_its_bridge_or_subnet_is_named(admin: Administrator, tree: Path, taken: str) -> None:
    host = admin.site.host
    name = "virbr0" if taken == "bridge" else "other0"
    host.run("ip", "link", "add", name, "type", "bridge")
    try:
        if taken == "subnet":
            host.run("ip", "address", "add", "192.168.122.9/24", "dev", name)
            host.run("ip", "link", "set", name, "up")
        default = (await imported(admin, tree))["default"]
        assert (default["result"], default["autostart"]) == ("taken", False)
        assert default["notes"][0].startswith("it cannot start here as things are: ") and name in default["notes"][0]
    finally:
        host.run("ip", "link", "delete", name)


async def test_what_cannot_be_taken_is_named_and_hinders_nothing_else(admin: Administrator, tree: Path) -> None:
    networks = tree / "etc/libvirt/qemu/networks"
    (networks / "broken.xml").write_text("<network><name>broken</name>")
    (networks / "wrong.xml").write_text("<network><name>wrong</name><ip address='300.0.0.1'/></network>")
    (networks / "newer.xml").write_text("<network><name>newer</name><bridge name='virbr9'/><novelty/></network>")
    (tree / "etc/libvirt/nwfilter/lost.xml").write_text(OUTER.replace("outer", "lost").replace("test-inner", "absent"))
    (tree / "var/lib/libvirt/dnsmasq/virbr0.status").write_text("[{")
    outcomes = await imported(admin, tree, code=1)
    assert {name for name, one in outcomes.items() if one["result"] == "refused"} >= {"broken", "wrong"}
    assert "300.0.0.1" in outcomes["wrong"]["notes"][0]
    assert outcomes["newer"]["result"] == "taken" and "novelty" in outcomes["newer"]["notes"][0]
    assert outcomes["default"]["result"] == "taken" and "no JSON" in outcomes["default"]["notes"][0]
    assert {"default", "isolated1", "newer"} <= set(await admin.networks())


async def test_people_get_a_line_for_each_and_its_notes_below(admin: Administrator, tree: Path) -> None:
    done = await Vnetctl(admin.site.bus.address)("import-libvirt", str(tree))
    assert (done.code, done.err) == (0, "")
    assert "network default: taken, starts with the host, leases: 1" in done.out
    assert "\n  lease of 10.9.9.9 not taken: " in done.out


async def test_a_system_without_libvirt_is_told(admin: Administrator, tmp_path: Path) -> None:
    done = await Vnetctl(admin.site.bus.address)("import-libvirt", str(tmp_path))
    assert done.code == 1
    assert done.err == f"error: libvirt keeps no networks or filters below {tmp_path}\n"
