"""How touches become looks: settled, one at a time for each key, held back when somebody fights."""

import asyncio
from collections.abc import Callable

from vnetd.model.errors import HostError
from vnetd.reconcile.backoff import LIMIT
from vnetd.reconcile.healer import Healer


class Recorder:
    def __init__(self) -> None:
        self.repairs: list[tuple[str, tuple[str, ...], str]] = []
        self.problems: list[tuple[str, str]] = []

    def healed(self, key: str, repaired: tuple[str, ...], cause: str) -> None:
        self.repairs.append((key, repaired, cause))

    def problem(self, key: str, text: str) -> None:
        self.problems.append((key, text))


class Thing:
    """A target whose looks find what ``finds`` says."""

    def __init__(self, key: str, finds: Callable[[int], tuple[str, ...]] = lambda look: ()) -> None:
        self.key = key
        self.lock = asyncio.Lock()
        self.looks = 0
        self.looking = 0
        self.looked = asyncio.Event()
        self._finds = finds

    async def converge(self) -> tuple[str, ...]:
        self.looks += 1
        self.looking += 1
        assert self.looking == 1, "two looks at once"
        await asyncio.sleep(0)
        self.looking -= 1
        self.looked.set()
        return self._finds(self.looks)


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


async def test_who_fights_is_named_and_held_back() -> None:
    now = [0.0]
    recorder, thing = Recorder(), Thing("a", lambda look: ("bridge virbr0",))
    healer = Healer(recorder, clock=lambda: now[0])
    healer.add(thing)
    for look in range(1, LIMIT + 1):
        healer.touch("a", "NetworkManager")
        await looked_at(thing, look)
    async with asyncio.timeout(5):
        while len(recorder.repairs) < LIMIT:
            await asyncio.sleep(0.001)
    assert "NetworkManager" in recorder.problems[-1][1]
    healer.touch("a", "NetworkManager")
    await asyncio.sleep(0.05)
    assert thing.looks == LIMIT, "it is held back now"
    await healer.close()


async def test_what_cannot_be_repaired_is_a_problem_and_tried_again() -> None:
    class Broken(Thing):
        async def converge(self) -> tuple[str, ...]:
            await super().converge()
            raise HostError("add address", "10.0.0.1/24 on virbr0", 17)

    recorder, thing = Recorder(), Broken("a")
    healer = Healer(recorder)
    healer.add(thing)
    healer.touch("a")
    await looked_at(thing, 1)
    async with asyncio.timeout(5):
        while not recorder.problems:
            await asyncio.sleep(0.001)
    assert recorder.problems == [("a", "add address 10.0.0.1/24 on virbr0: File exists")]
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
