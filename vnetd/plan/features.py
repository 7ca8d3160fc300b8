"""What a kernel's nftables can do for filters of ports beyond what every kernel can."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BridgeFeatures:
    """``tracking``: rules can ask for connection state (module nf_conntrack_bridge). ``reject``: they can answer.

    ``untracked``: why connections cannot be asked for, in the host's words. ``unhooked``: why rules cannot be where
    packets leave a device, likewise; empty if they can.
    """

    tracking: bool = False
    reject: bool = False
    untracked: str = "it was not tried"
    unhooked: str = "it was not tried"


PLAIN = BridgeFeatures()
"""What can be relied on everywhere."""
