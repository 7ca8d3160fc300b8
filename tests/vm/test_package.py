"""The Debian package on a clean Debian 13 that systemd booted twice: as README.md's "Install" promises."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.debian_package import Unprepared, newer, prepared, unpacked
from support.machine import Machine
from support.machine import prepared as prepared_kernel
from support.machine.errors import Unavailable
from support.stock_kernel import time_spent

HERE = Path(__file__).parent
LIMIT = 1200.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LIMIT + 1200)]  # other machines may be waited for
ADDRESS = ["192.168.122.1/24"]


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
        shutil.copy(made.package, share / "vnetd.deb")
        shutil.copy(newer(made.package, work), share / "newer.deb")
        shutil.copy(HERE / "package_facts.py", share)
        machine = Machine(
            kernel,
            root=unpacked(made.system, work / "root").root,
            systemd=True,
            disk=empty_disk(work / "disk"),
            processors=2,
        )
        for stage in ("install", "rebooted"):
            command = ["python3", "/machine/package_facts.py", stage]
            assert machine.run(command, limit=LIMIT, share=share, directory=Path("/"), output=printed.append) == 0
    except (Unprepared, Unavailable) as error:
        pytest.skip(str(error))
    finally:
        print(b"".join(printed).decode(errors="replace"))
    return {**json.loads((share / "facts.json").read_text()), "spent": time_spent("Debian package", begin)}


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


def test_after_apt_install_the_default_network_is_up_and_starts_with_the_host(fact: Any) -> None:
    installed = fact("installed")
    assert installed["service"] == "0 active enabled"
    assert installed["default"] == {"state": "active", "autostart": True, "addresses": ADDRESS, "bridge": "virbr0"}


def test_a_guest_gets_a_lease_on_it(fact: Any) -> None:
    (lease,) = fact("lease")
    assert lease["mac"] == "52:54:00:00:00:07"
    assert lease["address"].startswith("192.168.122.")


def test_after_a_reboot_it_is_up_and_the_guest_gets_its_lease_again(fact: Any) -> None:
    rebooted = fact("rebooted")
    assert rebooted["service"] == "0 active enabled"
    assert (rebooted["default"]["state"], rebooted["default"]["addresses"]) == ("active", ADDRESS)
    assert rebooted["kernel"]["bridge"] and rebooted["kernel"]["dnsmasq"]
    assert fact("lease_after_reboot") == fact("lease")


def test_an_upgrade_restarts_the_daemon_and_disturbs_no_network(fact: Any) -> None:
    upgraded = fact("upgraded")
    assert upgraded["restarted"]
    assert upgraded["after"] == upgraded["before"]
    assert upgraded["default"]["state"] == "active"


def test_a_removal_stops_the_networks_and_keeps_their_definitions_until_a_purge(fact: Any) -> None:
    removed = fact("removed")
    assert removed["kernel"] == {"bridge": [], "dnsmasq": []}
    assert removed["definition"]
    assert removed["after_purge"] == []
