"""One switch with everything the daemon knows of it, and its documents in the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from vnetd.model.base import Value
from vnetd.model.switch import Switch
from vnetd.reconcile.migration import Move
from vnetd.reconcile.switch import SwitchTarget
from vnetd.reconcile.switch_memory import Former, Snapshot
from vnetd.service.definitions import DefinedObject
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
    before: Snapshot = Snapshot()
    latest: Snapshot | None = None
    move: Move | None = None
    pending: Pending | None = None


@dataclass(eq=False, slots=True)
class SwitchObject(DefinedObject[Switch]):
    """``unconfirmed``: the definition was started to be confirmed and has not been, so it does not start with the
    host. ``lapsed``: a change was taken back for want of confirmation.
    """

    kind: ClassVar[Literal["switch"]] = "switch"
    folder: ClassVar[str] = DEFINITIONS

    unconfirmed: bool = False
    lapsed: bool = False
    pending: Pending | None = None
    target: SwitchTarget | None = None
    ports: tuple[UUID, ...] = ()

    @staticmethod
    def made_bridge(form: Switch) -> str | None:
        """Nothing while it has not been given a name."""
        return form.bridge

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
            before=memory.before if memory else Snapshot(),
            latest=memory.latest if memory else None,
            move=memory.move if memory else None,
            pending=self.pending,
        )
        return record.model_dump(mode="json", exclude_defaults=True)
