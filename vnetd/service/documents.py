"""Untrusted documents become model values here, off the event loop when they are large."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar
from uuid import UUID

from vnetd.model.errors import Invalid
from vnetd.service.api import Options
from vnetd.xmlcodec.documents import Parsed

log = logging.getLogger(__name__)

INLINE = 8192
"""Characters up to which parsing on the loop takes less than a thread's round trip is worth."""

T = TypeVar("T")


async def parse(parser: Callable[..., Parsed[T]], document: str, options: Options) -> T:
    """The value of ``document``; its warnings are logged. Raises ``Invalid``."""
    lenient = boolean(options, "lenient")
    if len(document) <= INLINE:
        parsed = parser(document, lenient=lenient)
    else:
        parsed = await asyncio.to_thread(parser, document, lenient=lenient)
    for warning in parsed.warnings:
        log.warning("%s", warning)
    return parsed.value


def boolean(options: Options, name: str, default: bool = False) -> bool:
    """A boolean option. Raises ``Invalid`` if it is something else."""
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise Invalid(f"option {name} is {value!r}: a boolean is needed")
    return value


def refuse_unknown(options: Options, *known: str) -> None:
    """Raise ``Invalid`` naming an option that does not exist."""
    for name in options:
        if name not in known:
            raise Invalid(f"unknown option {name!r}: {', '.join(known) or 'none'} can be given here")


def refuse_format(format: str, *known: str) -> None:
    """Raise ``Invalid`` naming the formats such a document can be told in."""
    if format not in known:
        raise Invalid(f"format {format!r} is not known here: {' and '.join(known)} {'are' if known[1:] else 'is'}")


class Identified(Protocol):
    """A document with a UUID, once it is complete."""

    @property
    def uuid(self) -> UUID | None: ...


def uuid_of(document: Identified) -> UUID:
    """The UUID of a completed document."""
    assert document.uuid is not None
    return document.uuid
