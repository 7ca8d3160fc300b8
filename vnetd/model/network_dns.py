"""Names of a network: its domain, and what its DNS server answers. Rules: libvirt's network format page."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from vnetd.model.base import IPAddress, PortNumber, Text, Value, Word, ZonedAddress
from vnetd.model.breach import breach


def _record_name(name: str) -> str:
    if re.search(r"[\s,]", name):
        raise ValueError(f"{name!r} is no name of a TXT record: spaces and commas are not allowed")
    return name


def _service(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_\-+/*]{1,482}", name):
        raise ValueError(f"{name!r} is no service: 1 to 482 letters, digits and characters of '_-+/*' are allowed")
    return name


def _protocol(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9\-+/]+", name):
        raise ValueError(f"{name!r} is no protocol of a service: letters, digits and '-', '+', '/' are allowed")
    return name


def _host_name(name: str) -> str:
    if re.search(r"\s", name):
        raise ValueError(f"{name!r} is no host name: spaces are not allowed")
    return name


def _zero_is_unset(number: int | None) -> int | None:
    return number or None


Unsigned16 = Annotated[int, Field(ge=0, le=65535)]


class Domain(Value):
    """DNS domain of the guests. ``local_only``: never asked upstream. ``register``: tell systemd-resolved.

    A domain that is registered must be local: left open, it becomes so.
    """

    model_config = Value.model_config | {"populate_by_name": True}

    name: Word
    register_: bool | None = Field(default=None, alias="register")
    local_only: bool | None = Field(default=None, validate_default=True)

    @field_validator("local_only")
    @classmethod
    def _registered_is_local(cls, local_only: bool | None, info: ValidationInfo) -> bool | None:
        registered = info.data.get("register_")
        if registered and local_only is False:
            raise ValueError("a domain that is registered with systemd-resolved must be local only")
        return True if registered else local_only


class DnsForwarder(Value):
    """Upstream server for everything, or for one domain; a domain alone goes to the default servers."""

    domain: Word | None = None
    address: ZonedAddress | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "DnsForwarder":
        if self.domain is None and self.address is None:
            raise breach("a DNS forwarder needs an address, a domain or both")
        return self


class DnsText(Value):
    """One TXT record."""

    name: Annotated[Word, AfterValidator(_record_name)]
    value: Word


class DnsService(Value):
    """One SRV record (RFC 2782); target ``.`` says the service is not there. Zero numbers are the same as none."""

    service: Annotated[Text, AfterValidator(_service)]
    protocol: Annotated[Text, AfterValidator(_protocol)]
    domain: Word | None = None
    target: Word | None = None
    port: PortNumber | None = None
    priority: Annotated[Unsigned16 | None, AfterValidator(_zero_is_unset)] = None
    weight: Annotated[Unsigned16 | None, AfterValidator(_zero_is_unset)] = None

    @model_validator(mode="after")
    def _has_target(self) -> "DnsService":
        for name in ("port", "priority", "weight"):
            if getattr(self, name) is not None and self.target is None:
                raise breach(f"{name} of service {self.service} needs a target", name)
        return self


class DnsHost(Value):
    """Names of one address."""

    address: IPAddress
    hostnames: Annotated[tuple[Annotated[Word, AfterValidator(_host_name)], ...], Field(min_length=1)]


class Dns(Value):
    """What the network's DNS server answers and whom it asks."""

    enable: bool | None = None
    forward_plain_names: bool | None = None
    forwarders: tuple[DnsForwarder, ...] = ()
    texts: tuple[DnsText, ...] = ()
    services: tuple[DnsService, ...] = ()
    hosts: tuple[DnsHost, ...] = ()

    @model_validator(mode="after")
    def _empty_if_off(self) -> "Dns":
        for name in ("forwarders", "texts", "services", "hosts"):
            if self.enable is False and getattr(self, name):
                raise breach("DNS is switched off (enable): it can have no forwarders and no records", name, 0)
        return self
