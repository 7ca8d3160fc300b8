"""Keeps tests off the machine's own network, and gives them networks to try things on.

As root, pytest starts itself once more inside ``scripts/isolated``: in network, mount and process namespaces of its
own. Every test marked ``kernel`` (all below tests/kernel are) then gets a network namespace of its own on top, so no
test sees what another left. Where that cannot be had, kernel tests are skipped, and never run on the machine itself.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.abilities import missing_feature, on_stock_kernel
from support.netns import CLONE_NEWNET, Guest, Lab, Namespace, entered, run
from support.outside import Outside, outside_of
from support.private_bus import PrivateBus, private_bus
from support.stock_kernel import MARKER, TIME_SPENT, StockKernel

TOP = Path(__file__).resolve().parent.parent
INITIAL = "VNETD_INITIAL_NETNS"

with suppress(ImportError):  # in a newer system than this run's hypothesis was compiled for
    from hypothesis import settings

    # How long an example takes says something of the machine, nothing of the product. Where CI is set hypothesis itself
    # tries the same examples each time.
    settings.register_profile("vnetd", settings.get_profile(settings.get_current_profile_name()), deadline=None)
    settings.load_profile("vnetd")


def _own_namespace() -> str:
    return os.readlink("/proc/self/ns/net")


def isolated() -> bool:
    """Whether this process runs in another network namespace than the machine's."""
    return INITIAL in os.environ and os.environ[INITIAL] != _own_namespace()


def pytest_configure(config: pytest.Config) -> None:
    """Start over inside ``scripts/isolated`` when nobody did."""
    if isolated() and not on_stock_kernel():
        config.pluginmanager.register(StockKernel())
    if isolated() or os.geteuid() != 0 or hasattr(config, "workerinput"):
        return
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()  # or the new process would write where nobody reads
    command = [str(TOP / "scripts" / "isolated"), sys.executable, "-m", "pytest", *config.invocation_params.args]
    os.chdir(config.invocation_params.dir)
    os.execv(command[0], command)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below tests/kernel is a kernel test, all below tests/vm boots machines. Some have a second try.

    Those are kernel and component tests.

    The former wait for real clients and clocks on a machine that may be busy; the latter refuse the n-th call to the
    host, and how many looks the loop takes meanwhile is a matter of time. What failed first is printed with its
    traceback and counted in the closing line; all other tests have one try.
    """
    for item in items:
        folders = item.path.relative_to(TOP / "tests").parts
        if "kernel" in folders:
            item.add_marker(pytest.mark.kernel)
        if "vm" in folders:
            item.add_marker(pytest.mark.machine)
        if item.get_closest_marker("kernel") or "component" in folders:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Machines are one worker's business."""
    if config.getvalue("dist") != "loadscope":
        return None
    from support.machine_schedule import MachinesFirst

    return MachinesFirst(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how long tests elsewhere took."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    told = {text for one in reports for name, text in getattr(one, "user_properties", ()) if name == TIME_SPENT}
    if told:
        terminalreporter.section("machines in emulation, and a newer system")
        for text in sorted(told):
            terminalreporter.line(text)


@pytest.fixture(autouse=True)
def _skipped_where_the_stock_kernel_lacks_it_too(request: pytest.FixtureRequest) -> None:
    if not on_stock_kernel():
        return
    needed = [name for mark in request.node.iter_markers(MARKER) for name in mark.args]
    if missing := missing_feature(*needed):
        pytest.skip(missing)


@pytest.fixture(autouse=True)
def _kernel_tests_have_a_namespace_of_their_own(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("kernel") is None:
        yield
        return
    if not isolated():
        pytest.skip("needs root and a throwaway network namespace: ./test, or as root scripts/isolated pytest …")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        run("ip", "link", "set", "lo", "up")
        yield
    finally:
        if libc.setns(before, CLONE_NEWNET) != 0:
            pytest.exit("cannot return to the namespace of the test run: nothing after this would be isolated")
        os.close(before)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Makes namespaces; all are gone, with what runs in them, when the test ends."""
    if not isolated():
        pytest.skip("needs root and a throwaway network namespace: ./test, or as root scripts/isolated pytest …")
    with Lab() as made:
        yield made


@pytest.fixture
def netns(lab: Lab) -> Callable[[str], Namespace]:
    """``netns("name")``: a fresh namespace."""
    return lab.namespace


@pytest.fixture
def host_ns(lab: Lab) -> Namespace:
    """The namespace in which a daemon runs: a host without any network yet."""
    return lab.namespace("host")


@pytest.fixture
def outside(lab: Lab, host_ns: Namespace) -> Outside:
    """A host outside, behind ``host_ns``'s device ``uplink0``, which has its default routes."""
    return outside_of(lab, host_ns)


@pytest.fixture
def guest(lab: Lab, host_ns: Namespace) -> Callable[..., Guest]:
    """``guest("virbr0")``: a namespace with its ``eth0`` plugged into a bridge of ``host_ns``."""

    def plug(bridge: str, name: str = "guest", mac: str = "") -> Guest:
        return lab.guest(host_ns, bridge, name, mac)

    return plug


@pytest.fixture
def root() -> Iterator[Path]:
    """A root directory for a daemon. Not below pytest's own, which only its user can pass, and dnsmasq must."""
    with tempfile.TemporaryDirectory(prefix="vnetd-root-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    """A message bus of one's own."""
    with private_bus() as made:
        yield made


@pytest.fixture
def inside_host(host_ns: Namespace) -> Iterator[Namespace]:
    """Puts the test's own thread, and threads it starts, into ``host_ns``."""
    with entered(host_ns.path):
        yield host_ns
