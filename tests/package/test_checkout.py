"""packaging/install on a Debian system, run from a checkout as users do: what it leaves, runs, and takes away again."""

import os
import subprocess
from typing import Any

import pytest
from support.debian_package import (
    CHECKOUT_ON,
    System,
    Unprepared,
    contents,
    installed_checkout,
    prepared,
    unpacked,
)

import vnetd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
INSTALL = "/source/packaging/install"
MINE = "etc/vnetd/networks/mine.json"
DEFINITION = '{"network": {"name": "mine", "mode": "isolated"}, "autostart": false}'
COMPLETION = "usr/share/bash-completion/completions/vnetctl"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> System:
    """One on which it ran when tests were prepared, for it downloads what vnetd is made of."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it enters a root file system made for that")
    try:
        return unpacked(installed_checkout(), tmp_path_factory.mktemp("system") / "root")
    except Unprepared as error:
        pytest.skip(str(error))


def files(system: System) -> set[str]:
    return {path for path in system.files() if not path.startswith(("/source", "/staged"))}


def refusal(system: System, *arguments: str) -> str:
    return system.run("sh", "-c", f"{INSTALL} {' '.join(arguments)} 2>&1; [ $? != 0 ]")


@pytest.fixture(scope="module")
def life(system: System) -> dict[str, Any]:
    """Looked at as it was installed, installed again from what was staged elsewhere, uninstalled, and once more."""
    package, root = prepared(CHECKOUT_ON).package, system.root
    listed = (root / "usr/lib/vnetd/installed-files").read_text().splitlines()
    found: dict[str, Any] = {"package": contents(package), "listed": listed}
    found["missing"] = [path for path in listed if not os.path.lexists(f"{root}{path}")]
    found["programs"] = [system.run(name, "--version") for name in ("vnetd", "vnetctl")]
    found["enabled"] = system.run("systemctl", "is-enabled", "vnetd.service").strip()
    found["networks"] = system.networks()
    (root / MINE).parent.mkdir(parents=True, exist_ok=True)
    (root / MINE).write_text(DEFINITION)
    subprocess.run(["dpkg-deb", "--extract", package, root / "staged"], check=True)
    (root / "staged" / COMPLETION).unlink()
    found["said"] = system.run(INSTALL, "--staged", "/staged")
    found["staged"] = files(system)
    system.run(INSTALL, "--uninstall")
    found["uninstalled"] = (files(system), (root / MINE).read_text())
    found["refusals"] = [refusal(system, "--uninstall"), refusal(system, "--purge")]
    system.run(INSTALL, "--staged", "/staged")
    system.run(INSTALL, "--uninstall", "--purge")
    found["purged"] = files(system)
    return found


def test_it_installs_the_files_of_the_package(life: dict[str, Any]) -> None:
    assert set(life["listed"]) == life["package"]
    assert life["missing"] == []


def test_programs_run_and_the_service_is_enabled(life: dict[str, Any]) -> None:
    assert life["programs"] == [f"vnetd {vnetd.__version__}\n", f"vnetctl {vnetd.__version__}\n"]
    assert life["enabled"] == "enabled"


def test_the_default_network_is_up_when_the_daemon_starts_for_the_first_time(life: dict[str, Any]) -> None:
    (default,) = life["networks"]
    assert (default["name"], default["state"], default["bridge"]) == ("default", "active", "virbr0")


def test_another_installation_drops_files_of_the_earlier_one(life: dict[str, Any]) -> None:
    assert "vnetd is installed" in life["said"]
    assert "/usr/bin/vnetctl" in life["staged"]
    assert f"/{COMPLETION}" not in life["staged"]


def test_uninstalling_keeps_definitions_and_nothing_else(life: dict[str, Any]) -> None:
    assert life["uninstalled"] == ({"/etc/vnetd", "/var/lib/vnetd"}, DEFINITION)


def test_a_purge_leaves_nothing(life: dict[str, Any]) -> None:
    assert life["purged"] == set()


def test_what_makes_no_sense_is_refused(life: dict[str, Any]) -> None:
    nothing, purge = life["refusals"]
    assert "nothing to uninstall" in nothing
    assert "usage" in purge
