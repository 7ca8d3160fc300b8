"""A pytest plugin: tests that need what this kernel lacks run in a machine with a stock kernel, all in one boot.

``@pytest.mark.stock_kernel("vlan", …)`` names abilities a test needs (``vnetd.model.capability.ABILITIES``). Where the
kernel has them, the test runs like every other. Where it lacks one, the test is replaced by an item
``…@stock-kernel``, and the results it has in the machine are reported as that item's. With ``here=True`` the test runs
here in any case, for it holds with and without the ability, and besides in the machine if the ability is missing here.

Where the libraries are what is too old, a machine would be no help: such a test runs on this kernel, in a newer system
(``support.newer_system``), as ``…@debian-13``.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.abilities import INSIDE, missing_feature
from support.debian_package import Unprepared
from support.machine import IN_INSTRUCTIONS, Machine, MachineError, prepared
from support.machine.errors import Unavailable
from support.newer_system import PYTHON, run_in_newer_system

TOP = Path(__file__).resolve().parents[2]
MARKER = "stock_kernel"
OF_LIBRARIES = {"nft-owned-tables"}
"""Abilities that take a newer library than Debian 12's, on a kernel this host may well have."""
LIMIT = 1800.0
"""Seconds for all tests of the machine together, its boot included."""
REPORTS = "reports"
ENVIRONMENT = {INSIDE: "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": "."}
TIME_SPENT = "machine"
"""Name of the property that carries how long a machine took, for the closing section."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where tests run that cannot run here.

    ``run`` has the tests of these ids leave their reports in a directory, and returns the outcome of a test that has
    none, ``failed`` or ``skipped``, and the reason. ``marks`` are names of markers of all that runs there.
    """

    name: str
    run: Callable[[Sequence[str], Path], tuple[str, str]]
    marks: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What the names of tests that run there end with in the report."""
        return f"@{self.name}"


class StandIn(pytest.Item):
    """Stands for a test that runs elsewhere; ``original`` is that test."""

    # Of no module: whatever module ran before it is torn down, and it needs no fixture itself.
    original: pytest.Item
    place: Place

    @classmethod
    def of(cls, original: pytest.Item, place: Place) -> "StandIn":
        """An item of the same name with a suffix, chosen with ``-k`` and ``-m`` by what the test would be chosen by."""
        item: StandIn = cls.from_parent(
            original.session, name=original.name + place.suffix, nodeid=original.nodeid + place.suffix
        )
        item.original = original
        item.place = place
        item.path = original.path
        item.own_markers.append(pytest.mark.timeout(0).mark)  # the place has its own limit
        item.own_markers += original.iter_markers()
        for mark in place.marks:
            item.add_marker(mark)
        item.extra_keyword_matches.update(node.name for node in original.listchain())
        return item

    def runtest(self) -> None:
        """Never called: ``StockKernel`` reports in its place."""
        raise AssertionError("runs elsewhere only")

    def reportinfo(self) -> Any:
        """Where the test is."""
        return self.original.reportinfo()


class StockKernel:
    """The plugin of a run outside: chooses the place of each test, goes to each place once, hands results out."""

    def __init__(self) -> None:
        self._items: list[StandIn] = []
        self._results: dict[Place, dict[str, list[pytest.TestReport]]] = {}

    @pytest.hookimpl(tryfirst=True)  # so that `-m "not machine"` deselects what would run there, and only there
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Put tests that cannot run here, or not here alone, at the end, as items of their place."""
        here, elsewhere = [], []
        for item in items:
            needed, everywhere = _needs(item)
            missing = {name for name in needed if missing_feature(name)}
            if missing:
                place = NEWER_SYSTEM if missing <= OF_LIBRARIES else STOCK_KERNEL
                elsewhere.append(StandIn.of(item, place))
            if not missing or everywhere:
                here.append(item)
        items[:] = [*here, *elsewhere]
        more = pytest.CollectReport("", "passed", None, [item for item in elsewhere if item.original in here])
        session.config.hook.pytest_collectreport(report=more)  # pytest counts what it is told of

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what was not deselected."""
        self._items = [item for item in session.items if isinstance(item, StandIn)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Report what was reported elsewhere; the first such item has all tests of its place run."""
        if not isinstance(item, StandIn):
            return None
        if item.place not in self._results:
            self._results[item.place] = self._run(item)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._results[item.place][item.nodeid]:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, first: StandIn) -> dict[str, list[pytest.TestReport]]:
        begin = time.monotonic()
        items = [item for item in self._items if item.place == first.place]
        results: dict[str, list[pytest.TestReport]] = {item.nodeid: [] for item in items}
        with tempfile.TemporaryDirectory(prefix=f"{first.place.name}-") as name:
            outcome, reason = first.place.run([item.original.nodeid for item in items], Path(name))
            for report in _reports(first.config, Path(name) / REPORTS):
                report.nodeid += first.place.suffix
                results[report.nodeid].append(report)
        for item in items:
            # Without the report of its teardown it did not get to its end.
            if not any(report.when == "teardown" for report in results[item.nodeid]):
                results[item.nodeid].append(_instead(item, outcome, reason))
        results[first.nodeid][0].user_properties.append(time_spent(first.place.name, begin))
        return results


def run_inside(tests: Sequence[str], share: Path) -> tuple[str, str]:
    """Run these tests in a machine; see ``Place``."""
    (share / "tests").write_text("\n".join(tests))
    printed: list[bytes] = []
    try:
        machine = Machine(prepared(), environment=ENVIRONMENT, devices=IN_INSTRUCTIONS)
        status = machine.run(
            _pytest(str(TOP / ".venv/bin/python")), limit=LIMIT, share=share, directory=TOP, output=printed.append
        )
    except Unavailable as error:
        return "skipped", str(error)
    except MachineError as error:
        return "failed", f"{error}\n{_end_of(printed)}"
    return (
        "failed",
        f"pytest ended with {status} in the machine, and this test did not get to its end\n{_end_of(printed)}",
    )


def run_in_debian_13(tests: Sequence[str], share: Path) -> tuple[str, str]:
    """Run these tests on this kernel, with the libraries of Debian 13; see ``Place``."""
    (share / "tests").write_text("\n".join(tests))
    try:
        printed = run_in_newer_system(_pytest(PYTHON), ENVIRONMENT, share)
    except Unprepared as error:
        return "skipped", str(error)
    except subprocess.TimeoutExpired as error:
        return "failed", f"{error}\n{_end_of([error.stdout or b''])}"
    return "failed", f"this test did not get to its end\n{_end_of([printed.encode()])}"


STOCK_KERNEL = Place("stock-kernel", run_inside, ("machine",))
NEWER_SYSTEM = Place("debian-13", run_in_debian_13)


def _pytest(python: str) -> list[str]:
    """The command that runs tests elsewhere. Only plugins that are needed: to import one takes a machine a second."""
    options = ["-c", "tests/vm/inside.ini", "--rootdir", ".", "--confcutdir", ".", "-p", "no:cacheprovider"]
    plugins = ["-p", "asyncio", "-p", "timeout", "-p", "rerunfailures", "-p", "support.reporting"]
    return ["scripts/isolated", python, "-m", "pytest", *options, *plugins, "-v", "@/machine/tests"]


def _needs(item: pytest.Item) -> tuple[list[str], bool]:
    """The abilities a test needs, and whether it runs without them too."""
    marks = list(item.iter_markers(MARKER))
    return [name for mark in marks for name in mark.args], any(mark.kwargs.get("here") for mark in marks)


def _reports(config: pytest.Config, file: Path) -> Iterator[pytest.TestReport]:
    lines = file.read_text().splitlines() if file.exists() else []
    for line in lines:
        with suppress(json.JSONDecodeError):  # the last one, if the machine ended while it was written
            report = config.hook.pytest_report_from_serializable(config=config, data=json.loads(line))
            if isinstance(report.longrepr, list):
                report.longrepr = tuple(report.longrepr)  # of a skip; JSON knows no tuples
            yield report


def _instead(item: pytest.Item, outcome: Any, reason: str) -> pytest.TestReport:
    place, line, _ = item.location
    longrepr: Any = (place, line or 0, f"Skipped: {reason}") if outcome == "skipped" else reason
    return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, longrepr, "call")


def _end_of(printed: Iterable[bytes]) -> str:
    return "\n".join(b"".join(printed).decode(errors="replace").splitlines()[-40:])


def time_spent(machine: str, begin: float) -> tuple[str, str]:
    """A property for a test's report: that ``machine`` took from ``begin`` (monotonic) until now."""
    return TIME_SPENT, f"{machine}: {time.monotonic() - begin:.0f} s"
