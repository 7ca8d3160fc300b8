"""What a caller says about a port it wants, read from flat options."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError

from vnetd.model.errors import Denied, Invalid
from vnetd.model.network_ports import Bandwidth
from vnetd.model.port import PortRecord, PortSpec
from vnetd.service import bandwidth
from vnetd.service.api import Options
from vnetd.service.filter_uses import GUEST
from vnetd.service.views import Caller

V = TypeVar("V", PortSpec, PortRecord)


def spec_of(options: Options) -> PortSpec:
    """The spec of flat options; ``parameter.NAME`` are parameters of the filter, one text or several,
    and ``inbound.average`` … ``outbound.burst`` the bandwidth in kB.

    Raises ``Invalid`` naming the option and its rule.
    """
    fields: dict[str, object] = {}
    parameters: dict[str, tuple[str, ...]] = {}
    rates = {key: value for key, value in options.items() if key.startswith(("inbound.", "outbound."))}
    if rates:
        fields["bandwidth"] = bandwidth.changed(Bandwidth(), rates)
    for key, value in options.items():
        if key.startswith("parameter."):
            texts = [value] if isinstance(value, str) else value
            if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
                raise Invalid(f"{key} is {value!r}: a text or a list of texts is needed")
            parameters[key.removeprefix("parameter.")] = tuple(texts)
        elif key not in rates:
            fields[key] = value
    return validated(PortSpec, {**fields, "parameters": parameters})


def validated(model: type[V], fields: Mapping[str, object]) -> V:
    """The value of these fields. Raises ``Invalid`` naming the first that breaks a rule."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"port {where}: {first['msg']}") from None


def filter_for(caller: Caller, wanted: str | None) -> str | None:
    """The filter a port gets: who is not root and names none gets ``vnetd-guest``. Raises ``Denied``."""
    if wanted is None:
        return None if caller.administrator else GUEST
    refuse_no_filter(caller, wanted)
    return wanted or None


def refuse_no_filter(caller: Caller, wanted: str) -> None:
    """Raise ``Denied`` for a caller other than root who wants an unfiltered port (an empty name)."""
    if not caller.administrator and not wanted:
        raise Denied(f"only root may have a port without filter, and this is uid {caller.uid}: name one")
