"""vnetd's Debian packages on bare systems: what they bring, keep, and leave."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest
from support.debian_package import RELEASES, TOP, Prepared, System, Unprepared, contents, newer, prepared, unpacked

import vnetd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PRIVATE = "/usr/lib/vnetd/lib/"
MINE = '{"network": {"name": "mine", "mode": "isolated"}, "autostart": false}'


@dataclass(frozen=True, slots=True)
class Stage:
    """The system after something was done to it."""

    files: set[str]
    mine: bool
    enabled: str
    changed: str = ""


@pytest.fixture(scope="module", params=RELEASES)
def made(request: pytest.FixtureRequest) -> Prepared:
    if os.geteuid() != 0:
        pytest.skip("needs root: it installs a package in a root file system made for that")
    try:
        return prepared(request.param)
    except Unprepared as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def system(made: Prepared, tmp_path_factory: pytest.TempPathFactory) -> System:
    return unpacked(made.system, tmp_path_factory.mktemp("system") / "root")


def look(system: System) -> Stage:
    mine = system.root / "etc/vnetd/networks/mine.json"
    return Stage(
        files=system.files(),
        mine=mine.exists() and mine.read_text() == MINE,
        enabled=system.run("systemctl", "is-enabled", "vnetd.service", check=False).strip(),
        changed=system.run("dpkg", "--verify", "vnetd", check=False),
    )


@pytest.fixture(scope="module")
def life(made: Prepared, system: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The package installed, upgraded, removed, installed again and purged, looked at after each."""
    shutil.copy(made.package, system.root / "vnetd.deb")
    shutil.copy(newer(made.package, tmp_path_factory.mktemp("newer")), system.root / "newer.deb")
    (system.root / "usr/sbin/nft").unlink()  # of a package that vnetd's only recommends
    found: dict[str, Any] = {"before": look(system)}
    system.run("apt-get", "install", "-y", "--no-install-recommends", "/vnetd.deb")
    found["programs"] = [system.run(name, "--version") for name in ("vnetd", "vnetctl")]
    found["group"] = system.run("getent", "group", "vnetd")
    found["installed"] = look(system)
    found["networks"] = system.networks()
    keep = system.root / "etc/vnetd/networks/mine.json"
    keep.parent.mkdir(parents=True, exist_ok=True)
    keep.write_text(MINE)
    found["upgrading"] = system.run("apt-get", "install", "-y", "--no-install-recommends", "/newer.deb")
    found["upgraded"] = look(system)
    system.run("apt-get", "remove", "-y", "vnetd")
    found["removed"] = look(system)
    system.run("apt-get", "install", "-y", "--no-install-recommends", "/vnetd.deb")
    found["again"] = look(system)
    system.run("apt-get", "purge", "-y", "vnetd")
    found["purged"] = look(system)
    return found


def test_installed_programs_run_with_their_own_packages(life: dict[str, Any]) -> None:
    assert life["programs"] == [f"vnetd {vnetd.__version__}\n", f"vnetctl {vnetd.__version__}\n"]
    assert re.match(r"vnetd:x:\d+:$", life["group"])


def test_the_service_is_enabled_by_an_installation_and_stays_so(life: dict[str, Any]) -> None:
    assert [life[when].enabled for when in ("installed", "upgraded", "again")] == ["enabled"] * 3


def test_the_default_network_is_up_when_the_daemon_starts_for_the_first_time(life: dict[str, Any]) -> None:
    (default,) = life["networks"]
    assert (default["name"], default["state"], default["autostart"]) == ("default", "active", True)
    assert (default["bridge"], default["addresses"]) == ("virbr0", ["192.168.122.1/24"])


def test_an_upgrade_keeps_what_users_defined_and_drops_files_of_the_old_version(life: dict[str, Any]) -> None:
    completion = "/usr/share/bash-completion/completions/vnetctl"
    assert completion in life["installed"].files - life["upgraded"].files
    assert life["upgraded"].mine
    assert not re.search("error|warning|cannot", life["upgrading"], re.IGNORECASE), life["upgrading"]


def test_a_removal_leaves_definitions_and_nothing_of_the_programs(life: dict[str, Any]) -> None:
    assert life["removed"].mine
    left = {path for path in life["removed"].files - life["before"].files if not path.startswith("/var/lib/dpkg")}
    helper = {path for path in left if "deb-systemd-helper" in path or path.startswith("/etc/systemd/system/")}
    assert left - helper == {"/etc/vnetd", "/var/lib/vnetd"}
    assert life["again"].mine, "who installs it again finds what was there"


def test_a_purge_leaves_nothing(life: dict[str, Any]) -> None:
    assert life["purged"].files == life["before"].files


def test_no_file_is_changed_after_it_was_installed(life: dict[str, Any]) -> None:
    assert life["installed"].changed == life["again"].changed == ""


def test_lintian_finds_no_error(made: Prepared) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    command = ["lintian", "--allow-root", "--fail-on", "error", str(made.package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout


def test_every_file_of_the_checkout_that_is_to_be_installed_is_in_the_package(made: Prepared) -> None:
    files = contents(made.package)
    assert {f"/usr/share/dbus-1/interfaces/{path.name}" for path in TOP.glob("dbus/*.xml")} <= files
    assert {f"/usr/lib/systemd/system/{path.name}" for path in TOP.glob("systemd/*.service")} <= files
    pages = {path.name.removesuffix(".md") for path in TOP.glob("docs/man/*.md")}
    assert {f"/usr/share/man/man{page[-1]}/{page}.gz" for page in pages} <= files
    programs = {"vnetd", "vnetctl", "vnet-bridge-helper"}
    assert {f"/usr/bin/{name}" for name in programs} <= files
    assert not [path for path in files if "__pycache__" in path or path.endswith(".pyc")]
