"""The filter model: named rules and references to other filters, and the binding of one to a device.

Native JSON is this model itself. Source of the rules: libvirt's nwfilter format page.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field, ValidationInfo, field_serializer, field_validator, model_validator

from vnetd.model.base import IfName, Mac, ObjectName, Text, Value
from vnetd.model.filter_protocols import PORT_PROTOCOLS, PROTOCOLS, Protocol
from vnetd.model.filter_values import PROTOCOL_NUMBERS, integer, parse_variable

DEFAULT_PRIORITY = 500
CHAIN_PRIORITIES: Mapping[str, int] = {
    "root": 0,
    "mac": -800,
    "vlan": -750,
    "stp": 0,
    "ipv4": -700,
    "ipv6": -600,
    "arp": -500,
    "rarp": -400,
}
Priority = Annotated[int, Field(ge=-1000, le=1000)]


class Action(StrEnum):
    """What becomes of a packet a rule matches."""

    DROP = "drop"
    ACCEPT = "accept"
    REJECT = "reject"
    RETURN = "return"
    CONTINUE = "continue"


class Direction(StrEnum):
    """As the guest sees it: ``in`` is towards the guest."""

    IN = "in"
    OUT = "out"
    INOUT = "inout"


def _parameter_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise ValueError(f"{name!r} is no parameter name: letters, digits and '_' are allowed")
    return name


def _parameter_value(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:]+", value):
        raise ValueError(f"{value!r} is no parameter value: letters, digits, '_', '.' and ':' are allowed")
    return value


def check_parameter(name: str, value: str) -> None:
    """Raise ``ValueError`` if a parameter cannot have that name or that value."""
    _parameter_name(name)
    _parameter_value(value)


def _sorted(parameters: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    return dict(sorted(parameters.items()))


ParameterName = Annotated[str, AfterValidator(_parameter_name)]
ParameterValue = Annotated[str, AfterValidator(_parameter_value)]
Parameters = Annotated[
    Mapping[ParameterName, Annotated[tuple[ParameterValue, ...], Field(min_length=1)]], AfterValidator(_sorted)
]
"""Values of variables, in order, by name."""


def chain_prefix(chain: str) -> str:
    """The protocol a chain's name begins with. Raises ``ValueError`` if it begins with none."""
    if chain == "root":
        return chain
    found = [prefix for prefix in CHAIN_PRIORITIES if prefix != "root" and chain.startswith(prefix)]
    if not found:
        raise ValueError(f"chain {chain!r} must be 'root' or begin with mac, vlan, stp, ipv4, ipv6, arp or rarp")
    return found[0]


def _chain_name(chain: str) -> str:
    chain_prefix(chain)
    if not re.fullmatch(r"[A-Za-z0-9_.:\-]{1,12}", chain):
        raise ValueError(f"chain {chain!r}: at most 12 letters, digits and characters of '_.:-' are allowed")
    return chain


class Attribute(Value):
    """One attribute of a match: canonical text or a variable reference; ``negated`` matches all but that."""

    name: str
    value: str
    negated: bool = False


def canonical_value(protocol: Protocol, name: str, value: str) -> str:
    """Canonical text of an attribute's value. Raises ``ValueError`` naming attribute and value."""
    kind = protocol.attributes.get(name)
    if kind is None:
        raise ValueError(f"<{protocol.name}> has no attribute {name!r}")
    try:
        variable = parse_variable(value)
        return str(variable) if variable else kind(value)
    except ValueError as error:
        raise ValueError(f"attribute {name} of <{protocol.name}> has illegal value {value!r}: {error}") from error


class Match(Value):
    """What a rule looks at: one protocol and its attributes, kept in libvirt's order."""

    protocol: str
    attributes: tuple[Attribute, ...] = ()

    @field_validator("protocol")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"{name!r} is no protocol of filter rules")
        return name

    @field_validator("attributes")
    @classmethod
    def _canonical(cls, attributes: tuple[Attribute, ...], info: ValidationInfo) -> tuple[Attribute, ...]:
        if "protocol" not in info.data:
            return attributes
        protocol = PROTOCOLS[info.data["protocol"]]
        found: dict[str, Attribute] = {}
        for one in attributes:
            value = canonical_value(protocol, one.name, one.value)
            if one.name in found:
                raise ValueError(f"attribute {one.name} of <{protocol.name}> is given twice")
            found[one.name] = Attribute(name=one.name, value=value, negated=one.negated)
        _check_signs(protocol, found)
        _check_ports(protocol, found)
        return tuple(found[name] for name in protocol.attributes if name in found)

    @property
    def spec(self) -> Protocol:
        """The protocol's description."""
        return PROTOCOLS[self.protocol]

    @cached_property
    def values(self) -> Mapping[str, Attribute]:
        """Attributes by name."""
        return {one.name: one for one in self.attributes}


def _check_signs(protocol: Protocol, attributes: Mapping[str, Attribute]) -> None:
    for name, one in attributes.items():
        base = attributes.get(protocol.signs.get(name, name))
        if one.negated != (base.negated if base else False):
            raise ValueError(
                f"attribute {name} of <{protocol.name}> cannot be negated by itself: it follows {protocol.signs[name]}"
            )


def _check_ports(protocol: Protocol, attributes: Mapping[str, Attribute]) -> None:
    if protocol.layer == 3 or not protocol.has_ports or not any("port" in name for name in attributes):
        return
    given = attributes.get("protocol")
    if given and (given.value.startswith("$") or integer(given.value, PROTOCOL_NUMBERS) in PORT_PROTOCOLS):
        return
    raise ValueError(f"ports in <{protocol.name}> need protocol tcp, udp, sctp or 33 (dccp)")


class Rule(Value):
    """One rule. ``statematch`` false: no connection state is used. Without ``match`` every frame is meant."""

    action: Action
    direction: Direction
    priority: Priority = DEFAULT_PRIORITY
    statematch: bool = True
    match: Match | None = None


class Reference(Value):
    """Another filter's rules in this place; ``parameters`` hold unless outer ones override them."""

    filter: ObjectName
    parameters: Parameters = Field(default_factory=dict)

    @field_serializer("parameters")
    def _plain(self, parameters: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return dict(parameters)


class Filter(Value):
    """A named filter. ``priority`` is its chain's, by default that of the protocol the chain's name begins with."""

    name: ObjectName
    uuid: UUID | None = None
    chain: Annotated[str, AfterValidator(_chain_name)] = "root"
    priority: Priority
    entries: tuple[Rule | Reference, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _default_priority(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("priority") is not None:
            return data
        try:
            priority = CHAIN_PRIORITIES[chain_prefix(str(data.get("chain", "root")))]
        except ValueError:
            priority = 0  # the chain's own check says what is wrong
        return {**data, "priority": priority}

    @cached_property
    def references(self) -> frozenset[str]:
        """Names of the filters this one refers to directly."""
        return frozenset(entry.filter for entry in self.entries if isinstance(entry, Reference))


class Owner(Value):
    """The machine a binding belongs to, as libvirt notes it."""

    name: Text
    uuid: UUID


class Binding(Value):
    """A filter bound to a device. ``linkdev`` is the lower device of a macvtap."""

    owner: Owner | None = None
    device: IfName
    linkdev: IfName | None = None
    mac: Mac
    filter: ObjectName
    parameters: Parameters = Field(default_factory=dict)

    @field_serializer("parameters")
    def _plain(self, parameters: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return dict(parameters)
