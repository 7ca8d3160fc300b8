"""What callers say about bandwidth: flat options like ``inbound.average``, in kB/s, bursts in kB; 0 takes one away."""

from collections.abc import Mapping
from math import inf

from pydantic import ValidationError

from vnetd.host.protocols import Capabilities
from vnetd.host.requirements import require
from vnetd.model.errors import Denied, Invalid
from vnetd.model.network_ports import Bandwidth, Rate

DIRECTIONS = {"inbound": ("average", "peak", "burst", "floor"), "outbound": ("average", "peak", "burst")}
KEYS = tuple(f"{direction}.{name}" for direction, names in DIRECTIONS.items() for name in names)
TOWARDS = ("tc-htb",)
AWAY = ("tc-htb", "tc-ingress", "tc-u32", "tc-mirred", "ifb")


def changed(before: Bandwidth, options: Mapping[str, object]) -> Bandwidth:
    """``before`` with what ``options`` say. Raises ``Invalid`` naming the option and its rule."""
    values = flat(before)
    for key, value in options.items():
        if key not in KEYS:
            raise Invalid(f"unknown option {key!r}; known here: {', '.join(KEYS)}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise Invalid(f"{key} is {value!r}: a number of kB is needed, 0 for no limit")
        values[key] = value
    nested: dict[str, dict[str, int]] = {}
    for key, number in values.items():
        direction, _, name = key.partition(".")
        if number:
            nested.setdefault(direction, {})[name] = number
    try:
        return Bandwidth.model_validate(nested)
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(f"bandwidth {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def flat(limits: Bandwidth) -> dict[str, int]:
    """Limits by flat name, without those that are not set."""
    found = {}
    for key in KEYS:
        direction, _, name = key.partition(".")
        rate = getattr(limits, direction)
        if rate and (value := getattr(rate, name)):
            found[key] = value
    return found


def refuse_beyond(most: Bandwidth, wanted: Bandwidth, subject: str) -> None:
    """Raise ``Denied``, naming the first limit, if ``wanted`` lets more pass than ``most``, or reserves more."""
    for direction in DIRECTIONS:
        limits, rates = _effect(getattr(most, direction)), _effect(getattr(wanted, direction))
        for name, limit in limits.items():
            if rates[name] > limit:
                unit = "kB" if name == "burst" else "kB/s"
                raise Denied(
                    f"{subject} may have {direction}.{name} of {int(limit)} {unit} at most: only root lifts that"
                )


def _effect(rate: Rate | None) -> Mapping[str, float]:
    """What limits come to: without a peak, a burst is as fast as the device can."""
    floor = (rate.floor if rate else None) or 0
    if rate is None or rate.average is None:
        return {"average": inf, "peak": inf, "burst": inf, "floor": floor}
    burst = rate.burst or 0
    peak = rate.peak or (inf if burst else rate.average)
    return {"average": rate.average, "peak": peak, "burst": burst, "floor": floor}


async def refuse_unable(capabilities: Capabilities, subject: str, limits: Bandwidth | None) -> None:
    """Raise ``Unsupported`` naming what of this host's kernel is missing to keep these limits."""
    if limits and limits.inbound and limits.inbound.average:
        await require(capabilities, f"{subject}: a limit of what guests receive", *TOWARDS)
    if limits and limits.outbound and limits.outbound.average:
        await require(capabilities, f"{subject}: a limit of what guests send", *AWAY)
