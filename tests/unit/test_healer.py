"""How touches become looks: settled, one at a time for each key, held back when somebody fights."""

import asyncio
from collections.abc import Callable, Mapping
from itertools import pairwise

from support.hasty_loop import hastily

from vnetd.model.errors import HostError, InUse, VnetError
from vnetd.reconcile.backoff import FIRST_HOLD, LIMIT, WINDOW, Quarrel
from vnetd.reconcile.healer import FIRST_RETRY, GROWTH, NOTHING, RETRY, WARY, Healer
from vnetd.reconcile.repairs import Repairs


class Recorder:
    def __init__(self) -> None:
        self.repairs: list[tuple[str, tuple[str, ...], str]] = []
        self.told: list[tuple[str, str, dict[str, Quarrel]]] = []

    def healed(self, key: str, repaired: tuple[str, ...], cause: str) -> None:
        self.repairs.append((key, repaired, cause))

    def problems(self, key: str, failure: str, fought: Mapping[str, Quarrel]) -> None:
        self.told.append((key, failure, dict(fought)))


class Thing:
    """A target whose looks find what ``finds`` says."""

    def __init__(self, key: str, finds: Callable[[int], tuple[str, ...]] = lambda look: ()) -> None:
        self.key = key
        self.lock = asyncio.Lock()
        self.repairs = Repairs()
        self.looks = 0
        self.looking = 0
        self.looked = asyncio.Event()
        self._finds = finds

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        self.looks += 1
        self.looking += 1
        assert self.looking == 1, "two looks at once"
        await asyncio.sleep(0)
        self.looking -= 1
        self.looked.set()
        return tuple(what for what in self._finds(self.looks) if what not in spare)


async def looked_at(thing: Thing, times: int) -> None:
    async with asyncio.timeout(5):
        while thing.looks < times:
            thing.looked.clear()
            await thing.looked.wait()


async def test_a_burst_of_touches_is_one_look() -> None:
    recorder, thing = Recorder(), Thing("a")
    healer = Healer(recorder)
    healer.add(thing)
    for _ in range(100):
        healer.touch("a")
    await looked_at(thing, 1)
    await healer.close()
    assert thing.looks == 1
    assert recorder.repairs == []


async def test_a_target_whose_changes_are_reported_whole_is_looked_at_at_once() -> None:
    whole, piecemeal = Thing("whole"), Thing("piecemeal")
    healer = Healer(Recorder())
    healer.add(piecemeal, settle=3600)
    healer.add(whole, settle=0)
    for _ in range(100):
        healer.touch("piecemeal")
        healer.touch("whole")
    await looked_at(whole, 1)
    await healer.close()
    assert (whole.looks, piecemeal.looks) == (1, 0)


async def test_a_touch_during_a_look_is_followed_by_another_look() -> None:
    thing = Thing("a")
    healer = Healer(Recorder())
    healer.add(thing)
    async with thing.lock:  # somebody works on it: the look waits
        healer.touch("a")
        await asyncio.sleep(0.02)
        assert thing.looks == 0
        healer.touch("a")
    await looked_at(thing, 2)
    await healer.close()


async def test_a_repair_is_reported_with_its_cause() -> None:
    recorder, thing = Recorder(), Thing("a", lambda look: ("bridge virbr0",) if look == 1 else ())
    healer = Healer(recorder)
    healer.add(thing)
    healer.touch("a", "NetworkManager")
    await looked_at(thing, 1)
    await healer.close()
    assert recorder.repairs == [("a", ("bridge virbr0",), "NetworkManager")]


BRIDGE, ADDRESS = "bridge virbr0", "address 10.0.0.1/24"


class Host:
    """What differs on a host in memory: ``others`` change it, repairs put it right."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.healer = Healer(self.recorder)
        self.thing = Thing("a", lambda look: tuple(sorted(self.differs)))
        self.differs: set[str] = set()
        self.healer.add(self.thing)

    async def changed(self, *what: str, by: str = "NetworkManager") -> tuple[str, ...]:
        """Somebody changes this; what the look that follows repairs."""
        self.differs.update(what)
        before, looks = len(self.recorder.repairs), self.thing.looks
        self.healer.touch("a", by)
        await looked_at(self.thing, looks + 1)
        await asyncio.sleep(2 * WARY)
        return self.repaired(before)

    def repaired(self, before: int) -> tuple[str, ...]:
        """What was repaired since there were so many repairs."""
        repaired = tuple(one for _, whats, _ in self.recorder.repairs[before:] for one in whats)
        self.differs.difference_update(repaired)
        return repaired

    @property
    def fought(self) -> dict[str, Quarrel]:
        """What was last told to be fought over."""
        return self.recorder.told[-1][2]


async def fight(host: Host, *what: str) -> None:
    for _ in range(LIMIT):
        assert await host.changed(*what) == what


@hastily
async def test_who_fights_is_named_and_what_he_changes_is_left_alone_until_its_time_has_come() -> None:
    host = Host()
    await fight(host, BRIDGE)
    assert host.fought == {BRIDGE: Quarrel("NetworkManager", FIRST_HOLD)}
    repairs = len(host.recorder.repairs)
    assert await host.changed(BRIDGE, by="") == ()
    await asyncio.sleep(FIRST_HOLD)
    assert host.repaired(repairs) == (BRIDGE,)
    assert host.fought == {BRIDGE: Quarrel("NetworkManager", 2 * FIRST_HOLD)}
    await host.healer.close()


@hastily
async def test_everything_else_of_a_target_somebody_fights_over_is_repaired_at_once() -> None:
    host = Host()
    await fight(host, BRIDGE)
    assert await host.changed(BRIDGE, ADDRESS) == (ADDRESS,)
    await host.healer.close()


@hastily
async def test_who_goes_on_changing_what_is_left_alone_does_not_keep_vnetd_busy() -> None:
    host = Host()
    await fight(host, BRIDGE)
    looks = host.thing.looks
    for _ in range(100):
        host.differs.add(BRIDGE)
        host.healer.touch("a")
        await asyncio.sleep(WARY / 10)
    assert host.thing.looks - looks <= 10
    await host.healer.close()


@hastily
async def test_a_full_pass_leaves_nothing_alone() -> None:
    host = Host()
    await fight(host, BRIDGE)
    assert await host.changed(BRIDGE) == ()
    await host.healer.sweep()
    assert host.recorder.repairs[-1] == ("a", (BRIDGE,), "")
    await host.healer.close()


@hastily
async def test_when_it_has_calmed_down_all_is_well_and_nothing_is_planned() -> None:
    host = Host()
    await fight(host, BRIDGE)
    await asyncio.sleep(FIRST_HOLD + WINDOW + 1)
    looks = host.thing.looks
    assert host.recorder.told[-1] == ("a", "", {})
    await asyncio.sleep(3600)
    assert host.thing.looks == looks
    await host.healer.close()


@hastily
async def test_what_nobody_needs_any_more_is_not_fought_over_any_more() -> None:
    host = Host()
    await fight(host, ADDRESS, BRIDGE)
    host.healer.forgive("a", BRIDGE)
    await asyncio.sleep(0.1)
    assert host.fought.keys() == {ADDRESS}
    assert await host.changed(BRIDGE, ADDRESS) == (BRIDGE,)
    looks = host.thing.looks
    host.healer.forgive("a", "route 10.1.0.0/16")  # which nobody fought over
    await asyncio.sleep(0.1)
    assert host.thing.looks == looks
    await host.healer.close()


@hastily
async def test_a_failure_does_not_end_what_is_known_of_a_fight() -> None:
    host = Host()
    await fight(host, BRIDGE)

    async def refuse(*, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        raise HostError("add address", "10.0.0.1/24 on virbr0", 17)

    host.thing.converge = refuse  # type: ignore[method-assign]
    host.healer.touch("a")
    await asyncio.sleep(0.1)
    key, failure, fought = host.recorder.told[-1]
    assert (key, "File exists" in failure, fought.keys()) == ("a", True, {BRIDGE})
    await host.healer.close()


REFUSED = HostError("add address", "10.0.0.1/24 on virbr0", 17)


async def pauses(host: Host, failure: VnetError, seconds: float) -> list[float]:
    """Seconds between the attempts of so many seconds that all fail."""
    attempts: list[float] = []

    async def refuse(*, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        attempts.append(asyncio.get_running_loop().time())
        host.healer.touch("a")  # as an echo of what it attempted would
        raise failure

    host.thing.converge, real = refuse, host.thing.converge  # type: ignore[method-assign]
    host.healer.touch("a")
    await asyncio.sleep(seconds)
    host.thing.converge = real  # type: ignore[method-assign]
    return [later - earlier for earlier, later in pairwise(attempts)]


@hastily
async def test_what_the_host_refuses_is_tried_again_at_once_and_then_less_and_less_often_whatever_happens_to_it() -> (
    None
):
    host = Host()
    found = await pauses(host, REFUSED, 60)
    growing = [pause for pause in found if pause < RETRY]
    assert growing == sorted(growing) and growing[0] >= FIRST_RETRY and len(growing) <= 6
    assert all(after >= (GROWTH - 1) * before for before, after in pairwise(growing))
    assert len(found) - len(growing) > 8, "and goes on"
    await host.healer.close()


@hastily
async def test_what_came_right_once_is_tried_again_at_once_when_it_fails_anew() -> None:
    host = Host()
    await pauses(host, REFUSED, 60)
    await asyncio.sleep(2 * RETRY)
    assert host.recorder.told[-1] == ("a", "", {})
    assert len(await pauses(host, REFUSED, RETRY / 2)) >= 3
    await host.healer.close()


@hastily
async def test_what_no_second_attempt_could_mend_is_not_tried_again_at_once() -> None:
    host = Host()
    assert min(await pauses(host, InUse("virbr0 belongs to somebody else"), 3 * RETRY)) >= RETRY
    await host.healer.close()


@hastily
async def test_what_attempts_that_failed_have_made_is_a_repair_and_counts_as_one_in_a_fight() -> None:
    host = Host()
    for _ in range(LIMIT):
        host.thing.repairs.begin(BRIDGE)
        await pauses(host, REFUSED, 0.01)
        host.thing.repairs.look()
        await asyncio.sleep(0.5)
    assert [what for _, what, _ in host.recorder.repairs] == [(BRIDGE,)] * LIMIT
    assert host.fought.keys() == {BRIDGE}
    await host.healer.close()


async def test_what_cannot_be_repaired_is_a_problem_and_tried_again() -> None:
    class Broken(Thing):
        async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
            await super().converge()
            raise HostError("add address", "10.0.0.1/24 on virbr0", 17)

    recorder, thing = Recorder(), Broken("a")
    healer = Healer(recorder)
    healer.add(thing)
    healer.touch("a")
    await looked_at(thing, 1)
    async with asyncio.timeout(5):
        while not recorder.told:
            await asyncio.sleep(0.001)
    assert recorder.told == [("a", "add address 10.0.0.1/24 on virbr0: File exists", {})]
    await healer.close()


async def test_a_forgotten_target_is_not_looked_at() -> None:
    thing = Thing("a")
    healer = Healer(Recorder())
    healer.add(thing)
    healer.touch("a")
    healer.discard("a")
    await asyncio.sleep(0.02)
    assert thing.looks == 0
    await healer.close()
