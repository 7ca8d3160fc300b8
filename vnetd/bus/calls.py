"""A call on its way through a handler."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from vnetd.bus.frames import Frame
from vnetd.bus.objects import Address
from vnetd.service.views import Caller, View


@dataclass(frozen=True, slots=True)
class Call:
    """A call that may be made: ``values`` have the types of the contract.

    ``caller`` is known for members that change something; for others uid is -1, as nobody asked the bus. ``view`` is
    the object called upon, None for the root and for branches.
    """

    frame: Frame
    caller: Caller
    address: Address | None
    view: View | None
    values: list[Any]

    @property
    def uuid(self) -> UUID:
        """Of the object called upon."""
        assert self.view is not None, "called upon the root"
        return self.view.uuid


@dataclass(frozen=True, slots=True)
class Reply:
    """Values of the types in the contract, or all of them in ``encoded`` already. Descriptors are closed once sent."""

    values: list[Any] = field(default_factory=list)
    encoded: bytes | None = None
    fds: tuple[int, ...] = ()


Handler = Callable[[Call], Reply | Awaitable[Reply]]
Handlers = Mapping[str, Handler]

DONE = Reply()
