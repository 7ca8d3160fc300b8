"""What this machine's kernel can do, as the daemon itself finds out, for tests that need more than every kernel has."""

import os
from collections.abc import Mapping
from functools import cache

from vnetd.linux.capabilities import probe_kernel, probe_rules
from vnetd.model.capability import ABILITIES

INSIDE = "VNETD_STOCK_KERNEL"
"""Set in the environment of tests that run in a machine on a stock kernel."""


def on_stock_kernel() -> bool:
    """Whether this runs in such a machine already."""
    return INSIDE in os.environ


def missing_feature(*names: str) -> str:
    """Why a test that needs these of ``vnetd.model.capability.ABILITIES`` cannot run here; empty if it can.

    Needs root. ``ValueError`` for a name that is none of them.
    """
    if unknown := set(names) - ABILITIES.keys():
        raise ValueError(f"no abilities of a host: {', '.join(sorted(unknown))}")
    return "; ".join(f"needs {ABILITIES[name]}: {_missing()[name]}" for name in names if name in _missing())


@cache
def _missing() -> Mapping[str, str]:
    """Of the kernel's and nftables' abilities those that are not there, with the reason."""
    return {found.name: found.reason for found in (*probe_kernel(), *probe_rules()) if not found.ok}
