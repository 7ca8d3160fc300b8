"""Virtual functions of network cards: which there are (sysfs), and what the card does for them (rtnetlink)."""

import errno
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from vnetd.linux import netlink
from vnetd.linux.links import IFLA_EXT_MASK, IFLA_IFNAME
from vnetd.linux.netlink import U32, ReadSocket, attributes, encode
from vnetd.linux.operations import index_of, reporting
from vnetd.linux.private_mounts import detached_mount, path_below
from vnetd.linux.threads import Worker
from vnetd.model.errors import Invalid, NotFound
from vnetd.model.functions import VfLinkState, VfState
from vnetd.plan.functions import Function, SetFunction

RTEXT_FILTER_VF, RTEXT_FILTER_SKIP_STATS = 1, 1 << 3
IFLA_VFINFO_LIST, IFLA_VF_INFO = 22, 1
IFLA_VF_MAC, IFLA_VF_VLAN, IFLA_VF_SPOOFCHK, IFLA_VF_LINK_STATE, IFLA_VF_TRUST = 1, 2, 4, 5, 9
NLA_F_NESTED = 1 << 15
_MAC, _VLAN, _SETTING = struct.Struct("=I6s26x"), struct.Struct("=III"), struct.Struct("=II")
_LINK_STATES: tuple[VfLinkState, ...] = ("auto", "enable", "disable")
_VIRTFN = re.compile(r"virtfn([0-9]+)")


class LinuxFunctions:
    """``host.Functions`` from the sysfs of the caller's network namespace, or a tree at ``sysfs``."""

    def __init__(self, sysfs: Path | None = None) -> None:
        self._worker = Worker("vnetd-sysfs")
        self._given = sysfs
        self._mount = -1

    async def of(self, pf: str) -> tuple[Function, ...]:
        """The functions of a card, by number. ``NotFound`` if there is no such device or it has none."""
        return await self._worker.run(self._of, pf)

    async def at(self, pci: str) -> Function:
        """The function with this PCI address (``0000:03:10.0``). ``NotFound`` if there is none, ``Invalid`` if it is
        no virtual function of a network card.
        """
        return await self._worker.run(self._at, pci)

    async def close(self) -> None:
        """End the thread."""
        await self._worker.close(self._unmount)

    def _of(self, pf: str) -> tuple[Function, ...]:
        device = self._sysfs() / "class/net" / pf / "device"
        if not device.exists():
            raise NotFound(f"there is no network card {pf!r} with virtual functions")
        return tuple(_function(device, pf, number) for number in sorted(_numbers(device)))

    def _at(self, pci: str) -> Function:
        device = self._sysfs() / "bus/pci/devices" / pci
        if not device.exists():
            raise NotFound(f"there is no PCI device {pci}")
        card = device / "physfn"
        names = _names(card / "net")
        for number in _numbers(card) if names else ():
            if os.path.basename(os.readlink(card / f"virtfn{number}")) == pci:
                return _function(card, names[0], number)
        raise Invalid(f"PCI device {pci} is no virtual function of a network card")

    def _sysfs(self) -> Path:
        if self._given:
            return self._given
        if self._mount == -1:
            self._mount = detached_mount("sysfs")
        return Path(path_below(self._mount))

    def _unmount(self) -> None:
        if self._mount != -1:
            os.close(self._mount)


def _function(card: Path, pf: str, number: int) -> Function:
    virtual = card / f"virtfn{number}"
    driver = virtual / "driver"
    return Function(
        pci=os.path.basename(os.readlink(virtual)),
        pf=pf,
        vf=number,
        netdev=next(iter(_names(virtual / "net")), ""),
        driver=os.path.basename(os.readlink(driver)) if driver.is_symlink() else "",
    )


def _numbers(card: Path) -> list[int]:
    return [int(found[1]) for name in _names(card) if (found := _VIRTFN.fullmatch(name))]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def read_functions(sock: ReadSocket, pf: str) -> Mapping[int, VfState]:
    """What the card does for each of its functions, by number; none if there is no such card. Raises ``OSError``."""
    body = netlink.LINK.pack(0, 0, 0, 0, 0) + encode(IFLA_IFNAME, pf.encode() + b"\0")
    # Counters would be half of the answer, which holds 64 KiB at most, and some cards are asked for each of them.
    body += encode(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_VF | RTEXT_FILTER_SKIP_STATS))
    try:
        return sock.get(netlink.RTM_GETLINK, body, parse_functions)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return {}
        raise


def parse_functions(data: bytes, start: int, end: int) -> dict[int, VfState]:
    """Functions by number from the payload of RTM_NEWLINK."""
    listed = attributes(data, start + netlink.LINK.size, end).get(IFLA_VFINFO_LIST, b"")
    return dict(_state(info) for info in _each(listed, IFLA_VF_INFO))


def _state(info: bytes) -> tuple[int, VfState]:
    found = attributes(info, 0, len(info))
    vf, mac = _MAC.unpack_from(found[IFLA_VF_MAC].ljust(_MAC.size, b"\0"))
    _, vlan, qos = _VLAN.unpack_from(found.get(IFLA_VF_VLAN, bytes(_VLAN.size)))
    link = _setting(found, IFLA_VF_LINK_STATE)
    return vf, VfState(
        mac=mac.hex(":"),
        vlan=vlan,
        qos=qos,
        spoof_check=_flag(found, IFLA_VF_SPOOFCHK),
        trust=_flag(found, IFLA_VF_TRUST),
        link_state=_LINK_STATES[link] if link is not None and link < len(_LINK_STATES) else None,
    )


def _setting(found: Mapping[int, bytes], kind: int) -> int | None:
    """A setting's value; all bits set means that the driver cannot say."""
    value: int = _SETTING.unpack_from(found[kind])[1] if kind in found else 0xFFFFFFFF
    return None if value == 0xFFFFFFFF else value


def _flag(found: Mapping[int, bytes], kind: int) -> bool | None:
    value = _setting(found, kind)
    return None if value is None else bool(value)


def _each(data: bytes, kind: int) -> Iterator[bytes]:
    """Payloads of all attributes of one kind that stand in a row; each is padded to four bytes."""
    at = 0
    while at + 4 <= len(data):
        length, found = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        if found & ~NLA_F_NESTED == kind:
            yield data[at + 4 : at + length]
        at += (length + 3) & ~3


def set_function(sock: ReadSocket, want: SetFunction) -> None:
    """Have a card change what it does for a function. Raises ``HostError`` naming card, function and property."""
    for what, attribute in _changes(want):
        with reporting(f"set {what} of", want.name):
            info = encode(IFLA_VFINFO_LIST | NLA_F_NESTED, encode(IFLA_VF_INFO | NLA_F_NESTED, attribute))
            sock.change(netlink.RTM_NEWLINK, 0, netlink.LINK.pack(0, 0, index_of(want.pf), 0, 0) + info)


def _changes(want: SetFunction) -> Iterator[tuple[str, bytes]]:
    """One attribute a request, so that a refusal names what was refused."""
    if want.mac is not None:
        yield "mac", encode(IFLA_VF_MAC, _MAC.pack(want.vf, bytes.fromhex(want.mac.replace(":", ""))))
    if want.vlan is not None:
        yield "vlan", encode(IFLA_VF_VLAN, _VLAN.pack(want.vf, *want.vlan))
    if want.spoof_check is not None:
        yield "spoof check", encode(IFLA_VF_SPOOFCHK, _SETTING.pack(want.vf, want.spoof_check))
    if want.trust is not None:
        yield "trust", encode(IFLA_VF_TRUST, _SETTING.pack(want.vf, want.trust))
    if want.link_state is not None:
        number = _LINK_STATES.index(want.link_state)
        yield "link state", encode(IFLA_VF_LINK_STATE, _SETTING.pack(want.vf, number))
