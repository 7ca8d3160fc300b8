"""The one place that refuses what this host cannot do."""

from vnetd.host.protocols import Capabilities
from vnetd.model.capability import ABILITIES
from vnetd.model.errors import Unsupported


async def require(capabilities: Capabilities, what: str, *names: str) -> None:
    """Raise ``Unsupported`` if ``what`` (the subject of a sentence) needs one of ``ABILITIES`` that this host lacks."""
    found = {capability.name: capability for capability in await capabilities.all()}
    for name in names:
        if not found[name].ok:
            raise Unsupported(f"{what} needs {ABILITIES[name]}, which this host has not: {found[name].reason}")


async def able(capabilities: Capabilities, name: str) -> bool:
    """Whether this host has one of ``ABILITIES``, for who can do without."""
    return any(capability.ok for capability in await capabilities.all() if capability.name == name)
