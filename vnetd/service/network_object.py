"""One network with everything the daemon knows of it, and its documents in the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar, Literal
from uuid import UUID

from vnetd.model.network import Network
from vnetd.model.spans import Span, span_of
from vnetd.plan.shaping import Floor
from vnetd.reconcile.borrowed import BorrowedTarget
from vnetd.reconcile.desired import DEFAULT_MTU, Compiled
from vnetd.reconcile.network import NetworkTarget
from vnetd.service.definitions import DefinedObject
from vnetd.service.roster import Members
from vnetd.service.views import NetworkView

DEFINITIONS, RUNNING = "etc/networks", "run/networks"


@dataclass(eq=False, slots=True)
class NetworkObject(DefinedObject[Network]):
    """``remains``: a start failed and could not be undone whole."""

    kind: ClassVar[Literal["network"]] = "network"
    folder: ClassVar[str] = DEFINITIONS

    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Problems of what it shares with others, by target."""
    remains: bool = False
    compiled: Compiled | None = None
    """What one of its forms means for the host, as last worked out: a start need not do it again."""
    target: NetworkTarget | BorrowedTarget | None = None
    members: Members = field(default_factory=Members)
    """Its ports."""
    floors: dict[UUID, Floor] = field(default_factory=dict)

    _spans: tuple[Network | None, tuple[Span, ...]] = (None, ())

    def spans(self) -> tuple[Span, ...]:
        """The subnets that the addresses of the active form are in; worked out once for each form."""
        if self._spans[0] is not self.live:
            addresses = self.live.addresses if self.live else ()
            self._spans = self.live, tuple(span_of(address.address.network) for address in addresses)
        return self._spans[1]

    @property
    def bridge(self) -> str:
        """The bridge its ports join, "" if they join none."""
        if isinstance(self.target, BorrowedTarget):
            return self.target.desired.bridge
        return self.target.desired.bridge.name if self.target else ""

    @property
    def mtu(self) -> int:
        """What its ports get."""
        if isinstance(self.target, BorrowedTarget):
            return self.target.mtu
        return self.target.desired.bridge.mtu if self.target else DEFAULT_MTU

    @staticmethod
    def made_bridge(form: Network) -> str | None:
        """None in a mode without a bridge of vnetd's."""
        return form.bridge.name if form.mode.has_bridge else None

    def view(self) -> NetworkView:
        """As callers see it."""
        network = self.current
        problems = tuple(text for text in (self.problem, *chain(*self.shared.values())) if text)
        return NetworkView(
            uuid=self.uuid,
            name=self.name,
            mode=str(network.mode),
            state="degraded" if problems and self.state == "active" else self.state,
            active=self.active,
            persistent=self.definition is not None,
            autostart=self.autostart,
            bridge=network.bridge.name or "",
            addresses=tuple(str(address.address) for address in network.addresses),
            ports=self.members.roster(),
            problems=problems,
            healed_count=self.healed,
        )

    def definition_document(self) -> Mapping[str, object]:
        """What is kept below /etc."""
        return {"autostart": self.autostart, "network": _dump(self.definition)}

    def running_document(self, *, stopping: bool) -> Mapping[str, object]:
        """What is kept below /run while it is active: written before the first kernel step, removed after the last."""
        return {"network": _dump(self.live), "stopping": stopping}


def _dump(network: Network | None) -> object:
    assert network is not None
    return network.model_dump(mode="json", by_alias=True, exclude_defaults=True)
