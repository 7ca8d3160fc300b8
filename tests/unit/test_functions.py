"""Virtual functions: found in a tree like sysfs, their settings as the kernel writes and reads them, their changes."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from vnetd.linux.functions import LinuxFunctions, _changes, parse_functions, read_functions
from vnetd.linux.netlink import ReadSocket, encode
from vnetd.model.errors import Invalid, NotFound
from vnetd.model.functions import VfState
from vnetd.plan.functions import Function, SetFunction, plan_function


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A card ens3 with two functions, the second of which vfio has; a card lo0 without; a device that is no card."""
    devices = tmp_path / "devices/pci0000:00"
    card = devices / "0000:03:00.0"
    for number, address in enumerate(("0000:03:10.0", "0000:03:10.2")):
        function = devices / address
        function.mkdir(parents=True)
        card.mkdir(exist_ok=True)
        (card / f"virtfn{number}").symlink_to(f"../{address}")
        (function / "physfn").symlink_to("../0000:03:00.0")
        driver = tmp_path / "bus/pci/drivers" / ("igbvf", "vfio-pci")[number]
        driver.mkdir(parents=True)
        (function / "driver").symlink_to(driver)
    (devices / "0000:03:10.0/net/ens3v0").mkdir(parents=True)
    (card / "net/ens3").mkdir(parents=True)
    (devices / "0000:04:00.0").mkdir()
    names = tmp_path / "class/net"
    for name, device in (("ens3", card), ("lo0", None)):
        (names / name).mkdir(parents=True)
        if device:
            (names / name / "device").symlink_to(device)
    (tmp_path / "bus/pci/devices").mkdir(parents=True)
    for device in devices.iterdir():
        (tmp_path / "bus/pci/devices" / device.name).symlink_to(device)
    return tmp_path


FIRST = Function("0000:03:10.0", "ens3", 0, "ens3v0", "igbvf")
SECOND = Function("0000:03:10.2", "ens3", 1, "", "vfio-pci")


async def test_functions_of_a_card_are_found_in_sysfs_by_number(sysfs: Path) -> None:
    functions = LinuxFunctions(sysfs)
    assert await functions.of("ens3") == (FIRST, SECOND)
    for name in ("lo0", "nothing"):
        with pytest.raises(NotFound, match=f"no network card '{name}'"):
            await functions.of(name)
    await functions.close()


async def test_a_function_is_found_by_its_pci_address_and_other_devices_are_none(sysfs: Path) -> None:
    functions = LinuxFunctions(sysfs)
    assert await functions.at("0000:03:10.2") == SECOND
    with pytest.raises(NotFound, match="no PCI device 0000:09"):
        await functions.at("0000:09:00.0")
    for other in ("0000:03:00.0", "0000:04:00.0"):
        with pytest.raises(Invalid, match=f"{other} is no virtual function"):
            await functions.at(other)
    await functions.close()


async def test_the_machines_own_sysfs_can_be_asked() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a sysfs is mounted for it")
    functions = LinuxFunctions()
    with pytest.raises(NotFound):
        await functions.of("lo")
    await functions.close()


def _info(vf: int, mac: bytes, vlan: tuple[int, int], spoof: int, link: int, trust: int) -> bytes:
    """IFLA_VF_INFO as the kernel writes it (include/uapi/linux/if_link.h)."""
    return encode(
        1,
        encode(1, struct.pack("=I32s", vf, mac))
        + encode(2, struct.pack("=III", vf, *vlan))
        + encode(4, struct.pack("=II", vf, spoof))
        + encode(5, struct.pack("=II", vf, link))
        + encode(9, struct.pack("=II", vf, trust)),
    )


def test_settings_are_read_as_the_kernel_writes_them() -> None:
    unknown = 0xFFFFFFFF
    infos = _info(0, b"\x52\x54\0\0\0\1", (42, 3), 1, 2, 0) + _info(1, bytes(6), (0, 0), unknown, 0, unknown)
    message = struct.pack("=BxHiII", 0, 1, 7, 0, 0) + encode(3, b"ens3\0") + encode(22, infos)
    assert parse_functions(message, 0, len(message)) == {
        0: VfState(mac="52:54:00:00:00:01", vlan=42, qos=3, spoof_check=True, link_state="disable", trust=False),
        1: VfState(link_state="auto"),
    }
    bare = struct.pack("=BxHiII", 0, 1, 7, 0, 0)
    assert parse_functions(bare, 0, len(bare)) == {}


def test_a_card_is_asked_for_settings_without_counters() -> None:
    asked: list[bytes] = []

    class Kernel(ReadSocket):
        def __init__(self) -> None:
            """Without a socket."""

        def get(self, kind: int, body: bytes, parse: object) -> Any:
            asked.append(body)
            return {}

    read_functions(Kernel(), "ens3")
    assert asked[0].endswith(encode(3, b"ens3\0") + encode(29, struct.pack("=I", 1 | 8)))


def test_settings_are_written_as_the_kernel_reads_them_one_at_a_time() -> None:
    change = SetFunction("ens3", 5, "52:54:00:00:00:01", (42, 3), spoof_check=False, trust=True, link_state="enable")
    assert dict(_changes(change)) == {
        "mac": encode(1, struct.pack("=I32s", 5, b"\x52\x54\0\0\0\1")),
        "vlan": encode(2, struct.pack("=III", 5, 42, 3)),
        "spoof check": encode(4, struct.pack("=II", 5, 0)),
        "trust": encode(9, struct.pack("=II", 5, 1)),
        "link state": encode(5, struct.pack("=II", 5, 1)),
    }


def test_a_change_says_only_what_differs_and_what_the_driver_knows() -> None:
    have = VfState(mac="52:54:00:00:00:01", vlan=7, spoof_check=True)
    want = VfState(mac="52:54:00:00:00:02", vlan=7, spoof_check=False, trust=True, link_state="enable")
    assert plan_function("ens3", 1, want, have) == SetFunction("ens3", 1, mac="52:54:00:00:00:02", spoof_check=False)
    assert plan_function("ens3", 1, have, have) is None
    assert plan_function("ens3", 1, have.model_copy(update={"vlan": 0}), have) == SetFunction("ens3", 1, vlan=(0, 0))
