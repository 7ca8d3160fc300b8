"""One rule in the forms in which versions of libnftables list it."""

from typing import Any

import pytest

from vnetd.plan.listing import same_rules

FLAGS = {"payload": {"protocol": "tcp", "field": "flags"}}
DROP: Any = {"drop": None}


def bits(offset: int, length: int) -> dict[str, Any]:
    return {"payload": {"base": "nh", "offset": offset, "len": length}}


def rule(left: Any, right: Any, op: str = "==") -> Any:
    return (({"match": {"op": op, "left": left, "right": right}}, DROP),)


SAME = {
    "flags under a mask": (
        rule({"&": [FLAGS, ["syn", "ack"]]}, "syn"),
        rule({"&": [FLAGS, {"|": ["syn", "ack"]}]}, "syn"),
    ),
    "the last bit of a word": (rule({"&": [bits(112, 32), 1]}, 1), rule(bits(143, 1), 1)),
    "a bit that is not set": (rule({"&": [bits(192, 32), 0x80000000]}, 0), rule(bits(192, 1), 0)),
    "bits amidst a word": (rule({"&": [bits(0, 16), 0x0FF0]}, 0x0120), rule(bits(4, 8), 0x12)),
}
OTHERS = {
    "another bit": (rule({"&": [bits(112, 32), 1]}, 1), rule(bits(142, 1), 1)),
    "another value": (rule({"&": [bits(112, 32), 1]}, 1), rule(bits(143, 1), 0)),
    "another comparison": (rule({"&": [bits(112, 32), 1]}, 1), rule(bits(143, 1), 1, "!=")),
    "bits that are not in a row": (rule({"&": [bits(0, 8), 5]}, 5), rule(bits(5, 3), 5)),
    "another mask of flags": (
        rule({"&": [FLAGS, ["syn", "ack"]]}, "syn"),
        rule({"&": [FLAGS, {"|": ["syn", "rst"]}]}, "syn"),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_forms_of_one_rule_are_the_same(name: str) -> None:
    assert same_rules(*SAME[name])


@pytest.mark.parametrize("name", OTHERS)
def test_another_rule_is_not(name: str) -> None:
    assert not same_rules(*OTHERS[name])
