"""How pytest-xdist deals tests out: by module, and everything that boots a machine to one worker, first of all.

What runs in a newer system goes to one worker as well, for that is unpacked once.

Machines run one at a time in any case; a second worker would only wait. And they take the longest, mostly without
this machine's processors being busy for other tests: what comes last should not be they alone.
"""

from support.stock_kernel import NEWER_SYSTEM, STOCK_KERNEL
from xdist.scheduler import LoadScopeScheduling

MACHINES = "machines"


class MachinesFirst(LoadScopeScheduling):  # type: ignore[misc]
    """``--dist loadscope`` with a scope more for each place."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.endswith(STOCK_KERNEL.suffix) or nodeid.startswith("tests/vm/"):
            return MACHINES
        return NEWER_SYSTEM.name if nodeid.endswith(NEWER_SYSTEM.suffix) else str(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: object) -> None:
        if MACHINES in self.workqueue:
            self.workqueue.move_to_end(MACHINES, last=False)
        super()._assign_work_unit(node)
