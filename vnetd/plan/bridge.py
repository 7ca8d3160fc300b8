"""A bridge of ours: from what is there to what should be, for networks and switches alike."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

from vnetd.plan.kernel import CreateBridge, SetBridge, SetLink, WriteSysctl
from vnetd.plan.links import BridgeOptions, BridgeState, Link
from vnetd.plan.steps import ForeignLink, KernelStep, Phase, Sysctl


def plan_bridge(want: CreateBridge, have: Link | None, ours: bool) -> Iterator[KernelStep]:
    """Steps that make the bridge or put right what differs, and raise it.

    ``ours``: it has the index of the one vnetd made, so that it is ours even if its alias was changed. Raises
    ``ForeignLink`` if the name is taken by a link that is not ours.
    """
    what = f"bridge {want.name}"
    if have is None:
        yield KernelStep(Phase.LINK, what, want)
    elif have.alias != want.alias and not ours:
        raise ForeignLink(want.name)
    else:
        for change in _bridge_changes(want, have):
            yield KernelStep(Phase.LINK, what, change)
    if have is None or not have.up:
        yield KernelStep(Phase.UP, what, SetLink(want.name, up=True))


def plan_sysctls(
    wanted: Iterable[Sysctl], have: Mapping[tuple[str, ...], str | None], exists: bool
) -> Iterator[KernelStep]:
    """Steps that write what differs; ``exists``: the device they are of is there already."""
    for sysctl in wanted:
        value = have.get(sysctl.path)
        if value != sysctl.value and not (value is None and sysctl.optional and exists):
            what = f"sysctl {'/'.join(sysctl.path)}"
            yield KernelStep(Phase.LINK, what, WriteSysctl(sysctl.path, sysctl.value, sysctl.optional))


def _bridge_changes(want: CreateBridge, have: Link) -> Iterator[SetLink | SetBridge]:
    state = have.bridge or BridgeState(stp=want.stp, forward_delay=want.forward_delay)
    if state.stp and not want.stp:
        # In one request the kernel would take the delay first, and none below 2 s while STP is on.
        yield SetLink(want.name, stp=False)
    change = SetLink(
        want.name,
        mac=want.mac if have.mac != want.mac else None,
        mtu=want.mtu if have.mtu != want.mtu else None,
        alias=want.alias if have.alias != want.alias else None,
        stp=True if want.stp and not state.stp else None,
        forward_delay=want.forward_delay if state.forward_delay != want.forward_delay else None,
    )
    if change != SetLink(want.name):
        yield change
    options = _differing(want.options, state)
    if options != BridgeOptions():
        yield SetBridge(want.name, options)


def _differing(want: BridgeOptions, have: BridgeState) -> BridgeOptions:
    """The options that differ; those nobody asked for may be as they like."""
    wanted = {option.name: getattr(want, option.name) for option in fields(BridgeOptions)}
    return BridgeOptions(
        **{name: value for name, value in wanted.items() if value is not None and value != getattr(have, name)}
    )
