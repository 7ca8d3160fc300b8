"""Who may do what: decided in one table, from what the bus says of the caller, and refused in case of doubt."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from dbus_next.signature import SignatureTree, Variant
from support.fake_services import FakeServices, one_of_each
from support.private_bus import GROUP, NOBODY, PrivateBus
from support.waiting import eventually

from vnetd.bus import authorization, contracts
from vnetd.bus.authorization import ACCESS, Access, Authorization, GroupAuthority, Request
from vnetd.bus.server import BusServer
from vnetd.model.errors import Denied

MEMBERS = [(interface, member) for interface, members in ACCESS.items() for member in members]
RECONCILE = ["call", "org.vnetd1", "/org/vnetd1", "org.vnetd1.Manager", "Reconcile"]
BUSCTL_DEFAULTS = {"aa{sv}": "0", "s": "x", "b": "true", "v": "b true", "a{sv}": "0"}


def arguments(interface: str, member: str) -> list[str]:
    """Arguments of the right form for busctl, whatever they mean."""
    takes = contracts.load_contracts()[interface].methods[member].takes
    if not takes:
        return []
    return [takes, *" ".join(BUSCTL_DEFAULTS[kind.signature] for kind in SignatureTree(takes).types).split()]


async def call_as(bus: PrivateBus, services: FakeServices, uid: int, groups: list[int]) -> dict[tuple[str, str], str]:
    """What each member answers to a user."""
    paths = await one_of_each(services)
    answers = {}
    for interface, member in MEMBERS:
        path = paths.get(interface, paths[contracts.MANAGER])
        target = ("call", "org.vnetd1", path, interface, member, *arguments(interface, member))
        answers[interface, member] = await bus.acall(*target, uid=uid, groups=groups)
    return answers


async def test_stranger_may_read_everything_and_change_nothing(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    answers = await call_as(bus, services, NOBODY, [])
    for (interface, member), answer in answers.items():
        denied = f"needs root or membership of group {GROUP}, and uid {NOBODY} has neither" in answer
        assert denied == (ACCESS[interface][member] is Access.CHANGE), (interface, member, answer)
    described = {f"describe_{kind}" for kind in ("switch", "filter", "port")}
    assert {call[0] for call in services.world.calls} <= {"leases", "addresses", "describe"} | described


@pytest.mark.parametrize("uid", [0, NOBODY])
async def test_root_and_members_of_the_group_are_denied_nothing(
    bus: PrivateBus, server: BusServer, services: FakeServices, group_id: int, uid: int
) -> None:
    answers = await call_as(bus, services, uid, [group_id])
    assert not [answer for answer in answers.values() if "membership of group" in answer]
    changes = {"define", "create", "define_filter", "attach", "open_tap", "bind", "plan", "reconcile", "start"}
    assert changes <= {call[0] for call in services.world.calls}
    callers = {call[1] for call in services.world.calls if call[0] in changes}
    assert {caller.uid for caller in callers} == {uid}
    assert {caller.administrator for caller in callers} == {uid == 0}, "members change only what is their own"


async def test_other_groups_do_not_help(bus: PrivateBus, server: BusServer, group_id: int) -> None:
    answer = await bus.acall(*RECONCILE, uid=NOBODY, groups=[group_id + 1])
    assert "Manager.Reconcile needs root" in answer


async def test_denial_is_logged_with_uid_pid_and_member(
    bus: PrivateBus, server: BusServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "vnetd.bus.authorization"):
        await bus.acall(*RECONCILE, uid=NOBODY)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"denied org.vnetd1.Manager.Reconcile to uid {NOBODY}, pid ")


async def test_member_that_is_missing_from_the_table_is_refused_to_root(
    bus: PrivateBus, server: BusServer, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {**ACCESS, contracts.MANAGER: {**ACCESS[contracts.MANAGER]}}
    del table[contracts.MANAGER]["Reconcile"]
    monkeypatch.setattr(authorization, "ACCESS", table)
    answer = await bus.acall(*RECONCILE)
    assert "nobody may call org.vnetd1.Manager.Reconcile" in answer
    assert services.world.calls == []


async def test_stranger_cannot_set_a_property(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    path = (await one_of_each(services))[contracts.NETWORK]
    answer = await bus.acall(
        "set-property", "org.vnetd1", path, contracts.NETWORK, "Autostart", "b", "true", uid=NOBODY
    )
    assert "Properties.Set needs root" in answer
    assert not services.networks.get("lab").autostart


async def test_stranger_does_not_learn_what_is_wrong_with_a_call(bus: PrivateBus, server: BusServer) -> None:
    """Signature, arguments and object are looked at only after the caller was."""
    nowhere = "/org/vnetd1/network/" + "_".join("0" * n for n in (8, 4, 4, 4, 12))
    start = ("call", "org.vnetd1", nowhere, contracts.NETWORK, "Start", "u", "1")
    assert "Network.Start needs root" in await bus.acall(*start, uid=NOBODY)
    assert "Start takes '', not 'u'" in await bus.acall(*start)
    assert "there is no network" in await bus.acall(*start[:-2])


class Bus:
    """Answers questions about connections as it is told to."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    async def ask(self, *question: Any) -> Any:
        self.asked.append(question)
        await asyncio.sleep(0)
        return self.answer()


def credentials(uid: int, *groups: int) -> dict[str, Variant]:
    return {
        "UnixUserID": Variant("u", uid),
        "ProcessID": Variant("u", 42),
        "UnixGroupIDs": Variant("au", list(groups)),
    }


CHANGE = Request(":1.5", contracts.MANAGER, "Reconcile")


def unreachable() -> Any:
    raise ConnectionError("no answer")


@pytest.mark.parametrize("answer", [unreachable, dict, lambda: {"ProcessID": Variant("u", 1)}])
async def test_caller_whom_the_bus_does_not_name_is_denied(answer: Callable[[], Any]) -> None:
    with pytest.raises(Denied, match=r"does not say who :1\.5 is"):
        await Authorization(Bus(answer).ask, GroupAuthority(GROUP)).authorise(CHANGE)


async def test_group_of_which_the_bus_says_nothing_does_not_count() -> None:
    bus = Bus(lambda: {"UnixUserID": Variant("u", NOBODY)})
    with pytest.raises(Denied, match="needs root"):
        await Authorization(bus.ask, GroupAuthority(GROUP)).authorise(CHANGE)


async def test_group_that_does_not_exist_has_no_members() -> None:
    bus = Bus(lambda: credentials(NOBODY, 0, NOBODY))
    with pytest.raises(Denied, match="group no-such-group"):
        await Authorization(bus.ask, GroupAuthority("no-such-group")).authorise(CHANGE)


async def test_bus_is_asked_once_for_each_client_until_it_leaves() -> None:
    bus = Bus(lambda: credentials(0))
    checked = Authorization(bus.ask, GroupAuthority(GROUP))
    callers = await asyncio.gather(*(checked.authorise(CHANGE) for _ in range(5)))
    assert {(caller.uid, caller.pid, caller.name) for caller in callers} == {(0, 42, ":1.5")}
    assert bus.asked == [("GetConnectionCredentials", "s", ":1.5")]
    checked.forget(":1.5")
    await checked.authorise(CHANGE)
    assert len(bus.asked) == 2


async def test_failure_to_learn_who_calls_is_not_remembered() -> None:
    bus = Bus(unreachable)
    checked = Authorization(bus.ask, GroupAuthority(GROUP))
    with pytest.raises(Denied):
        await checked.authorise(CHANGE)
    bus.answer = lambda: credentials(0)
    assert (await checked.authorise(CHANGE)).uid == 0


async def test_another_authority_can_decide(
    bus: PrivateBus, services: FakeServices, server_with: Callable[..., Awaitable[BusServer]]
) -> None:
    class Polite:
        async def refusal(self, request: Request, credentials: authorization.Credentials) -> str | None:
            return None if credentials.uid == NOBODY and request.member == "Reconcile" else "manners"

    await server_with(authority=Polite())
    assert "needs manners" in await bus.acall(*RECONCILE)
    assert await bus.acall(*RECONCILE, uid=NOBODY) == ""


async def test_client_that_left_is_forgotten(bus: PrivateBus, server: BusServer, services: FakeServices) -> None:
    assert await bus.acall(*RECONCILE) == ""
    assert server._authorization is not None
    known = server._authorization._known
    await eventually(lambda: not known, "the client of busctl is forgotten")
