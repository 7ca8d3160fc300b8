"""Where a macvtap lies, as a value."""

from dataclasses import dataclass

from vnetd.model.network_modes import MacvtapMode


@dataclass(frozen=True, slots=True)
class Stacked:
    """On ``lower``, in this mode, with the guest's ``mac``.

    In mode passthrough the lower device has the guest's MAC address and gets ``former_mac`` back. ``handed_out``: the
    port lives as long as somebody has its character device open.
    """

    lower: str
    mode: MacvtapMode
    mac: str
    former_mac: str | None = None
    handed_out: bool = False
