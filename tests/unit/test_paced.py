"""Readers that look at once, and then not more often than it is worth."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest
from support.hasty_loop import ExactLoop

from vnetd.linux.paced import BUSY, LONGEST, SHORTEST, PacedReader


class Source:
    """A pipe that a paced reader empties, a byte a look; ``looks`` is when, in seconds of the loop."""

    def __init__(self) -> None:
        self.output, self.input = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.looks: list[float] = []
        self.busy = False
        self.reader = PacedReader(self.output, self._read, lambda: self.busy)

    def _read(self) -> None:
        self.looks.append(asyncio.get_running_loop().time())
        os.read(self.output, 1)  # not all of it: what is left has to be found again

    def close(self) -> None:
        self.reader.close()
        os.close(self.output)
        os.close(self.input)


Scene = Callable[[Source], Awaitable[None]]


def play(scene: Scene) -> list[float]:
    """When a source was looked at while ``scene`` was played."""

    async def played() -> list[float]:
        source = Source()
        try:
            await scene(source)
        finally:
            source.close()
        return source.looks

    with asyncio.Runner(loop_factory=ExactLoop) as runner:
        return runner.run(played())


def test_news_is_looked_at_without_a_pause() -> None:
    async def scene(source: Source) -> None:
        await asyncio.sleep(1)
        os.write(source.input, b"1")
        await asyncio.sleep(SHORTEST / 2)

    assert play(scene) == [1]


def test_news_that_goes_on_is_looked_at_after_pauses_that_grow() -> None:
    async def scene(source: Source) -> None:
        os.write(source.input, b"12345678")
        await asyncio.sleep(1)

    assert play(scene) == pytest.approx([0, 0.001, 0.003, 0.007, 0.015, 0.025, 0.035, 0.045])
    assert (SHORTEST, LONGEST) == (0.001, 0.01)


def test_after_a_silence_the_pauses_are_short_again() -> None:
    async def scene(source: Source) -> None:
        os.write(source.input, b"1234567")
        await asyncio.sleep(0.035)  # the last look, after which it pauses for LONGEST
        await asyncio.sleep(2.1 * LONGEST)
        os.write(source.input, b"12")
        await asyncio.sleep(2 * LONGEST)

    assert play(scene)[-2:] == pytest.approx([0.056, 0.057])


def test_a_silence_shorter_than_the_pause_is_none() -> None:
    async def scene(source: Source) -> None:
        os.write(source.input, b"1234567")
        await asyncio.sleep(0.035)
        await asyncio.sleep(1.9 * LONGEST)
        os.write(source.input, b"12")
        await asyncio.sleep(2 * LONGEST)

    assert play(scene)[-2:] == pytest.approx([0.054, 0.064])


def test_the_first_news_of_what_is_under_way_waits_a_moment_but_no_longer() -> None:
    async def scene(source: Source) -> None:
        source.busy = True
        os.write(source.input, b"123")
        await asyncio.sleep(1)

    assert play(scene) == pytest.approx([0.003, 0.005, 0.009])
    assert BUSY == 0.003


def test_news_that_waited_is_looked_at_though_its_cause_has_ended() -> None:
    async def scene(source: Source) -> None:
        source.busy = True
        os.write(source.input, b"1")
        await asyncio.sleep(BUSY / 2)
        source.busy = False
        await asyncio.sleep(1)
        os.write(source.input, b"2")
        await asyncio.sleep(SHORTEST / 2)

    assert play(scene) == pytest.approx([0.003, 1 + BUSY / 2])


@pytest.mark.parametrize("during", ["the pause", "waiting"])
def test_nothing_is_read_after_closing(during: str) -> None:
    async def scene(source: Source) -> None:
        if during == "the pause":
            os.write(source.input, b"1")
            await asyncio.sleep(SHORTEST / 2)
        source.reader.close()
        source.reader.close()
        os.write(source.input, b"2")
        await asyncio.sleep(3 * LONGEST)

    assert len(play(scene)) == (1 if during == "the pause" else 0)
