"""How pytest-xdist deals tests out: by module, and everything that boots a machine to one worker, first of all.

What runs in a newer system goes to one worker as well, for that is unpacked once.

Machines run one at a time in any case; a second worker would only wait. And they take the longest, mostly without
this machine's processors being busy for other tests: what comes last should not be they alone. For the same reason
modules that take long come before those that take a second or two: the workers then end together.
"""

from collections.abc import Iterable
from pathlib import PurePath

from support.stock_kernel import NEWER_SYSTEM, STOCK_KERNEL
from xdist.scheduler import LoadScopeScheduling

MACHINES = "machines"
FUZZ = "test_network_fuzz.py"
ORDER = (MACHINES, NEWER_SYSTEM.name, "package", "kernel", "contract", "bus", "component", FUZZ, "unit")
"""Scopes, folders below tests/ whose modules are scopes, and a module unlike its folder's, by how long one takes."""


def next_scope(scopes: Iterable[str]) -> str:
    """Which of these scopes comes first; of equals the first."""
    return min(scopes, key=_rank)


def _rank(scope: str) -> int:
    return next((rank for rank, name in enumerate(ORDER) if name in PurePath(scope).parts), len(ORDER))


class MachinesFirst(LoadScopeScheduling):  # type: ignore[misc]
    """``--dist loadscope`` with a scope more for each place, in this order."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.endswith(STOCK_KERNEL.suffix) or nodeid.startswith("tests/vm/"):
            return MACHINES
        return NEWER_SYSTEM.name if nodeid.endswith(NEWER_SYSTEM.suffix) else str(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: object) -> None:
        self.workqueue.move_to_end(next_scope(self.workqueue), last=False)
        super()._assign_work_unit(node)
