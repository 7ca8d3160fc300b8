"""What the units promise, without booting: the daemon under their restrictions, and waiting for a network."""

import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, ROOT, Client, Refused
from support.daemon import Daemon
from support.netns import Lab, Namespace
from support.private_bus import PrivateBus
from support.waiting import eventually, wait_until

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
NETWORK = """<network><name>waited for</name><forward mode='nat'/><bridge name='virbr0' stp='off'/>
<ip address='192.168.122.1' netmask='255.255.255.0'>
<dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>"""


def confinement() -> tuple[str, ...]:
    """setpriv's arguments for the capabilities that vnetd.service leaves."""
    unit = (SYSTEMD / "vnetd.service").read_text()
    names = re.findall(r"CAP_([A-Z_]+)", " ".join(re.findall(r"^CapabilityBoundingSet=.*$", unit, re.MULTILINE)))
    assert "NET_ADMIN" in names
    kept = ",".join(["-all", *(f"+{name.lower()}" for name in names)])
    return ("setpriv", "--no-new-privs", f"--bounding-set={kept}", f"--inh-caps={kept}", "--")


async def test_the_daemon_does_its_work_with_the_capabilities_the_unit_leaves(
    bus: PrivateBus, root: Path, host_ns: Namespace, lab: Lab
) -> None:
    with Daemon(host_ns, bus.address, root, prefix=confinement()) as daemon:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        async with Client(bus.address) as client:
            network = await client.define_network(NETWORK)
            await client.start(network)
            guest = lab.namespace("guest")
            await client.attach("waited for", {"kind": "veth", "netns": guest.name})
            assert guest.link("eth0") is not None
            found = await client.get(ROOT, MANAGER, "Capabilities")
            assert not [name for name, (_, reason) in found.items() if "could not be tried" in reason]
            assert [found[name][0] for name in ("bridge", "veth", "tap", "dnsmasq", "nft-masquerade")] == [True] * 5
            await client.stop(network)
    assert host_ns.link("virbr0") is None


async def capabilities(client: Client) -> Any:
    """What the daemon can do, nothing as long as there is none."""
    with suppress(Refused):
        return await client.get(ROOT, MANAGER, "Capabilities")


async def test_a_host_without_systemd_and_its_company_is_served_and_told_so(
    bus: PrivateBus, root: Path, host_ns: Namespace, lab: Lab
) -> None:
    unnotified = ("env", "--unset=NOTIFY_SOCKET", "--unset=JOURNAL_STREAM")
    daemon = Daemon(host_ns, bus.address, root, prefix=unnotified)
    daemon.launch()
    try:
        async with Client(bus.address) as client:
            found = await eventually(lambda: capabilities(client), "it answers", deadline=60)
            for name in ("systemd", "polkit", "resolved"):
                assert found[name][0] is False
                assert "nobody owns org.freedesktop." in found[name][1]
            network = await client.define_network(NETWORK)
            await client.start(network)
            await client.stop(network)
    finally:
        daemon.close()


async def test_waiting_for_a_network_ends_when_it_is_active_and_not_before(
    bus: PrivateBus, root: Path, host_ns: Namespace
) -> None:
    with Daemon(host_ns, bus.address, root):
        waiting = subprocess.Popen(
            [str(SYSTEMD / "wait-for-network"), "waited for"], env={"VNETD_BUS": bus.address, "PATH": "/usr/bin:/bin"}
        )
        try:
            async with Client(bus.address) as client:
                network = await client.define_network(NETWORK)
                with pytest.raises(subprocess.TimeoutExpired):
                    waiting.wait(timeout=1)
                await client.start(network)
                assert wait_until(lambda: waiting.poll() is not None, "the wait is over")
                assert waiting.returncode == 0
        finally:
            waiting.kill()
            waiting.wait()
