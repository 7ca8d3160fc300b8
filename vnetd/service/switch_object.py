"""One switch with everything the daemon knows of it, and its documents in the store."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import ConfigDict, Field

from vnetd.model.base import Value
from vnetd.model.switch import Switch
from vnetd.plan.possessions import Possessions
from vnetd.reconcile.migration import Move
from vnetd.reconcile.switch import Former, SwitchTarget
from vnetd.service.views import SwitchView

DEFINITIONS, RUNNING = "etc/switches", "run/switches"


class Pending(Value):
    """A change that is to be confirmed: until when, by a clock that begins with the boot ``boot``.

    ``before`` is what ran before, nothing for a start. ``after`` is what shall be kept once it is confirmed.
    """

    deadline: float
    boot: str
    before: Switch | None = None
    after: Switch | None = None


class SwitchRecord(Value):
    """Kept below /run while a switch is active: written before the first kernel step, removed after the last."""

    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    switch: Switch
    stopping: bool = False
    sysctls: dict[str, str] = Field(default_factory=dict)
    formers: dict[str, Former] = Field(default_factory=dict)
    possessions: Possessions = Possessions()
    since: float = 0.0
    move: Move | None = None
    pending: Pending | None = None


@dataclass(eq=False, slots=True)
class SwitchObject:
    """``definition`` is what the user keeps, ``live`` what is realised now; at least one of them is there.

    ``lock`` serialises the use cases on this switch. ``unconfirmed``: the definition was started to be confirmed and
    has not been, so it does not start with the host. ``lapsed``: a change was taken back for want of confirmation.
    """

    uuid: UUID
    name: str
    definition: Switch | None = None
    live: Switch | None = None
    autostart: bool = False
    unconfirmed: bool = False
    lapsed: bool = False
    pending: Pending | None = None
    state: str = "inactive"
    problem: str = ""
    healed: int = 0
    target: SwitchTarget | None = None
    ports: tuple[UUID, ...] = ()
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def current(self) -> Switch:
        """The live switch if active, else the definition."""
        switch = self.live or self.definition
        assert switch is not None, f"switch {self.name} has neither definition nor live state"
        return switch

    @property
    def active(self) -> bool:
        """Whether it is, or is to be, realised."""
        return self.live is not None

    def view(self) -> SwitchView:
        """As callers see it."""
        switch = self.current
        return SwitchView(
            uuid=self.uuid,
            name=self.name,
            state="degraded" if self.problem and self.state == "active" else self.state,
            active=self.active,
            persistent=self.definition is not None,
            autostart=self.autostart,
            unconfirmed=self.pending is not None,
            bridge=switch.bridge or "",
            uplinks=tuple(uplink.port for uplink in switch.uplinks),
            ports=self.ports,
            problems=(self.problem,) if self.problem else (),
            healed_count=self.healed,
        )

    def definition_document(self) -> Mapping[str, object]:
        """What is kept below /etc."""
        assert self.definition is not None
        switch = self.definition.model_dump(mode="json", exclude_defaults=True)
        return {"autostart": self.autostart, "unconfirmed": self.unconfirmed, "switch": switch}

    def running_document(self) -> object:
        """What is kept below /run."""
        assert self.live is not None
        memory = self.target.memory if self.target else None
        record = SwitchRecord(
            switch=self.live,
            stopping=self.state == "stopping",
            sysctls=dict(memory.sysctls) if memory else {},
            formers=dict(memory.formers) if memory else {},
            possessions=memory.possessions if memory else Possessions(),
            since=memory.since if memory else 0.0,
            move=memory.move if memory else None,
            pending=self.pending,
        )
        return record.model_dump(mode="json", exclude_defaults=True)
