"""vnetd's RPM package, on a bare system of this host's release: its files, its scripts, and what it leaves."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.debian_package import System, Unprepared, contents, own_release, prepared, rpm_package, unpacked

import vnetd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MINE = "etc/vnetd/networks/mine.json"


@pytest.fixture(scope="module")
def package() -> Path:
    if os.geteuid() != 0:
        pytest.skip("needs root: it installs a package in a root file system made for that")
    try:
        prepared(own_release())
        return rpm_package()
    except Unprepared as error:
        pytest.skip(str(error))


def asked(package: Path, *question: str) -> list[str]:
    command = ["rpm", "--query", "--package", *question, str(package)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.fixture(scope="module")
def life(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The package installed, installed once more in its own place, and erased."""
    system = unpacked(prepared(own_release()).system, tmp_path_factory.mktemp("system") / "root")
    found: dict[str, Any] = {"before": system.files()}
    rpm(system, "--install", str(package))
    found["programs"] = [system.run(name, "--version") for name in ("vnetd", "vnetctl")]
    found["enabled"] = system.run("systemctl", "is-enabled", "vnetd.service").strip()
    found["networks"] = system.networks()
    (system.root / MINE).parent.mkdir(parents=True, exist_ok=True)
    (system.root / MINE).touch()
    rpm(system, "--reinstall", str(package))
    found["compiled"] = list(system.root.glob("usr/lib/vnetd/lib/python3*/site-packages/vnetd/__pycache__/daemon.*"))
    rpm(system, "--erase", "vnetd")
    found["erased"] = system.files()
    found["kept"] = (system.root / MINE).exists()
    return found


def rpm(system: System, *action: str) -> str:
    return system.outside("rpm", "--root", str(system.root), "--nodeps", *action)


def test_it_brings_the_files_of_the_debian_package(package: Path) -> None:
    rows = [row.split(" ", 1) for row in asked(package, "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\\n]")]
    files = {path for mode, path in rows if not mode.startswith("d")}
    own = {path for path in files if path.startswith(("/usr/share/doc/", "/usr/share/licenses/"))}
    assert files - own == contents(prepared(own_release()).package)
    assert sorted(os.path.basename(path) for path in own) == ["CHANGELOG.md", "LICENSE", "README.md"]
    owned = {path for mode, path in rows if mode.startswith("d")}
    assert {"/usr/lib/vnetd", "/usr/libexec/vnetd", "/usr/share/vnetd"} <= owned


def test_it_asks_for_what_the_daemon_needs_and_for_no_python_package(package: Path) -> None:
    needs = {line.split()[0] for line in asked(package, "--requires")}
    assert {"python(abi)", "nftables-libs", "dnsmasq", "dbus", "systemd"} <= needs
    assert not [name for name in needs if name.startswith(("python3dist", "lib"))]


def test_its_programs_run_and_the_default_network_is_up(life: dict[str, Any]) -> None:
    assert life["programs"] == [f"vnetd {vnetd.__version__}\n", f"vnetctl {vnetd.__version__}\n"]
    assert life["enabled"] == "enabled"
    assert [(one["name"], one["state"]) for one in life["networks"]] == [("default", "active")]


def test_an_update_leaves_python_compiled(life: dict[str, Any]) -> None:
    assert life["compiled"]


def test_erasing_it_leaves_definitions_and_nothing_of_the_programs(life: dict[str, Any]) -> None:
    assert life["kept"]
    left = {path for path in life["erased"] - life["before"] if "/var/lib/rpm" not in path}
    assert left == {"/etc/vnetd", "/var/lib/vnetd"}
