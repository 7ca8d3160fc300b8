"""The daemon's libraries without OpenSSL, which none of its connections uses: 5 MB of a process that stays.

asyncio, hashlib and pyroute2 import it if it is there, and go without if it is not, so for the length of one import
it is not. To be imported before all else; see docs/adr.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

ABSENT = ("ssl", "_hashlib")
"""asyncio and hashlib ask for these and do without."""
PRESENT = "ssl"
"""pyroute2 insists on this one for a message type of its own, which vnetd does not use; an empty one does."""


@contextmanager
def _standing_in(modules: dict[str, ModuleType | None]) -> Iterator[None]:
    """Modules as they shall seem to be (``None``: not there); what is imported already stays as it is."""
    new = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(new)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


with _standing_in(dict.fromkeys(ABSENT)):
    import asyncio  # noqa: F401
    import hashlib  # noqa: F401
    import hmac  # noqa: F401

with _standing_in({PRESENT: ModuleType(PRESENT), "_hashlib": None}):
    import vnetd.daemon  # noqa: F401
