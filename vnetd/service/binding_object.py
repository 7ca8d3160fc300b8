"""Bindings: filters on devices vnetd did not make, as callers ask for them, as they are kept and as they are shown."""

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

from pydantic import ValidationError

from vnetd.model.errors import Invalid
from vnetd.model.port import BindingRecord
from vnetd.plan.rules import Family
from vnetd.service.filter_uses import Bound
from vnetd.service.views import BindingView

BINDINGS = "run/bindings"
UNFILTERABLE = {"macvlan", "ipvlan", "ipvtap", "bridge", "loopback"}
"""Kinds of devices that are never a port of a bridge: rules on them would have no effect."""


def binding_owner(uuid: UUID) -> str:
    """Owner of a binding's part of the ruleset."""
    return f"binding:{uuid}"


def bound_by(record: BindingRecord) -> Bound:
    """The use of a filter it is."""
    family: Family = "bridge" if record.bridged else "netdev"
    owner, mac = binding_owner(record.uuid), record.mac or ""
    return Bound(owner, record.device, record.filter, mac, record.parameters, family=family, there=False)


def binding_record(device: str, filter: str, parameters: Mapping[str, Sequence[str]]) -> BindingRecord:
    """What a caller asks for. Raises ``Invalid`` for parameters that make no sense."""
    values = {name: tuple(texts) for name, texts in parameters.items()}
    mac = values.pop("MAC", ())
    if len(mac) > 1:
        raise Invalid("parameter MAC has several values: a device has one MAC address")
    try:
        return BindingRecord(uuid=uuid4(), device=device, filter=filter, mac=mac[0] if mac else None, parameters=values)
    except ValidationError as error:
        raise Invalid("; ".join(str(detail["msg"]) for detail in error.errors())) from None


def binding_view(record: BindingRecord) -> BindingView:
    """As callers see it."""
    return BindingView(record.uuid, record.device, record.filter, record.parameters, record.mac or "")
