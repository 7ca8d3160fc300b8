"""Which names of devices are free, however they were claimed and let go."""

from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st

from vnetd.reconcile.devices import MOST_TEMPLATES, Devices

TEMPLATES = ("vnet%d", "v%dnet", "%d", "vnet1%d")
NAMES = [*(f"vnet{number}" for number in range(13)), "vnet01", "vnet", "v1net", "v3net", "0", "1", "vnet1x"]


def lowest(devices: Devices, template: str) -> list[str]:
    """The first three free names, found by trying all."""
    names = (template.replace("%d", str(number)) for number in count())
    return list(islice((name for name in names if name not in devices.names()), 3))


@given(st.lists(st.tuples(st.sampled_from(["claim", "release"]), st.sampled_from(NAMES), st.integers(0, 2))))
def test_free_names_are_the_lowest_nobody_claims(steps: list[tuple[str, str, int]]) -> None:
    devices = Devices()
    for step, name, owner in steps:
        if step == "claim":
            devices.claim(name, f"port:{owner}")
        else:
            devices.release(f"port:{owner}")
        for template in TEMPLATES:
            assert list(islice(devices.free_names(template), 3)) == lowest(devices, template)


def test_callers_who_choose_templates_are_not_remembered_for_ever() -> None:
    devices = Devices()
    devices.claim("vnet0", "port:0")
    for number in range(3 * MOST_TEMPLATES):
        assert next(devices.free_names(f"guest{number}-%d")) == f"guest{number}-0"
        assert len(devices._lowest) <= MOST_TEMPLATES
    assert next(devices.free_names("vnet%d")) == "vnet1"
