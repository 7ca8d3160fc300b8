"""Makers of ports without a device of vnetd's: a virtual function handed out whole, and a passt process."""

from vnetd.host.protocols import Host
from vnetd.model.errors import Unsupported
from vnetd.model.functions import FunctionUse
from vnetd.model.network import Network
from vnetd.model.networkport import HostdevPlug, UserPlug
from vnetd.model.port import PortSpec
from vnetd.service.port_making import Made, Making


class HandedOutFunction:
    """A virtual function: the port's target has its card set what the guest needs."""

    template = "hostdev%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It passes no bridge."""
        refuse_bridged(spec)

    async def make(self, making: Making) -> Made:
        """It is there; the caller is told which it is."""
        plug, use = making.record.plug, making.record.function
        assert isinstance(plug, HostdevPlug) and isinstance(use, FunctionUse)
        return Made(result={"pci": plug.address.text, "vf": use.vf, "pf": use.pf})

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


class PasstProcess:
    """passt, which the port's target starts."""

    template = "passt%d"

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, spec: PortSpec, network: Network) -> None:
        """It passes no bridge."""
        refuse_bridged(spec)

    async def make(self, making: Making) -> Made:
        """The caller is told where it will listen."""
        plug = making.record.plug
        assert isinstance(plug, UserPlug)
        return Made(result={"socket": plug.socket})

    async def finish(self, making: Making) -> None:
        """Nothing is left to do."""


def refuse_bridged(spec: PortSpec) -> None:
    """Raise ``Unsupported`` for what only a bridge can do."""
    if spec.isolated:
        raise Unsupported("a port that passes no bridge cannot be isolated")
