"""What makes the device of a port: one ``Maker`` for each kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vnetd.host.commit import Commit
from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.model.port import PortRecord, PortSpec
from vnetd.plan.kernel import SetLink
from vnetd.reconcile.port import DesiredPort, Seen


@dataclass(frozen=True, slots=True)
class Making:
    """A port that is being made: what is recorded, what the caller asked for, what shall be, and for which network.

    ``netns`` is an fd of the guest's network namespace, closed once all is done; -1 if the caller named none.
    ``placing`` puts the device in its bridge: what is asked for it alone is done already.
    """

    record: PortRecord
    spec: PortSpec
    desired: DesiredPort
    network: Network
    netns: int = -1
    placing: tuple[SetLink, ...] = ()
    commit: Commit | None = None
    """Puts its rules in force, in the hop that makes the device, before that can be reached."""


@dataclass(frozen=True, slots=True)
class Made:
    """What the caller gets besides device, MAC and network: open descriptors, and facts for the result.

    ``seen`` is the device and its bridge as they are now, from whoever could look on his way.
    """

    fds: tuple[int, ...] = ()
    result: Mapping[str, str | int | bool] = field(default_factory=dict)
    seen: Seen | None = None


class Maker(Protocol):
    """Makes devices of one kind, tagged as ours, and down and outside of any bridge but for what ``placing`` says."""

    template: str
    """Names the device where the caller does not; one ``%d`` in it."""

    def check(self, spec: PortSpec, network: Network) -> None:
        """Raise ``Invalid`` or ``Unsupported`` for what can be seen without asking the host."""
        ...

    async def make(self, making: Making) -> Made:
        """Make the device; on failure nothing of it is left. What it made later goes with the port's target."""
        ...

    async def finish(self, making: Making) -> None:
        """What can be done only once the port is where it belongs."""
        ...


def refuse_inside(spec: PortSpec) -> None:
    """Raise ``Invalid`` for what only a port in a namespace can have."""
    for name in ("netns", "lower", "addresses", "gateways"):
        if getattr(spec, name):
            raise Invalid(f"{name} cannot be given for kind {spec.kind}: it has no end in a network namespace")
