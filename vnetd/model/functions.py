"""What a network card does for one of its virtual functions, and what a port keeps of it."""

from typing import Annotated, Literal

from pydantic import Field

from vnetd.model.base import IfName, Mac, Value

VfLinkState = Literal["auto", "enable", "disable"]
VfNumber = Annotated[int, Field(ge=0, le=65535)]


class VfState(Value):
    """``None`` is what the card's driver cannot say, or what nobody asked for.

    ``vlan`` 0 is none; ``qos`` is the priority that goes with it.
    """

    mac: Mac = "00:00:00:00:00:00"
    vlan: Annotated[int, Field(ge=0, le=4095)] = 0
    qos: Annotated[int, Field(ge=0, le=7)] = 0
    spoof_check: bool | None = None
    trust: bool | None = None
    link_state: VfLinkState | None = None


class FunctionUse(Value):
    """Function number ``vf`` of the card ``pf`` in use: what is wanted of the card, and what was there before."""

    pf: IfName
    vf: VfNumber
    wanted: VfState
    former: VfState
