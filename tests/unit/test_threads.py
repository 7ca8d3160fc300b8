"""Workers: what happens on them, and what is left when those who wait give up."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import pytest

from vnetd.linux.threads import Worker, at_work


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = Worker("test-worker")
    yield made
    await made.close()


class Gate:
    """Work that begins, says so and lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.ended = False

    def work(self) -> str:
        self.begun.set()
        assert self.go.wait(10)
        self.ended = True
        return "made"


async def _begun(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.wait, 10)


async def test_the_loop_is_at_work_while_somebody_waits_for_a_thread(worker: Worker) -> None:
    assert not at_work()
    gate = Gate()
    work = asyncio.create_task(worker.run(gate.work))
    await _begun(gate)
    assert at_work()
    work.cancel()
    await asyncio.sleep(0)
    assert at_work(), "it is not over because nobody wants it any more"
    gate.go.set()
    await asyncio.wait([work])
    assert not at_work()


async def test_work_runs_on_one_named_thread_in_order(worker: Worker) -> None:
    names = await asyncio.gather(*(worker.run(lambda: threading.current_thread().name) for _ in range(5)))
    assert len(set(names)) == 1 and names[0].startswith("test-worker")
    order: list[int] = []
    await asyncio.gather(*(worker.run(order.append, number) for number in range(50)))
    assert order == list(range(50))


async def test_an_exception_reaches_who_asked(worker: Worker) -> None:
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 / 0)


async def test_the_loop_goes_on_meanwhile(worker: Worker) -> None:
    gate = Gate()
    task = asyncio.create_task(worker.run(gate.work))
    await _begun(gate)
    gate.go.set()
    assert await task == "made"


async def test_a_cancelled_caller_gets_away_only_after_the_work_has_ended(worker: Worker) -> None:
    gate, discarded = Gate(), list[str]()
    task = asyncio.create_task(worker.run(gate.work, discard=discarded.append))
    await _begun(gate)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # twice is no way out either
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done and not gate.ended
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.ended and discarded == ["made"]


async def test_work_that_has_not_begun_never_begins_for_a_cancelled_caller(worker: Worker) -> None:
    gate, other = Gate(), Gate()
    first = asyncio.create_task(worker.run(gate.work))
    await _begun(gate)
    second = asyncio.create_task(worker.run(other.work))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.go.set()
    assert await first == "made"
    await worker.run(int)
    assert not other.begun.is_set()


async def test_a_failure_nobody_waits_for_any_more_is_logged(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    def fail() -> None:
        gate.work()
        raise OSError("disk on fire")

    task = asyncio.create_task(worker.run(fail))
    await _begun(gate)
    task.cancel()
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "disk on fire" in caplog.text


async def test_closing_finishes_what_is_queued_and_may_be_done_twice() -> None:
    worker, done = Worker("test-closing"), list[str]()
    task = asyncio.create_task(worker.run(done.append, "queued"))
    await asyncio.sleep(0)
    await worker.close(lambda: done.append("last"))
    await worker.close()
    await task
    assert done == ["queued", "last"]
    with pytest.raises(RuntimeError):
        await worker.run(int)


async def test_a_caller_cancelled_at_any_moment_leaves_no_work_for_later(worker: Worker) -> None:
    for turns in range(8):
        done: list[int] = []
        task = asyncio.create_task(worker.run(done.append, turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        before = list(done)
        await worker.run(int)
        assert done == before
