"""A pytest plugin: tests that need what this kernel lacks run in a machine with a stock kernel, all in one boot.

``@pytest.mark.stock_kernel("vlan", …)`` names abilities a test needs (``vnetd.model.capability.ABILITIES``). Where the
kernel has them, the test runs like every other. Where it lacks one, the test is replaced by an item
``…@stock-kernel``, and the results it has in the machine are reported as that item's. With ``here=True`` the test runs
here in any case, for it holds with and without the ability, and besides in the machine if the ability is missing here.
"""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.abilities import INSIDE, missing_feature
from support.machine import IN_INSTRUCTIONS, Machine, MachineError, prepared
from support.machine.errors import Unavailable

TOP = Path(__file__).resolve().parents[2]
MARKER = "stock_kernel"
SUFFIX = "@stock-kernel"
LIMIT = 1800.0
"""Seconds for all tests of the machine together, its boot included."""
REPORTS = "reports"
ENVIRONMENT = {INSIDE: "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": "."}
TIME_SPENT = "machine"
"""Name of the property that carries how long a machine took, for the closing section."""


class StockKernelItem(pytest.Item):
    """Stands for a test that runs in the machine; ``original`` is that test's id."""

    # Of no module: whatever module ran before it is torn down, and it needs no fixture itself.
    original: pytest.Item

    @classmethod
    def standing_for(cls, original: pytest.Item) -> "StockKernelItem":
        """An item of the same name with a suffix."""
        item: StockKernelItem = cls.from_parent(
            original.session, name=original.name + SUFFIX, nodeid=original.nodeid + SUFFIX
        )
        item.original = original
        item.path = original.path
        item.add_marker(pytest.mark.timeout(0))  # the machine has its own limit
        return item

    def runtest(self) -> None:
        """Never called: ``StockKernel`` reports in its place."""
        raise AssertionError("runs in the machine only")

    def reportinfo(self) -> Any:
        """Where the test is."""
        return self.original.reportinfo()


class StockKernel:
    """The plugin of a run outside: chooses the place of each test, boots the machine once, hands results out."""

    def __init__(self) -> None:
        self._items: list[StockKernelItem] = []
        self._results: dict[str, list[pytest.TestReport]] | None = None

    @pytest.hookimpl(trylast=True)  # what is deselected is gone by then
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put tests that cannot run here, or not here alone, at the end, as items of the machine."""
        here = []
        for item in items:
            needed, everywhere = _needs(item)
            missing = missing_feature(*needed)
            if missing:
                self._items.append(StockKernelItem.standing_for(item))
            if not missing or everywhere:
                here.append(item)
        items[:] = [*here, *self._items]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Report what the machine reported; the first such item boots it."""
        if not isinstance(item, StockKernelItem):
            return None
        if self._results is None:
            self._results = self._run(item)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._results[item.nodeid]:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, first: pytest.Item) -> dict[str, list[pytest.TestReport]]:
        begin = time.monotonic()
        results: dict[str, list[pytest.TestReport]] = {item.nodeid: [] for item in self._items}
        with tempfile.TemporaryDirectory(prefix="stock-kernel-") as name:
            outcome, reason = run_inside([item.original.nodeid for item in self._items], Path(name))
            for report in _reports(first.config, Path(name) / REPORTS):
                report.nodeid += SUFFIX
                results[report.nodeid].append(report)
        for item in self._items:
            # Without the report of its teardown it did not get to its end.
            if not any(report.when == "teardown" for report in results[item.nodeid]):
                results[item.nodeid].append(_instead(item, outcome, reason))
        results[first.nodeid][0].user_properties.append(time_spent("stock kernel", begin))
        return results


def run_inside(tests: Sequence[str], share: Path) -> tuple[str, str]:
    """Run these tests in a machine, which leaves its reports in ``share``.

    Returns the outcome of a test that has no report, ``failed`` or ``skipped``, and the reason.
    """
    (share / "tests").write_text("\n".join(tests))
    printed: list[bytes] = []
    try:
        machine = Machine(prepared(), environment=ENVIRONMENT, devices=IN_INSTRUCTIONS)
        status = machine.run(_pytest(share), limit=LIMIT, share=share, directory=TOP, output=printed.append)
    except Unavailable as error:
        return "skipped", str(error)
    except MachineError as error:
        return "failed", f"{error}\n{_end_of(printed)}"
    return (
        "failed",
        f"pytest ended with {status} in the machine, and this test did not get to its end\n{_end_of(printed)}",
    )


def _pytest(share: Path) -> list[str]:
    """The command that runs tests inside. Only plugins that are needed: to import one takes a second there."""
    python = str(TOP / ".venv/bin/python")
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
