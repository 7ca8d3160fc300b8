"""What the planner promises: its steps lead from any state to the desired one, in an order the kernel accepts."""

from dataclasses import asdict, replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnetd.plan.dnsmasq import DnsmasqState, Instance
from vnetd.plan.kernel import (
    AddAddress,
    AddConnectedRoute,
    AddRoute,
    CreateBridge,
    DeleteAddress,
    DeleteRoute,
    DisableTxChecksum,
    SetBridge,
    SetLink,
    WriteSysctl,
)
from vnetd.plan.links import BridgeOptions, BridgeState, KernelRoute, Link, LinkView
from vnetd.plan.network import (
    DesiredNetwork,
    ForeignLink,
    KernelStep,
    ObservedNetwork,
    ReloadDnsmasq,
    RulesStep,
    StartDnsmasq,
    Step,
    StopDnsmasq,
    Sysctl,
    link_local,
    plan,
)
from vnetd.plan.rules import Element, Fragment

UUID = "8a54c7f3-e910-4d12-8312-34a11467ac86"
ALIAS = f"vnetd:network:{UUID}"
ADDRESSES = [ip_interface(text) for text in ("192.168.77.1/24", "10.1.0.1/16", "fd77::1/64", "fe80::1/64")]
ROUTES = [
    KernelRoute(ip_network("10.9.0.0/16"), ip_address("192.168.77.2")),
    KernelRoute(ip_network("fd99::/48"), ip_address("fd77::2"), 1024),
]
FRAGMENTS = [Fragment(), Fragment(elements=frozenset({Element("inet", "guarded", ("virbr7",))}))]
FORWARDING = ("net", "ipv4", "conf", "virbr7", "forwarding")
DISABLE = ("net", "ipv6", "conf", "virbr7", "disable_ipv6")

bridges = st.builds(
    CreateBridge,
    name=st.just("virbr7"),
    mac=st.sampled_from(["52:54:00:00:00:01", "52:54:00:00:00:02"]),
    mtu=st.sampled_from([1500, 9000]),
    stp=st.booleans(),
    forward_delay=st.sampled_from([0, 200, 1500]),
    alias=st.just(ALIAS),
    options=st.builds(BridgeOptions, multicast_snooping=st.none() | st.booleans()),
)
instances = st.builds(
    Instance,
    network=st.just(UUID),
    bridge=st.just("virbr7"),
    files=st.fixed_dictionaries({"dnsmasq.conf": st.sampled_from("ab"), "hosts": st.sampled_from("cd")}),
)
desired_networks = st.builds(
    DesiredNetwork,
    uuid=st.just(UUID),
    bridge=bridges,
    addresses=st.lists(st.sampled_from(ADDRESSES), unique=True).map(tuple),
    routes=st.lists(st.sampled_from(ROUTES), unique=True).map(tuple),
    sysctls=st.just((Sysctl(DISABLE, "1", optional=True), Sysctl(FORWARDING, "1"))),
    fragment=st.sampled_from(FRAGMENTS),
    dnsmasq=st.none() | instances,
    complete_checksums=st.booleans(),
)
links = st.builds(
    Link,
    index=st.just(7),
    name=st.just("virbr7"),
    kind=st.just("bridge"),
    mac=st.sampled_from(["52:54:00:00:00:01", "52:54:00:00:00:02"]),
    mtu=st.sampled_from([1500, 9000]),
    up=st.booleans(),
    alias=st.just(ALIAS),
    bridge=st.builds(
        BridgeState,
        stp=st.booleans(),
        forward_delay=st.sampled_from([0, 200, 1500]),
        multicast_snooping=st.booleans(),
    ),
)
views = st.builds(
    LinkView,
    link=links,
    addresses=st.frozensets(st.sampled_from(ADDRESSES)),
    routes=st.frozensets(st.sampled_from(ROUTES)),
    connected=st.frozensets(st.sampled_from([address.network for address in ADDRESSES])),
)
observed_networks = st.builds(
    ObservedNetwork,
    view=st.none() | views,
    sysctls=st.dictionaries(st.sampled_from([FORWARDING, DISABLE]), st.sampled_from(["0", "1"])),
    fragment=st.none() | st.sampled_from(FRAGMENTS),
    dnsmasq=st.builds(
        DnsmasqState,
        pid=st.sampled_from([0, 4711]),
        started_with=st.none() | st.sampled_from("ab"),
        files=st.dictionaries(st.sampled_from(["dnsmasq.conf", "hosts"]), st.sampled_from("abcd")),
    ),
)


def executed(state: ObservedNetwork, step: Step) -> ObservedNetwork:
    """The state after one step, refusing what the kernel would refuse."""
    match step:
        case RulesStep():
            return replace(state, fragment=step.fragment)
        case StartDnsmasq() | ReloadDnsmasq():
            started = (
                state.dnsmasq.started_with if isinstance(step, ReloadDnsmasq) else step.instance.files["dnsmasq.conf"]
            )
            return replace(state, dnsmasq=DnsmasqState(1, started, dict(step.instance.files)))
        case StopDnsmasq():
            return replace(state, dnsmasq=DnsmasqState(0, None, {}))
        case KernelStep(operation=SetBridge() as change):
            return options_changed(state, change)
        case KernelStep():
            return kernel_executed(state, step.operation)


def kernel_executed(state: ObservedNetwork, operation: object) -> ObservedNetwork:
    view = state.view
    if isinstance(operation, CreateBridge):
        assert view is None, "File exists"
        made = operation
        bridge = with_options(BridgeState(made.stp, made.forward_delay), made.options)
        link = Link(7, made.name, "bridge", made.mac, made.mtu, False, made.alias, bridge=bridge)
        return replace(state, view=LinkView(link, frozenset(), frozenset()))
    assert view is not None, "No such device"
    match operation:
        case WriteSysctl():
            return replace(state, sysctls={**state.sysctls, operation.path: operation.value})
        case AddAddress():
            assert operation.address not in view.addresses, "File exists"
            subnets = view.connected | {operation.address.network}
            return replace(state, view=replace(view, addresses=view.addresses | {operation.address}, connected=subnets))
        case AddConnectedRoute():
            assert view.link.up, "Network is down"
            return replace(state, view=replace(view, connected=view.connected | {operation.address.network}))
        case DeleteAddress():
            return replace(state, view=replace(view, addresses=view.addresses - {operation.address}))
        case AddRoute():
            assert view.link.up, "Network is down"
            return replace(state, view=replace(view, routes=view.routes | {operation.route}))
        case DeleteRoute():
            return replace(state, view=replace(view, routes=view.routes - {operation.route}))
        case SetLink():
            # Raising a link routes the subnets of its addresses to it.
            subnets = {address.network for address in view.addresses} if operation.up else set()
            link = link_changed(view.link, operation)
            return replace(state, view=replace(view, link=link, connected=view.connected | subnets))
        case DisableTxChecksum():
            return state
    raise AssertionError(f"unexpected {operation}")


def options_changed(state: ObservedNetwork, change: SetBridge) -> ObservedNetwork:
    assert state.view is not None and state.view.link.bridge is not None, "No such device"
    link = replace(state.view.link, bridge=with_options(state.view.link.bridge, change.options))
    return replace(state, view=replace(state.view, link=link))


def link_changed(link: Link, change: SetLink) -> Link:
    assert link.bridge is not None
    for name in ("mac", "mtu", "up"):
        if (value := getattr(change, name)) is not None:
            link = replace(link, **{name: value})
    stp = link.bridge.stp if change.stp is None else change.stp
    delay = link.bridge.forward_delay if change.forward_delay is None else change.forward_delay
    return replace(link, bridge=replace(link.bridge, stp=stp, forward_delay=delay))


def with_options(bridge: BridgeState, options: BridgeOptions) -> BridgeState:
    return replace(bridge, **{name: value for name, value in asdict(options).items() if value is not None})


@given(desired_networks, observed_networks)
def test_planning_again_after_executing_gives_nothing(desired: DesiredNetwork, observed: ObservedNetwork) -> None:
    for step in plan(desired, observed):
        observed = executed(observed, step)
    assert plan(desired, observed) == []


@given(desired_networks, desired_networks, st.sampled_from(ADDRESSES))
def test_a_change_removes_what_was_wanted_before_and_spares_what_others_added(
    before: DesiredNetwork, after: DesiredNetwork, added: object
) -> None:
    state = ObservedNetwork(None, {}, None, DnsmasqState(0, None, {}))
    for step in plan(before, state):
        state = executed(state, step)
    assert state.view is not None
    foreign = ip_interface("172.31.0.9/32")
    state = replace(state, view=replace(state.view, addresses=state.view.addresses | {foreign}))
    for step in plan(after, state, before):
        state = executed(state, step)
    assert state.view is not None
    assert state.view.addresses == {*after.addresses, foreign}
    assert set(after.routes) == state.view.routes


@given(desired_networks)
def test_rules_are_in_force_before_the_bridge_has_addresses_or_is_up(desired: DesiredNetwork) -> None:
    steps = plan(desired, ObservedNetwork(None, {}, None, DnsmasqState(0, None, {})))
    kinds = [type(step.operation) if isinstance(step, KernelStep) else type(step) for step in steps]
    rules = kinds.index(RulesStep) if desired.fragment != Fragment() else -1
    up = SetLink("virbr7", up=True)
    raised = next(at for at, step in enumerate(steps) if isinstance(step, KernelStep) and step.operation == up)
    assert kinds[rules + 1] is CreateBridge
    assert all(position > rules for position, kind in enumerate(kinds) if kind is AddAddress)
    assert raised > rules
    assert all(position > raised for position, kind in enumerate(kinds) if kind is AddRoute)
    assert StartDnsmasq not in kinds or kinds[-1] is StartDnsmasq


@given(desired_networks, views)
def test_a_device_that_is_not_ours_is_never_touched(desired: DesiredNetwork, view: LinkView) -> None:
    foreign = replace(view, link=replace(view.link, alias="somebody else's"))
    with pytest.raises(ForeignLink):
        plan(desired, ObservedNetwork(foreign, {}, None, DnsmasqState(0, None, {})))


def test_the_link_local_address_is_derived_as_the_kernel_does() -> None:
    assert str(link_local("52:54:00:4d:94:67")) == "fe80::5054:ff:fe4d:9467/64"
