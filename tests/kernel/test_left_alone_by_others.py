"""The files that tell other network services to leave vnetd's devices alone say it of every kind of device it makes."""

import fnmatch
import shutil
import subprocess
from collections.abc import Callable
from configparser import RawConfigParser
from pathlib import Path

import pytest

from vnetd.plan.shaping import shaping_of
from vnetd.reconcile.borrowed import host_device
from vnetd.service.naming import BRIDGE_TEMPLATE
from vnetd.service.port_macvtap import OpenedMacvtap, PersistentMacvtap
from vnetd.service.port_taps import OpenedTap, PersistentTap
from vnetd.service.port_veth import VethPair
from vnetd.service.switches import BRIDGE_TEMPLATE as SWITCH_TEMPLATE

TOP = Path(__file__).resolve().parents[2]
NETWORKD = TOP / "packaging/systemd-networkd/10-vnetd.network"
NETWORK_MANAGER = TOP / "packaging/NetworkManager/90-vnetd.conf"
DAEMON = Path("/usr/lib/systemd/systemd-networkd")
UUID = "8a54c7f3-e910-4d12-8312-34a11467ac86"
TEMPLATES = (BRIDGE_TEMPLATE, SWITCH_TEMPLATE)
MAKERS = (OpenedTap, PersistentTap, VethPair, OpenedMacvtap, PersistentMacvtap)
NAMES = sorted({template.replace("%d", "12") for template in (*TEMPLATES, *(maker.template for maker in MAKERS))})
NAMES += [host_device(UUID), shaping_of(UUID, None).ifb]
OTHERS = ["eth0", "enp3s0", "wlan0", "br0", "bond0", "docker0", "lo", "ifb0"]


def parsed(path: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def networkd_patterns() -> list[str]:
    return parsed(NETWORKD)["Match"]["Name"].split()


def network_manager_patterns() -> list[str]:
    (section,) = parsed(NETWORK_MANAGER).sections()
    assert section.startswith("device"), "NetworkManager reads such sections only"
    specs = parsed(NETWORK_MANAGER)[section]["match-device"].split(",")
    assert all(spec.startswith("interface-name:") for spec in specs)
    return [spec.removeprefix("interface-name:") for spec in specs]


@pytest.mark.parametrize("patterns", [networkd_patterns, network_manager_patterns])
def test_every_kind_of_device_is_named_and_nobody_elses(patterns: Callable[[], list[str]]) -> None:
    known = patterns()
    for name in NAMES:
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern in known), name
    for name in OTHERS:
        assert not any(fnmatch.fnmatchcase(name, pattern) for pattern in known), name


def test_the_files_say_unmanaged() -> None:
    assert parsed(NETWORKD)["Link"]["Unmanaged"] == "yes"
    (section,) = parsed(NETWORK_MANAGER).sections()
    assert parsed(NETWORK_MANAGER)[section]["managed"] == "0"


NETWORKD_RUN = f"""
set -e
mkdir -p /etc/systemd/network
mount -t tmpfs none /etc/systemd/network
mount -t tmpfs none /run
mount -o remount,ro,bind /sys || mount -t sysfs -o ro sysfs /sys
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network /run/systemd/netif
cp {NETWORKD} /etc/systemd/network/
printf '[Match]\\nName=*\\n[Network]\\nAddress=10.66.66.1/24\\n' > /etc/systemd/network/50-greedy.network
for name in theirs0 {" ".join(NAMES)}; do ip link add "$name" type bridge; done
SYSTEMD_LOG_TARGET=console {DAEMON} & daemon=$!
for _ in $(seq 600); do
    ip -4 address show dev theirs0 | grep -q 10.66.66.1 && break
    sleep 0.1
done
kill $daemon; wait $daemon || true
ip -o link | grep -o '^[0-9]*: [^:]*: <[^>]*UP' | cut -d: -f2 | tr -d ' '
"""


@pytest.mark.skipif(not DAEMON.exists(), reason="needs systemd-networkd, of package systemd")
def test_systemd_networkd_seizes_what_is_not_ours_and_nothing_else() -> None:
    """A greedy file of somebody's matches every device; the real service raises and addresses all it takes."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of package util-linux")
    command = [str(TOP / "scripts/isolated"), "bash", "-c", NETWORKD_RUN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    raised = {line.partition("@")[0] for line in done.stdout.splitlines()}
    assert "theirs0" in raised, done.stdout + done.stderr
    assert not raised & set(NAMES)
