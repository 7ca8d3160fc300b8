"""The examples in clients/examples do what they say, with a real daemon."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, ROOT
from support.netns import Guest
from support.site import Administrator
from support.waiting import eventually

TOP = Path(__file__).resolve().parents[2]
EXAMPLES = TOP / "clients" / "examples"
LAB = {
    "name": "lab",
    "mode": "isolated",
    "addresses": [
        {"address": "192.168.77.1/24", "dhcp": {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.99"}]}}
    ],
}


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


@pytest.fixture
def programs() -> Iterator[Path]:
    """A directory with this checkout's ``vnetctl``."""
    with tempfile.TemporaryDirectory(prefix="vnetd-examples-") as made:
        program = Path(made) / "vnetctl"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vnetctl "$@"\n')
        program.chmod(0o755)
        yield Path(made)


def environment(admin: Administrator, programs: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": f"{TOP}:{TOP / 'clients'}",
        "VNETD_BUS": admin.site.bus.address, **more,
    }  # fmt: skip


async def ports(admin: Administrator) -> list[dict[str, Any]]:
    return list(await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {}))


async def no_port_is_left(admin: Administrator) -> None:
    async def none() -> bool:
        return not await ports(admin)

    await eventually(none, "the port is gone", deadline=30)


async def test_a_command_runs_in_a_namespace_with_a_lease(admin: Administrator, network: str, programs: Path) -> None:
    done = subprocess.run(
        [EXAMPLES / "container.sh", "lab", "ping", "-c1", "-W5", "192.168.77.1"],
        env=environment(admin, programs), capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 received" in done.stdout
    await no_port_is_left(admin)


class Plugin:
    """The CNI plugin, called as a container runtime calls it."""

    def __init__(self, environment: dict[str, str], configuration: dict[str, Any]) -> None:
        self.environment = environment
        self.configuration = {"cniVersion": "1.0.0", "name": "lab", "type": "vnetd-cni", **configuration}

    def __call__(self, command: str, code: int = 0, **environment: str) -> Any:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "vnetd-cni"],
            env={**self.environment, "CNI_COMMAND": command, **environment}, input=json.dumps(self.configuration),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout else None


async def test_a_container_runtime_attaches_checks_and_detaches(
    admin: Administrator, network: str, programs: Path
) -> None:
    container = admin.vacant_guest("container")
    of = {"CNI_CONTAINERID": "c0ffee", "CNI_IFNAME": "net0", "CNI_NETNS": f"/run/netns/{container.name}"}
    plugin = Plugin(
        environment(admin, programs, **of),
        {"network": "lab", "addresses": ["192.168.77.200/24"], "gateways": ["192.168.77.1"]},
    )
    assert "1.0.0" in plugin("VERSION")["supportedVersions"]
    added = plugin("ADD")
    (port,) = await ports(admin)
    assert [one["name"] for one in added["interfaces"]] == [port["device"], "net0"]
    assert added["interfaces"][1]["mac"] == port["mac"]
    assert added["ips"] == [{"address": "192.168.77.200/24", "interface": 1}]
    assert Guest(container.name).ping("192.168.77.1", wait=5) == 1
    assert plugin("CHECK") is None
    assert plugin("DEL") is None and plugin("DEL") is None, "a runtime may ask twice"
    await no_port_is_left(admin)
    assert plugin("CHECK", code=1)["code"] == 100


async def test_what_cannot_be_done_is_told_the_runtime(admin: Administrator, network: str, programs: Path) -> None:
    of = {"CNI_CONTAINERID": "c0ffee", "CNI_IFNAME": "net0", "CNI_NETNS": "/run/netns/nowhere"}
    plugin = Plugin(environment(admin, programs, **of), {"network": "lab"})
    assert "nowhere" in plugin("ADD", code=1)["msg"]
    assert plugin("ADD", code=1, CNI_IFNAME="")["code"] == 4
    assert plugin("DANCE", code=1)["code"] == 4
    plugin.configuration["network"] = "none"
    assert "none" in plugin("ADD", code=1)["msg"]
    del plugin.configuration["network"]
    assert plugin("ADD", code=1)["code"] == 7
    plugin.configuration["cniVersion"] = "0.1.0"
    assert plugin("ADD", code=1)["code"] == 1
    plugin.configuration |= {"cniVersion": "1.0.0", "network": "lab"}
    assert plugin("ADD", code=1, VNETD_BUS="unix:path=/nowhere")["code"] == 11
    assert not await ports(admin)
