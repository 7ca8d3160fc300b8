"""The one place that refuses what this host cannot do.

Who has no host, or is synchronous, refuses in the same words with ``model.capability.refusal``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vnetd.host.protocols import Capabilities
from vnetd.model.capability import Capability, refusal
from vnetd.model.errors import Unsupported


async def require(capabilities: Capabilities, what: str, *names: str, instead: str = "") -> None:
    """Raise ``Unsupported`` if ``what`` (the subject of a sentence) needs one of ``ABILITIES`` that this host lacks.

    A no is asked for anew before it counts: who was told to install a program has done so meanwhile.
    """
    if await _lacking(capabilities, names) is None:
        return
    capabilities.forget()
    if lacking := await _lacking(capabilities, names):
        raise refusal(what, lacking.name, lacking.reason, instead)


@asynccontextmanager
async def explained(capabilities: Capabilities, what: str, *names: str) -> AsyncIterator[None]:
    """Have an ``Unsupported`` raised in here said as ``require`` says it, if one of ``names`` lacks.

    For what nearly every host has: it is only asked for once something failed, for asking takes time.
    """
    try:
        yield
    except Unsupported as failure:
        try:
            await require(capabilities, what, *names)
        except Unsupported as reason:
            for note in getattr(failure, "__notes__", ()):
                reason.add_note(note)
            raise reason from failure
        raise


async def able(capabilities: Capabilities, name: str) -> bool:
    """Whether this host has one of ``ABILITIES``, for who can do without."""
    return any(capability.ok for capability in await capabilities.all() if capability.name == name)


async def _lacking(capabilities: Capabilities, names: tuple[str, ...]) -> Capability | None:
    found = {capability.name: capability for capability in await capabilities.all()}
    return next((found[name] for name in names if not found[name].ok), None)
