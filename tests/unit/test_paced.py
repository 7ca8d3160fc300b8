"""Readers that look at once, and then not more often than it is worth."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from support.waiting import eventually

from vnetd.linux.paced import LONGEST, SHORTEST, PacedReader


class Source:
    """A pipe that a paced reader empties; ``looks`` is when it did, by the loop's clock."""

    def __init__(self) -> None:
        self.output, self.input = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.looks: list[float] = []
        self.reader = PacedReader(self.output, self._read)

    def _read(self) -> None:
        self.looks.append(asyncio.get_running_loop().time())
        os.read(self.output, 1)  # not all of it: what is left has to be found again


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    made = Source()
    yield made
    made.reader.close()
    os.close(made.output)
    os.close(made.input)


async def test_news_is_looked_at_without_a_pause(source: Source) -> None:
    os.write(source.input, b"1")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(source.looks) == 1


RESOLUTION = 0.001  # of the loop's timers


def gaps(source: Source) -> list[float]:
    """Seconds between its looks."""
    return [after - before for before, after in zip(source.looks, source.looks[1:], strict=False)]


async def test_news_that_goes_on_is_looked_at_after_pauses_that_grow(source: Source) -> None:
    os.write(source.input, b"123456789")
    await eventually(lambda: len(source.looks) == 9)
    least = [min(SHORTEST * 2**number, LONGEST) for number in range(8)]
    assert all(gap >= pause - RESOLUTION for gap, pause in zip(gaps(source), least, strict=True))
    assert min(gaps(source)[-3:]) >= LONGEST - RESOLUTION


async def test_after_a_silence_the_pauses_are_short_again(source: Source) -> None:
    os.write(source.input, b"1234567")
    await eventually(lambda: len(source.looks) == 7)
    await asyncio.sleep(3 * LONGEST)
    source.looks.clear()
    for _ in range(50):  # a busy machine may wake us late, but hardly each time
        os.write(source.input, b"12")
        await eventually(lambda: len(source.looks) == 2, pause=0)
        if source.looks[1] - source.looks[0] < LONGEST / 2:
            return
        await asyncio.sleep(3 * LONGEST)
        source.looks.clear()
    pytest.fail("the second look is always late")


@pytest.mark.parametrize("during", ["the pause", "waiting"])
async def test_nothing_is_read_after_closing(source: Source, during: str) -> None:
    if during == "the pause":
        os.write(source.input, b"1")
        await eventually(lambda: source.looks)
    before = len(source.looks)
    source.reader.close()
    source.reader.close()
    os.write(source.input, b"2")
    await asyncio.sleep(3 * LONGEST)
    assert len(source.looks) == before
