"""TCP flags and options of a rule."""

from vnetd.model.filter_values import integer
from vnetd.plan.rules import Json
from vnetd.ruleset.expressions import match, payload
from vnetd.ruleset.filter_comparisons import Attributes, compare

FLAGS = {"fin": 0x01, "syn": 0x02, "rst": 0x04, "psh": 0x08, "ack": 0x10, "urg": 0x20}


def tcp_flags(attributes: Attributes) -> list[Json] | None:
    """``MASK/FLAGS``: of the flags in MASK those in FLAGS are set and the others are not. ``None``: never so."""
    given = attributes.get("flags")
    if given is None:
        return []
    mask, flags = (flag_bits(half) for half in given.value.split("/"))
    if not mask or flags & ~mask:  # the same for all packets
        return [] if (not flags) is not given.negated else None
    left = payload("tcp", "flags")
    if flags:
        return [compare({"&": [left, _words(mask)]}, _words(flags), given)]
    return [match(left, _words(mask), "in" if given.negated else "!")]  # libnftables lists these otherwise


def flag_bits(words: str) -> int:
    """The bits of a comma list."""
    bits = 0
    for word in words.split(","):
        bits |= {"ALL": 0x3F, "NONE": 0}.get(word) or FLAGS.get(word.lower(), 0)
    return bits


def _words(bits: int) -> Json:
    found = [name for name, bit in FLAGS.items() if bits & bit]
    return found[0] if len(found) == 1 else found


def tcp_option(attributes: Attributes) -> list[Json]:
    """Whether there is an option of that number. libnftables takes its first octet for just that question."""
    given = attributes.get("option")
    if given is None:
        return []
    return [match({"tcp option": {"base": integer(given.value), "offset": 0, "len": 8}}, not given.negated)]
