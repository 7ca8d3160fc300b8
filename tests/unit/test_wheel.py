"""What an installed daemon brings along."""

import zipfile
from pathlib import Path

import pytest
from support.wheel import TOP, build_wheel


@pytest.mark.slow
def test_the_wheel_holds_the_programs_and_the_data_they_need(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        names = set(wheel.namelist())
    contracts = {f"vnetd/bus/contracts/{contract.name}" for contract in TOP.glob("dbus/*.xml")}
    assert contracts
    assert contracts <= names
    files = {str(file.relative_to(TOP)) for file in (TOP / "vnetd").rglob("*.*") if file.suffix != ".pyc"}
    assert files <= names
    assert "vnetctl/__init__.py" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "scripts/", "support/"))]
