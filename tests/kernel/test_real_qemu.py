"""QEMU, run by a user who is not root, gets its network from vnetd: by descriptor and through the bridge helper."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.client import MANAGER, ROOT, variant
from support.private_bus import VNETD_GROUP as GROUP
from support.private_bus import client_of, method_call
from support.qemu import as_user, helper_script, machine
from support.site import Administrator, Site
from support.waiting import eventually

pytestmark = pytest.mark.usefixtures("vnetd_group")
MAC = "52:54:00:00:77:5{}"
LAB = {
    "name": "lab",
    "mode": "nat",
    "bridge": {"name": "virbr7", "stp": False},
    "addresses": [
        {"address": "192.168.77.1/24", "dhcp": {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.99"}]}}
    ],
}


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory every user may enter."""
    with tempfile.TemporaryDirectory(prefix="vnetd-qemu-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def environment(site: Site) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "VNETD_BUS": site.bus.address, "HOME": "/"}


async def machine_gets_a_lease(
    admin: Administrator, network: str, mac: str, qemu: "subprocess.Popen[bytes]", log: Path
) -> None:
    """The firmware asks for an address, and answers under it."""

    async def leased() -> str:
        assert qemu.poll() is None, f"QEMU ended: {log.read_text()}"
        return next((str(lease["address"]) for lease in await admin.leases(network) if lease["mac"] == mac), "")

    await eventually(leased, f"{mac} has a lease", deadline=90)
    address = await leased()
    host = admin.site.host
    await eventually(
        lambda: "1 received" in host.run("ping", "-c1", "-W1", address, check=False), "it answers", deadline=30
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "told"), [("lab", True), ("virbr7", False)])
async def test_a_machine_gets_a_lease_through_the_bridge_helper(
    admin: Administrator, network: str, folder: Path, name: str, told: bool
) -> None:
    helper, log, mac = helper_script(folder / "vnet-bridge-helper"), folder / "log", MAC.format(1 + told)
    netdev = f"bridge,br={name},helper={helper}" + (f" --mac={mac}" if told else "")
    with machine(netdev, mac, log=log, groups=[GROUP], environment=environment(admin.site)) as qemu:
        await machine_gets_a_lease(admin, network, mac, qemu, log)
        (port,) = await ports(admin)
        assert (port["owner"], port["mac"], port["filter"]) == (65534, mac, "vnetd-guest")
    await eventually(lambda: ports(admin, there=False), "the port goes with QEMU", deadline=30)


@pytest.mark.slow
async def test_a_machine_gets_a_lease_on_a_tap_that_was_handed_over(
    admin: Administrator, network: str, folder: Path
) -> None:
    mac, log = MAC.format(3), folder / "log"
    async with client_of(admin.site.bus) as bus:
        reply = await bus.call(method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", {"mac": variant(mac)}))
        assert reply is not None
        (tap,) = reply.unix_fds
    try:
        with machine(f"tap,fd={tap}", mac, log=log, pass_fds=[tap], environment=environment(admin.site)) as qemu:
            os.close(tap)
            tap = -1
            await machine_gets_a_lease(admin, network, mac, qemu, log)
    finally:
        if tap >= 0:
            os.close(tap)
    await eventually(lambda: ports(admin, there=False), "the port goes with QEMU", deadline=30)


async def test_the_helper_says_why_there_is_no_tap(admin: Administrator, network: str, folder: Path) -> None:
    helper = str(helper_script(folder / "vnet-bridge-helper"))

    def refused(*arguments: str, groups: tuple[int, ...] = (GROUP,)) -> str:
        done = subprocess.run(
            [*as_user(groups), helper, *arguments], env=environment(admin.site), capture_output=True, text=True,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode != 0
        return done.stderr

    assert "there is no network 'nowhere'" in refused("--br=nowhere", "--fd=0")
    assert "cannot hand the tap over descriptor 77" in refused("--br=lab", "--fd=77")
    assert "membership of group vnetd" in refused("--br=lab", "--fd=0", groups=())
    assert "--br" in refused("--fd=3")
    await eventually(lambda: ports(admin, there=False), "nothing is left", deadline=30)


async def ports(admin: Administrator, there: bool = True) -> list[dict[str, object]] | bool:
    """The ports there are, or whether there is none."""
    listed = list(await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {}))
    return listed if there else not listed
