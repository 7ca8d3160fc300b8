"""What the bridge family of a kernel's nftables can do beyond what every kernel can."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BridgeFeatures:
    """``tracking``: rules can ask for connection state (module nf_conntrack_bridge). ``reject``: they can answer."""

    tracking: bool = False
    reject: bool = False


PLAIN = BridgeFeatures()
"""What can be relied on everywhere."""
