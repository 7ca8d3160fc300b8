"""pyroute2's rtnetlink without the rest of it.

Importing the package imports all its parts: a database on sqlite, 9P, wireless, IPVS … 5 MB and 40 ms for a daemon
that needs one class. Python imports a submodule without running its package's ``__init__`` if the package is known
already, so it is made known here, empty but for what vnetd takes from it. Import pyroute2 through this module only.
"""

import importlib.util
import sys
from types import ModuleType


def _know_package() -> None:
    spec = importlib.util.find_spec("pyroute2")
    if "pyroute2" in sys.modules or spec is None:
        return
    package = ModuleType("pyroute2")
    package.__spec__ = spec
    package.__file__ = spec.origin
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["pyroute2"] = package


_know_package()

from pyroute2.iproute.linux import IPRoute  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError  # noqa: E402

__all__ = ["IPRoute", "NetlinkError"]
