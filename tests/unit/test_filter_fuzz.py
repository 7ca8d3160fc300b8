"""Whatever is wrong in a filter document, its refusal says where and what."""

import contextlib
import json
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.broken_filters import broken

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.filter import Filter
from vnetd.ruleset.filter import compile_binding
from vnetd.xmlcodec.documents import parse_filter
from vnetd.xmlcodec.filter_builtin import builtin_filters

NUMBER = 10_000


def test_ten_thousand_broken_documents_are_refused_naming_line_element_attribute_and_value() -> None:
    for seed in range(NUMBER):
        one = broken(seed)
        try:
            parse_filter(one.text)
        except Invalid as error:
            assert all(word in str(error) for word in one.named), f"{one.text}: {error}"
            assert "\n" not in str(error) and len(str(error)) < 1500
        else:
            raise AssertionError(f"understood: {one.text}")


def test_broken_documents_read_leniently_are_refused_or_understood() -> None:
    for seed in range(NUMBER, NUMBER + 2000):
        with contextlib.suppress(Invalid):
            parse_filter(broken(seed).text, lenient=True)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(builtin_filters())), st.integers(0, 2**32))
def test_native_documents_with_any_value_in_any_place_are_refused_or_compiled(name: str, seed: int) -> None:
    some = Random(seed)
    document = builtin_filters()[name].model_dump(mode="json")
    _spoil(document, some)
    with contextlib.suppress(Invalid, Unsupported):
        one: Filter = parse_filter(json.dumps(document)).value
        values = {"IP": ["10.0.0.1"], "IPV6": ["fd00::1"], "DHCPSERVER": ["10.0.0.2"]}
        compile_binding({**builtin_filters(), one.name: one}, one.name, "vnet0", "52:54:00:00:00:01", values)


def _spoil(document: object, some: Random) -> None:
    """Put something else in one place."""
    while isinstance(document, dict | list) and document:
        place = some.choice(sorted(document)) if isinstance(document, dict) else some.randrange(len(document))
        inner = document[place]  # type: ignore[index]
        if not isinstance(inner, dict | list) or not inner or some.random() < 0.3:
            document[place] = some.choice((None, "", "x", -1, 10**20, [], {}, True, ["$A[@1]"], "$", "☃", "tcp"))  # type: ignore[index]
            return
        document = inner
