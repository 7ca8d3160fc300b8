"""vnetd on a system that systemd really booted, on a stock kernel. One boot; ``facts`` says how each was found."""

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import installation
from support.client import NETWORK, PROPERTIES, Client, variant
from support.daemon import Daemon
from support.machine import IN_INSTRUCTIONS, Machine, StockKernel
from support.machine.errors import Unavailable
from support.netns import Lab
from support.private_bus import private_bus
from support.stock_kernel import time_spent

HERE = Path(__file__).parent
INTERPRETER = sys._base_executable  # that of the environment's below, which needs nothing from the checkout
LIMIT = 1500.0
pytestmark = pytest.mark.timeout(LIMIT + 900)  # other machines may be waited for
ADDRESS = "192.168.122.1/24"
DOCUMENTS = (
    """<network><name>default</name><forward mode='nat'/><bridge name='virbr0' stp='off'/>
<ip address='192.168.122.1' netmask='255.255.255.0'>
<dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>""",
    '{"name": "user", "mode": "user"}',
    '{"name": "direct", "mode": "macvtap", "macvtap_mode": "bridge", "devices": {"interfaces": ["uplink0"]}}',
)
"""All start with the host."""

FIREWALL = """flush ruleset
table inet filter {
    chain input { type filter hook input priority filter; policy accept; }
}
"""
LOOKS = """[Unit]
{condition}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mkdir -p /run/seen && ip -oneline -4 address show dev virbr0 >/run/seen/{name} 2>&1'
[Install]
WantedBy=multi-user.target
"""
# Who is ordered behind vnetd looks once, at once: the service must not be active too early.
LOOKERS = {
    "after-vnetd": "Requires=vnetd.service\nAfter=vnetd.service",
    "after-network": "Requires=vnet-network@default.service\nAfter=vnet-network@default.service",
}
MASKED = ("systemd-networkd-wait-online.service",)
SOONER = "[Service]\nWatchdogSec=10s\nTimeoutAbortSec=2s\n"
"""The test need not wait as long as an administrator should."""
SURROUNDINGS = """
# What the machine below has enabled is its own business.
rm -rf /etc/systemd/network /etc/systemd/system/*.wants /etc/systemd/system/*.requires
cp -r /machine/etc/vnetd /etc/
cp /machine/nftables.conf /etc/nftables.conf
cp /machine/*.service /etc/systemd/system/
mkdir -p /etc/systemd/system/vnetd.service.d && cp /machine/sooner.conf /etc/systemd/system/vnetd.service.d/
systemctl enable nftables.service systemd-networkd.service vnetd.service after-vnetd.service after-network.service

ip netns add outside; ip netns add guest
ip link add uplink0 type veth peer name eth0 netns outside
ip address add 203.0.113.2/24 dev uplink0; ip link set uplink0 up
ip route add default via 203.0.113.1
ip -n outside address add 203.0.113.1/24 dev eth0; ip -n outside link set eth0 up
ip link add guest0 type veth peer name eth0 netns guest
ip -n guest address add 192.168.122.9/24 dev eth0; ip -n guest link set eth0 up
ip -n guest route add default via 192.168.122.1
"""
"""An outside that knows no route back, and a guest whose cable is plugged in later."""


def prepare(share: Path) -> None:
    """Leave in ``share`` what the machine copies: definitions as the daemon itself writes them, units, a firewall."""
    asyncio.run(_define(share / "root"))
    shutil.move(share / "root/etc", share / "etc")
    for name, condition in LOOKERS.items():
        (share / f"{name}.service").write_text(LOOKS.format(name=name, condition=condition))
    (share / "nftables.conf").write_text(FIREWALL)
    (share / "sooner.conf").write_text(SOONER)


async def _define(root: Path) -> None:
    root.mkdir()
    root.chmod(0o755)
    with Lab() as lab, private_bus() as bus, Daemon(lab.namespace("host"), bus.address, root):
        async with Client(bus.address) as client:
            for document in DOCUMENTS:
                path = await client.define_network(document)
                await client.call(path, PROPERTIES, "Set", "ssv", NETWORK, "Autostart", variant(True))


@pytest.fixture(scope="module")
def facts(kernel: StockKernel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``facts.py`` noted."""
    if not Path("/usr/lib/systemd/system/dbus.socket").exists() or not shutil.which("systemd-sysusers"):
        pytest.skip("needs the packages systemd and dbus, to boot this machine's root file system")
    share = tmp_path_factory.mktemp("booted")
    prepare(share)
    printed: list[bytes] = []
    before = f"{installation.installing()}\n{SURROUNDINGS}"
    machine = Machine(
        kernel,
        systemd=True,
        masked=MASKED,
        before=before,
        devices=IN_INSTRUCTIONS,
        environment={"PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    begin = time.monotonic()
    try:
        status = machine.run([INTERPRETER, str(HERE / "facts.py")], limit=LIMIT, share=share, output=printed.append)
    except Unavailable as error:
        pytest.skip(str(error))
    finally:
        print(b"".join(printed).decode(errors="replace"))
        logs = (share / name for name in ("before.log", "console"))
        print(*(log.read_text(errors="replace") for log in logs if log.exists()))
    assert status == 0
    return {**json.loads((share / "facts.json").read_text()), "spent": time_spent("systemd", begin)}


def test_the_service_is_active_only_when_autostart_networks_are_up(fact: Any) -> None:
    booted = fact("booted")
    assert booted["unit"]["Type"] == "notify"
    assert (booted["unit"]["ActiveState"], booted["unit"]["NRestarts"]) == ("active", "0")
    assert ADDRESS in booted["after_the_service"]
    assert booted["kernel"]["addresses"] == [ADDRESS]
    assert booted["kernel"]["dnsmasq"], "nobody serves addresses"


def test_a_unit_ordered_behind_a_network_finds_its_bridge_with_its_address(fact: Any) -> None:
    assert ADDRESS in fact("booted")["after_the_network"]
    assert fact("booted")["waiting"] == {"Result": "success", "ActiveState": "active"}


def test_the_daemon_starts_behind_the_firewall_and_both_have_their_tables(fact: Any) -> None:
    order = fact("order")
    assert order["firewall"] == "active"
    assert 0 < order["firewall_done"] <= order["daemon_begun"]
    assert {"table inet filter", "table inet vnetd"} <= set(order["tables"])


def test_networkd_leaves_a_bridge_alone(fact: Any) -> None:
    order = fact("order")
    assert order["networkd"] == "active"
    bridge = next(line.split() for line in order["links"] if "virbr0" in line)
    assert bridge[-1] in {"unmanaged", "pending"}, "pending: for want of udev, which a container lacks"


def test_systemd_finds_no_fault_with_the_installed_units(fact: Any) -> None:
    assert fact("analyzed")["complaints"] == []
    assert fact("analyzed")["exposure"] <= 4.9


def test_guests_beside_bridges_have_their_way_within_the_sandbox(fact: Any) -> None:
    sandboxed = fact("sandboxed")
    assert sandboxed["passt"] == {"offered": "203.0.113.2", "users": ["nobody"]}, "the host's own address"
    (held,) = sandboxed["macvtap"]["held"]
    assert "uplink0" in held
    assert "eth0" in sandboxed["process"]["device"]


def test_a_restart_under_a_running_ping_loses_nothing_and_leaves_dnsmasq_alone(fact: Any) -> None:
    restarted = fact("restarted")
    assert restarted["before"]["pid"] != restarted["after"]["pid"]
    assert restarted["under_way"], "the ping had ended before the restart was done"
    assert restarted["sent"] == restarted["received"]
    assert restarted["before"]["kernel"] == restarted["after"]["kernel"]


def test_rules_come_back_after_the_firewall_was_loaded_anew(fact: Any) -> None:
    assert "table inet vnetd" in fact("flushed")["tables"]


def test_stopping_the_service_leaves_networks_and_a_call_starts_it_again(fact: Any) -> None:
    activated = fact("activated")
    assert activated["stopped"] == {"kernel": activated["before"], "active": False}
    assert activated["before"]["addresses"] == [ADDRESS]
    assert '"default"' in activated["answer"]
    assert activated["active"]
    assert activated["after"] == activated["before"]


def test_a_daemon_that_hangs_is_replaced_and_the_networks_do_not_notice(fact: Any) -> None:
    hung = fact("hung")
    assert hung["watchdog"], "it was not the watchdog"
    assert '"default"' in hung["answer"]
    assert hung["before"]["kernel"] == hung["after"]["kernel"]


def test_all_networks_are_ended_by_one_command(fact: Any) -> None:
    ended = fact("ended")
    assert ended["kernel"] == {"ifindex": 0, "addresses": [], "dnsmasq": []}
    assert ended["active"]
