"""Several things at once."""

import asyncio
from collections.abc import Awaitable
from typing import Any


async def together(*parts: Awaitable[Any]) -> list[Any]:
    """All at once; returns or raises only when every one has ended, so that nothing goes on behind a failure."""
    results: list[Any] = await asyncio.gather(*parts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
