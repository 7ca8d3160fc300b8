"""The units, checked by systemd itself as far as that goes without booting."""

import os
import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
EXPOSURE = 4.9
"""Out of 10, by `systemd-analyze security`; systemd/README.md says what is left open and why."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a directory of their own; what they execute exists, for it is not installed here."""
    for unit in UNITS.glob("*.service"):
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    # The one unit of another package that is required; a machine without a system bus lacks it.
    (tmp_path / "dbus.socket").write_text("[Socket]\nListenStream=/run/dbus/system_bus_socket\nAccept=yes\n")
    (tmp_path / "dbus@.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / "vnet-network@default.service").write_text((tmp_path / "vnet-network@.service").read_text())
    return tmp_path


def analyze(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{installed}:"}
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)


@pytest.mark.parametrize("unit", ["vnetd.service", "vnet-network@default.service"])
def test_systemd_accepts_the_unit_without_a_warning(installed: Path, unit: str) -> None:
    verified = analyze(installed, "verify", "--man=no", str(installed / unit))
    assert (verified.returncode, verified.stderr) == (0, "")


def test_systemd_notices_a_unit_that_is_wrong(installed: Path) -> None:
    broken = installed / "vnetd.service"
    broken.write_text(broken.read_text().replace("Type=notify", "Type=notify\nRestrictMagic=yes"))
    verified = analyze(installed, "verify", "--man=no", str(broken))
    assert "RestrictMagic" in verified.stderr


@pytest.mark.parametrize("unit", ["vnetd.service", "vnet-network@default.service"])
def test_the_sandbox_is_not_weaker_than_documented(installed: Path, unit: str) -> None:
    scored = analyze(installed, "security", "--offline=true", "--no-pager", str(installed / unit))
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", scored.stdout)
    assert found, scored.stderr
    assert float(found[1]) <= EXPOSURE


def test_a_restart_of_the_service_leaves_networks_alone() -> None:
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNITS / "vnetd.service")
    assert unit["Service"]["KillMode"] == "process", "dnsmasq would be ended with the daemon"
    assert unit["Service"]["RuntimeDirectoryPreserve"] == "yes", "what is active would be forgotten"
    waiting = (UNITS / "vnet-network@.service").read_text()
    assert not re.search(r"^(Requires|BindsTo|PartOf)=", waiting, re.MULTILINE), "who waits would be stopped"
