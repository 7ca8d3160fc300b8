"""What fake services share: views of objects that are not there, and a world that keeps them and records calls."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from vnetd.model.errors import Invalid, NotFound
from vnetd.service.views import Added, Changed, NetworkView, Notice, ObjectKind, Removed, SwitchView, View

SPACE = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def network_view(name: str, **differences: Any) -> NetworkView:
    """An inactive NAT network whose UUID follows from its name."""
    view = NetworkView(
        uuid=uuid5(SPACE, f"network {name}"),
        name=name,
        mode="nat",
        state="inactive",
        active=False,
        persistent=True,
        autostart=False,
        bridge="virbr0",
        addresses=("192.168.122.1/24",),
        ports=(),
        problems=(),
        healed_count=0,
    )
    return replace(view, **differences)


def switch_view(name: str, **differences: Any) -> SwitchView:
    """An inactive switch whose UUID follows from its name."""
    view = SwitchView(
        uuid=uuid5(SPACE, f"switch {name}"),
        name=name,
        state="inactive",
        active=False,
        persistent=True,
        autostart=False,
        unconfirmed=False,
        bridge=name,
        uplinks=("eth0",),
        ports=(),
        problems=(),
        healed_count=0,
    )
    return replace(view, **differences)


class World:
    """What all fake services share: objects, the record of calls, and a gate to hold slow calls at."""

    def __init__(self) -> None:
        self.views: dict[ObjectKind, dict[UUID, Any]] = {
            "network": {},
            "switch": {},
            "filter": {},
            "port": {},
            "binding": {},
        }
        self.calls: list[tuple[Any, ...]] = []
        self.finished: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.listeners: list[Callable[[Notice], None]] = []
        self.failure: Exception | None = None
        self.read_ends: list[int] = []

    def called(self, what: str) -> list[tuple[Any, ...]]:
        """Arguments of every call ``what``, without the caller."""
        return [call[2:] for call in self.calls if call[0] == what]

    def tell(self, notice: Notice) -> None:
        """Announce."""
        for listener in self.listeners:
            listener(notice)

    def record(self, what: str, *details: Any) -> None:
        """Note a call; it fails if the test wants that."""
        self.calls.append((what, *details))
        if self.failure is not None:
            raise self.failure

    def find(self, kind: ObjectKind, ref: str) -> Any:
        """By UUID, name or device. Raises ``NotFound``."""
        for uuid, view in self.views[kind].items():
            if ref in (str(uuid), getattr(view, "name", None), getattr(view, "device", None)):
                return view
        raise NotFound(f"there is no {kind} '{ref}'; see what there is with List{kind.title()}s")

    def add(self, kind: ObjectKind, view: View) -> Any:
        """Keep an object and announce it."""
        self.views[kind][view.uuid] = view
        self.tell(Added(kind, view))
        return view

    def change(self, kind: ObjectKind, uuid: UUID, **differences: Any) -> Any:
        """Have an object look different and announce that."""
        view = self.views[kind][uuid] = replace(self.views[kind][uuid], **differences)
        self.tell(Changed(kind, view))
        return view

    def remove(self, kind: ObjectKind, uuid: UUID) -> None:
        """Forget an object and announce that. Raises ``NotFound``."""
        view = self.views[kind].pop(uuid, None)
        if view is None:
            raise NotFound(f"there is no {kind} {uuid}")
        self.tell(Removed(kind, view))


def name_of(document: str) -> str:
    """The name in a document, which is JSON here. Raises ``Invalid``."""
    try:
        return str(json.loads(document)["name"])
    except (ValueError, TypeError, KeyError) as error:
        raise Invalid(f"document {document!r} has no name") from error
