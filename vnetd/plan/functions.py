"""Virtual functions of network cards (SR-IOV) as values, and how what a card does for one is changed."""

from dataclasses import dataclass

from vnetd.model.functions import VfLinkState, VfState


@dataclass(frozen=True, slots=True)
class Function:
    """One virtual function: its PCI address, the network device of its card, its number there, its own device."""

    pci: str
    pf: str
    vf: int
    netdev: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True)
class SetFunction:
    """Change what the card ``pf`` does for its function number ``vf``; ``None`` leaves a property alone."""

    pf: str
    vf: int
    mac: str | None = None
    vlan: tuple[int, int] | None = None
    """Tag and priority."""
    spoof_check: bool | None = None
    trust: bool | None = None
    link_state: VfLinkState | None = None

    @property
    def name(self) -> str:
        """What a refusal names."""
        return f"{self.pf} vf {self.vf}"


def plan_function(pf: str, vf: int, want: VfState, have: VfState) -> SetFunction | None:
    """The change that turns ``have`` into ``want``, as far as the driver knows the property; ``None`` for none."""
    tag, present = (want.vlan, want.qos), (have.vlan, have.qos)
    change = SetFunction(
        pf,
        vf,
        mac=want.mac if want.mac != have.mac else None,
        vlan=tag if tag != present else None,
        spoof_check=_change(want.spoof_check, have.spoof_check),
        trust=_change(want.trust, have.trust),
        link_state=want.link_state if want.link_state and have.link_state not in {None, want.link_state} else None,
    )
    return change if change != SetFunction(pf, vf) else None


def _change(want: bool | None, have: bool | None) -> bool | None:
    return want if want is not None and have is not None and want != have else None
