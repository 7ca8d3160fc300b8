"""The Debian package on a clean Debian 13 that systemd booted twice: as README.md's "Install" promises."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.debian_package import TOP, Unprepared, newer, prepared, unpacked
from support.machine import Machine
from support.machine import prepared as prepared_kernel
from support.machine.errors import Unavailable
from support.stock_kernel import time_spent

from vnetd.model.capability import ABILITIES

HERE = Path(__file__).parent
LIMIT = 1200.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LIMIT + 1200)]  # other machines may be waited for
ADDRESS = ["192.168.122.1/24"]
NEIGHBOURS = ("NetworkManager.service", "firewalld.service")
MASKED = ("NetworkManager-wait-online.service", "NetworkManager-dispatcher.service")
README = (TOP / "README.md").read_text().partition("\n## Install\n")[2].partition("\n## ")[0]
LINES = [line.partition(" #")[0].strip() for block in re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
         for line in block.splitlines()]  # fmt: skip
OF_THE_CHECKOUT = ("sudo packaging/deb/build --output /tmp", "sudo packaging/install")
"""They fetch what they need. The first was done before the machine booted, the second is tried in tests/package."""
INSTALL, STATUS, LIST = "/tmp/vnetd_*.deb", "vnetctl status", "vnetctl network list"
CAPABILITIES, IMPORT = "vnetctl status --capabilities", "import-libvirt --dry-run"


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``package_facts.py`` noted on both boots."""
    printed: list[bytes] = []
    begin = time.monotonic()
    work = tmp_path_factory.mktemp("package")
    share = work / "share"
    share.mkdir()
    try:
        made, kernel = prepared("trixie"), prepared_kernel()
        shutil.copy(made.package, share)
        shutil.copy(newer(made.package, work), share / "newer.deb")
        shutil.copy(HERE / "package_facts.py", share)
        (share / "readme.json").write_text(json.dumps(told()))
        machine = Machine(
            kernel,
            root=unpacked(made.system, work / "root").root,
            systemd=True,
            disk=empty_disk(work / "disk"),
            processors=2,
        )
        for stage, masked in (("install", (*MASKED, *NEIGHBOURS)), ("rebooted", MASKED)):
            command = ["python3", "/machine/package_facts.py", stage]
            booted = replace(machine, masked=masked)
            assert booted.run(command, limit=LIMIT, share=share, directory=Path("/"), output=printed.append) == 0
    except (Unprepared, Unavailable) as error:
        pytest.skip(str(error))
    finally:
        print(b"".join(printed).decode(errors="replace"))
    return {**json.loads((share / "facts.json").read_text()), "spent": time_spent("Debian package", begin)}


def told() -> dict[str, Any]:
    """What README.md's "Install" says to type on the system, and where the package is then."""
    return {
        "install": [line for line in LINES if line not in OF_THE_CHECKOUT],
        "removal": re.findall(r"`(apt \w+ vnetd)`", README),
        "output": re.findall(r"deb/build --output (\S+)", README)[0],
    }


def empty_disk(path: Path) -> Path:
    """A disk with a file system, on which a machine keeps what it writes from one boot to the next."""
    with path.open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
    return path


@pytest.fixture
def fact(facts: dict[str, Any], record_property: Callable[..., None]) -> Callable[[str], Any]:
    """``fact("installed")``: what was found; the test fails with the reason if that could not be found."""
    record_property(*facts["spent"])

    def found(name: str) -> Any:
        assert "error" not in facts[name], facts[name]["error"]
        return facts[name]["found"]

    return found


def shown(typed: list[dict[str, Any]], words: str) -> str:
    """What the one command line that ends with these words showed, colours apart; it succeeded."""
    (one,) = (one for one in typed if one["line"].endswith(words))
    assert one["status"] == 0, one
    return re.sub(r"\x1b\[[0-9;]*m", "", one["shown"])


def test_every_command_line_of_the_installation_does_what_is_said(fact: Any) -> None:
    typed = fact("installed")["typed"]
    assert len(typed) == 5, "an installation, two looks, what the host can do, what libvirt has left"
    assert "Setting up vnetd" in shown(typed, INSTALL)
    assert "1, 1 active" in shown(typed, STATUS)
    assert set(ABILITIES) <= set(shown(typed, CAPABILITIES).split())
    assert "network lab: would be taken" in shown(typed, IMPORT)


def test_after_apt_install_the_default_network_is_up_and_starts_with_the_host(fact: Any) -> None:
    installed = fact("installed")
    assert installed["service"] == "0 active enabled"
    (default,) = (line.split() for line in shown(installed["typed"], LIST).splitlines() if "default" in line)
    assert default == ["default", "active", "nat", "virbr0", *ADDRESS, "yes", "yes"], "autostart and persistent"
    assert installed["kernel"]["bridge"] and installed["kernel"]["dnsmasq"]


def test_a_guest_gets_a_lease_on_it(fact: Any) -> None:
    (lease,) = fact("lease")
    assert lease["mac"] == "52:54:00:00:00:07"
    assert lease["address"].startswith("192.168.122.")


def test_its_address_is_translated_on_the_way_out(fact: Any) -> None:
    assert " 0% packet loss" in fact("translated")


def test_after_a_reboot_it_is_up_and_the_guest_gets_its_lease_again(fact: Any) -> None:
    rebooted = fact("rebooted")
    assert rebooted["service"] == "0 active enabled"
    assert (rebooted["default"]["state"], rebooted["default"]["addresses"]) == ("active", ADDRESS)
    assert rebooted["kernel"]["bridge"] and rebooted["kernel"]["dnsmasq"]
    assert fact("lease_after_reboot") == fact("lease")


def test_the_daemon_starts_behind_a_running_firewalld_and_both_have_their_tables(fact: Any) -> None:
    neighbours = fact("neighbours")
    assert neighbours["active"] == ["active", "active"]
    assert 0 < neighbours["firewall_done"] <= neighbours["daemon_begun"]
    assert {"table inet firewalld", "table inet vnetd"} <= set(neighbours["tables"])
    assert {"table inet vnetd"} <= set(neighbours["tables_without"])


def test_network_manager_leaves_a_bridge_alone(fact: Any) -> None:
    assert "virbr0:unmanaged" in fact("neighbours")["devices"]


def test_an_upgrade_restarts_the_daemon_and_disturbs_no_network(fact: Any) -> None:
    upgraded = fact("upgraded")
    assert upgraded["restarted"]
    assert upgraded["after"] == upgraded["before"]
    assert upgraded["default"]["state"] == "active"


def test_a_removal_stops_the_networks_and_keeps_their_definitions_until_a_purge(fact: Any) -> None:
    removed = fact("removed")
    assert [one["status"] for one in removed["typed"]] == [0, 0]
    assert removed["kernel"] == {"bridge": [], "dnsmasq": []}
    assert removed["processes"] == []
    assert removed["definition"]
    assert removed["after_purge"] == []
