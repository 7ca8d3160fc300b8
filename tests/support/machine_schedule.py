"""How pytest-xdist deals tests out: by module, and everything that boots a machine to one worker, first of all.

Machines run one at a time in any case; a second worker would only wait. And they take the longest, mostly without
this machine's processors being busy for other tests: what comes last should not be they alone.
"""

from support.stock_kernel import SUFFIX
from xdist.scheduler import LoadScopeScheduling

MACHINES = "machines"


class MachinesFirst(LoadScopeScheduling):  # type: ignore[misc]
    """``--dist loadscope`` with one scope more."""

    def _split_scope(self, nodeid: str) -> str:
        booted = nodeid.endswith(SUFFIX) or nodeid.startswith("tests/vm/")
        return MACHINES if booted else str(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: object) -> None:
        if MACHINES in self.workqueue:
            self.workqueue.move_to_end(MACHINES, last=False)
        super()._assign_work_unit(node)
