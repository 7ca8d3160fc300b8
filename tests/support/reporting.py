"""A pytest plugin for a run inside a machine: writes each report down where the run outside finds it."""

import json
from pathlib import Path

import pytest
from support.machine.guest import SHARE
from support.stock_kernel import REPORTS

_config: list[pytest.Config] = []


def pytest_configure(config: pytest.Config) -> None:
    """Reports can only be made serializable by a run's configuration."""
    _config.append(config)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line of JSON for each."""
    data = _config[-1].hook.pytest_report_to_serializable(config=_config[-1], report=report)
    with Path(SHARE, REPORTS).open("a") as file:
        file.write(json.dumps(data) + "\n")
