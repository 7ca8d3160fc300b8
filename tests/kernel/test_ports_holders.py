"""Holders of taps who mean harm: what each thing they can do does, and what undoes it. Owners of persistent ones."""

import errno
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.client import MANAGER, NETWORK, PORT, ROOT, plain, variant
from support.holder import (
    IFF_DETACH_QUEUE,
    NOBODY,
    SIOCSIFHWADDR,
    TUNSETCARRIER,
    TUNSETGROUP,
    TUNSETLINK,
    TUNSETOFFLOAD,
    TUNSETOWNER,
    TUNSETPERSIST,
    TUNSETQUEUE,
    TUNSETVNETHDRSZ,
    Holder,
    hardware_address,
    opened_by,
    opened_in,
)
from support.private_bus import client_of, method_call
from support.site import Administrator
from support.waiting import eventually

LAB = {"name": "lab", "mode": "isolated", "mtu": 1400, "addresses": [{"address": "192.168.77.1/24"}]}
USER, GROUP = 54321, 54322
TUN_F_CSUM, ARPHRD_PPP = 1, 512


@pytest.fixture
async def network(admin: Administrator) -> str:
    return await admin.raise_network(LAB)


class Held:
    """A port whose tap somebody else holds."""

    def __init__(self, admin: Administrator, port: str, device: str, holder: Holder) -> None:
        self.admin, self.port, self.device, self.holder = admin, port, device, holder

    def link(self) -> dict[str, Any]:
        """The tap as the kernel shows it; {} if it is gone."""
        return self.admin.site.host.link(self.device) or {}

    def tun(self) -> dict[str, Any]:
        """What is particular to taps."""
        return dict(self.link()["linkinfo"]["info_data"])

    @property
    def up(self) -> bool:
        """Whether the host's side is up."""
        return "UP" in self.link().get("flags", [])

    async def get(self, name: str) -> Any:
        """A property of the port."""
        return await self.admin.get(self.port, PORT, name)

    async def set_link(self, up: bool) -> None:
        """Plug the cable in or out."""
        await self.admin.call(self.port, PORT, "SetLink", "b", up)

    async def gone(self) -> None:
        """Return when nothing of the port is left."""
        admin = self.admin
        await eventually(lambda: admin.site.devices() == {"virbr0"}, "the tap is gone")
        await eventually(lambda: not list((admin.site.root / "run/vnetd/ports").glob("*")), "it is forgotten")
        assert await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {}) == []


@asynccontextmanager
async def held(admin: Administrator, **spec: Any) -> AsyncIterator[Held]:
    """A tap in the hands of a process of uid nobody that has nothing else."""
    async with client_of(admin.site.bus) as bus:
        values = {key: variant(value) for key, value in spec.items()}
        reply = await bus.call(method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", "lab", values))
        assert reply is not None and reply.signature == "oaha{sv}", plain(reply and reply.body)
        port, _, result = plain(reply.body)
        holder = Holder(reply.unix_fds)
        try:
            yield Held(admin, str(port), result["device"], holder)
        finally:
            holder.kill()


async def test_a_port_goes_with_its_killed_holder(admin: Administrator, network: str) -> None:
    async with held(admin, queues=3, filter="no-mac-spoofing") as one:
        assert (one.link()["mtu"], one.link()["address"][:2], one.up) == (1400, "fe", True)
        one.holder.kill()
        await one.gone()
    assert await admin.get(network, NETWORK, "Ports") == []
    assert await admin.healed(network) == 0


@pytest.mark.parametrize("also", [(), ((TUNSETOWNER, NOBODY),), ((TUNSETGROUP, NOBODY), (TUNSETOWNER, NOBODY))])
async def test_a_tap_its_holder_made_persistent_goes_with_the_holder(
    admin: Administrator, network: str, also: tuple[tuple[int, int], ...]
) -> None:
    async with held(admin, queues=2) as one:
        for request, argument in (*also, (TUNSETPERSIST, 1)):
            assert one.holder.does(request, argument) == 0
        assert one.tun()["persist"] is True
        assert await one.get("State") == "active"
        one.holder.kill()
        await one.gone()


async def test_a_persistent_tap_left_by_its_holder_while_no_daemon_ran_is_deleted(
    admin: Administrator, network: str
) -> None:
    async with held(admin) as one:
        assert one.holder.does(TUNSETPERSIST, 1) == 0
        admin.site.daemon.kill()
        one.holder.kill()
        assert one.link(), "it outlived its holder"
        admin.site.daemon.start()
        await one.gone()


@pytest.mark.parametrize("request_", [TUNSETOWNER, TUNSETGROUP])
async def test_an_owner_or_group_set_by_the_holder_goes_with_the_tap(
    admin: Administrator, network: str, request_: int
) -> None:
    async with held(admin) as one:
        assert one.tun()["user"] == "root"
        assert one.holder.does(request_, NOBODY) == 0
        assert (one.tun()["user"], one.tun().get("group")) in {("nobody", None), ("root", "nogroup")}
        one.holder.kill()
        await one.gone()


async def test_the_carrier_is_the_holders_and_plugs_out_nobody_else(admin: Administrator, network: str) -> None:
    other = await admin.add_guest("lab", "192.168.77.12/24", name="other")
    async with held(admin) as one:
        assert one.holder.does(TUNSETCARRIER, struct.pack("=I", 0)) == 0
        await eventually(lambda: "NO-CARRIER" in one.link()["flags"], "its cable is out")
        assert other.ping("192.168.77.1")
        assert one.holder.does(TUNSETCARRIER, struct.pack("=I", 1)) == 0
        await eventually(lambda: "LOWER_UP" in one.link()["flags"], "its cable is in")
        assert (one.up, await one.get("Problems"), await admin.healed(network)) == (True, [], 0)


async def test_the_type_of_a_tap_in_a_bridge_cannot_be_changed(admin: Administrator, network: str) -> None:
    async with held(admin) as one:
        assert one.holder.does(TUNSETLINK, ARPHRD_PPP) == errno.EBUSY
        await one.set_link(False)
        assert one.holder.does(TUNSETLINK, ARPHRD_PPP) in {errno.EPERM, errno.EBUSY}, "nor while it is down"
        assert one.link()["link_type"] == "ether"


async def test_offloads_header_size_and_queues_are_the_holders(admin: Administrator, network: str) -> None:
    async with held(admin, queues=2) as one:
        assert one.holder.does(TUNSETOFFLOAD, TUN_F_CSUM) == 0
        assert one.holder.does(TUNSETVNETHDRSZ, struct.pack("=i", 12)) == 0
        detach = struct.pack("=16sH22x", b"", IFF_DETACH_QUEUE)
        for queue in (0, 1):
            assert one.holder.does(TUNSETQUEUE, detach, queue) == 0
        data = one.tun()
        assert (data.get("numqueues", 0), data["numdisabled"]) == (0, 2)
        await admin.call(ROOT, MANAGER, "Reconcile")
        assert one.link(), "queues that are put aside are held still"
        assert (await one.get("State"), await admin.healed(network)) == ("active", 0)
        one.holder.kill()
        await one.gone()


async def test_a_holder_that_takes_the_bridges_mac_is_set_down_and_in_the_end_detached(
    admin: Administrator, network: str
) -> None:
    guest = await admin.add_guest("lab", "192.168.77.12/24", name="other", device="other0")
    bridge = (admin.site.host.link("virbr0") or {})["address"]
    async with held(admin) as one:
        own = one.link()["address"]
        for times in (1, 2):
            assert one.holder.does(SIOCSIFHWADDR, hardware_address(bridge)) == 0
            await eventually(lambda: one.link()["address"] == own and not one.up, "it is restored and down")
            await eventually(lambda: _problems(one, f"{times} of 3 times"), "and says why")  # noqa: B023
            assert bridge in (await one.get("Problems"))[0]
            assert (await one.get("State"), await one.get("LinkUp")) == ("degraded", True)
            assert guest.ping("192.168.77.1")
            await one.set_link(True)
            assert one.up and await one.get("Problems") == []
        assert one.holder.does(SIOCSIFHWADDR, hardware_address(guest_mac(admin))) == 0
        await eventually(lambda: not one.link(), "the third time it is detached")
        await eventually(lambda: _ports(admin, network, [guest.port]), "the other port stays")
        assert guest.ping("192.168.77.1")
        assert one.holder.does(TUNSETPERSIST, 1) == errno.EBADFD


def guest_mac(admin: Administrator) -> str:
    """The host's side of the other guest."""
    return str((admin.site.host.link("other0") or {})["address"])


async def _problems(one: Held, text: str) -> bool:
    return any(text in problem for problem in await one.get("Problems"))


async def _ports(admin: Administrator, network: str, expected: list[str]) -> bool:
    return bool(await admin.get(network, NETWORK, "Ports") == expected)


async def test_a_port_that_was_set_down_stays_so_over_a_killed_daemon(admin: Administrator, network: str) -> None:
    async with held(admin) as one:
        assert one.holder.does(SIOCSIFHWADDR, hardware_address("52:54:00:66:66:66")) == 0
        await eventually(lambda: _problems(one, "1 of 3 times"), "it is set down")
        await eventually(lambda: "1 of 3" in _record(admin), "that is on record")
        admin.site.daemon.kill()
        admin.site.daemon.start()
        assert not one.up
        assert await _problems(one, "1 of 3 times")
        await one.set_link(True)
        assert one.up


def _record(admin: Administrator) -> str:
    return "".join(path.read_text() for path in (admin.site.root / "run/vnetd/ports").glob("*.json"))


async def test_mtu_and_link_of_a_tap_are_healed(admin: Administrator, network: str) -> None:
    async with held(admin) as one:
        admin.site.host.run("ip", "link", "set", one.device, "mtu", "900")
        await eventually(lambda: one.link()["mtu"] == 1400, "its MTU is back")
        await one.set_link(False)
        assert not one.up and await one.get("LinkUp") is False
        admin.site.host.run("ip", "link", "set", one.device, "up")
        await eventually(lambda: not one.up, "it is unplugged again")
        admin.site.daemon.kill()
        admin.site.daemon.start()
        assert not one.up
        await one.set_link(True)
        assert one.up


@pytest.mark.parametrize("uid", [NOBODY, USER])
async def test_nobody_joins_the_queues_of_somebody_elses_tap(admin: Administrator, network: str, uid: int) -> None:
    async with held(admin, queues=2) as one:
        with opened_by(admin.site.host, one.device, uid, NOBODY, multi_queue=True) as answers:
            assert answers == [errno.EPERM]
        assert one.tun()["numqueues"] == 2
        with opened_by(admin.site.host, one.device, 0, 0, multi_queue=True) as answers:
            assert answers == [0], "root may: the question was asked well"


@pytest.mark.parametrize("queues", [1, 2])
async def test_a_persistent_tap_is_opened_by_its_owner_again_and_again_and_by_nobody_else(
    admin: Administrator, network: str, queues: int
) -> None:
    port = await admin.attach("lab", {"kind": "tap", "device": "mine", "owner": USER, "queues": queues})
    how = {"queues": queues, "multi_queue": queues > 1}
    for _ in range(2):
        with opened_by(admin.site.host, "mine", NOBODY, NOBODY, **how) as answers:  # type: ignore[arg-type]
            assert set(answers) == {errno.EPERM}
        with opened_by(admin.site.host, "mine", USER, NOBODY, **how) as answers:  # type: ignore[arg-type]
            assert answers == [0] * queues
            data = (admin.site.host.link("mine") or {})["linkinfo"]["info_data"]
            assert (data["persist"], data["multi_queue"]) == (True, queues > 1)
    assert await admin.get(port, PORT, "State") == "active"
    await admin.call(port, PORT, "Detach")
    assert admin.site.devices() == {"virbr0"}


@pytest.mark.parametrize("queues", [1, 2])
@pytest.mark.parametrize("requests", [(TUNSETOWNER,), (TUNSETGROUP,), (TUNSETOWNER, TUNSETGROUP)], ids=repr)
async def test_a_persistent_tap_that_its_holder_gave_to_others_is_its_owners_once_it_is_let_go(
    admin: Administrator, network: str, queues: int, requests: tuple[int, ...]
) -> None:
    port = await admin.attach("lab", {"kind": "tap", "device": "mine", "owner": USER, "queues": queues, "mtu": 1300})
    kept = "address", "mtu", "ifalias", "master", "operstate"
    before = admin.site.host.link("mine") or {}
    holder = Holder([opened_in(admin.site.host, "mine", multi_queue=queues > 1)])
    assert [holder.does(request, NOBODY) for request in requests] == [0] * len(requests)
    await admin.call(ROOT, MANAGER, "Reconcile")
    assert holder.does(TUNSETCARRIER, struct.pack("=I", 1)) == 0, "it is held still"
    holder.kill()

    def given_back() -> bool:
        link = admin.site.host.link("mine") or {}
        data = link.get("linkinfo", {}).get("info_data", {})
        return bool(
            str(data.get("user")) == str(USER)
            and "group" not in data
            and all(link.get(k) == before.get(k) for k in kept)
        )

    await eventually(given_back, "it is its owner's")
    how = {"queues": queues, "multi_queue": queues > 1}
    with opened_by(admin.site.host, "mine", NOBODY, NOBODY, **how) as answers:  # type: ignore[arg-type]
        assert set(answers) == {errno.EPERM}
    with opened_by(admin.site.host, "mine", USER, USER, **how) as answers:  # type: ignore[arg-type]
        assert answers == [0] * queues
    assert (await admin.get(port, PORT, "State"), await admin.healed(network)) == ("active", 1)
    await admin.call(port, PORT, "Detach")
    assert admin.site.devices() == {"virbr0"}


async def test_a_persistent_tap_of_a_group_is_opened_by_its_members(admin: Administrator, network: str) -> None:
    await admin.attach("lab", {"kind": "tap", "device": "mine", "group": GROUP})
    with opened_by(admin.site.host, "mine", USER, NOBODY) as answers:
        assert answers == [errno.EPERM]
    with opened_by(admin.site.host, "mine", USER, GROUP) as answers:
        assert answers == [0]


async def test_a_persistent_tap_without_owner_is_its_callers(admin: Administrator, network: str) -> None:
    await admin.attach("lab", {"kind": "tap", "device": "mine"})
    with opened_by(admin.site.host, "mine", USER, NOBODY) as answers:
        assert answers == [errno.EPERM]
    with opened_by(admin.site.host, "mine", 0, 0) as answers:
        assert answers == [0]
