"""Readers that look at once, and then not more often than it is worth."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from support.waiting import eventually

from vnetd.linux.paced import PAUSE, PacedReader


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


async def test_what_comes_during_the_pause_is_looked_at_after_it(source: Source) -> None:
    os.write(source.input, b"123")
    await eventually(lambda: len(source.looks) == 3)
    gaps = [after - before for before, after in zip(source.looks, source.looks[1:], strict=False)]
    resolution = 0.001  # of the loop's timers
    assert all(gap >= PAUSE - resolution for gap in gaps)


@pytest.mark.parametrize("during", ["the pause", "waiting"])
async def test_nothing_is_read_after_closing(source: Source, during: str) -> None:
    if during == "the pause":
        os.write(source.input, b"1")
        await eventually(lambda: source.looks)
    before = len(source.looks)
    source.reader.close()
    source.reader.close()
    os.write(source.input, b"2")
    await asyncio.sleep(3 * PAUSE)
    assert len(source.looks) == before
