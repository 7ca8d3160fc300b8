"""What an installed daemon brings along."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "vnetd", "clients", "dbus")


def test_the_wheel_holds_the_programs_and_the_contracts_they_need(tmp_path: Path) -> None:
    # Built from a copy: setuptools leaves its traces beside the sources.
    for name in SOURCES:
        source = TOP / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    with zipfile.ZipFile(next(tmp_path.glob("out/*.whl"))) as wheel:
        names = set(wheel.namelist())
    contracts = {f"vnetd/bus/contracts/{contract.name}" for contract in TOP.glob("dbus/*.xml")}
    assert contracts
    assert contracts <= names
    files = {str(file.relative_to(TOP)) for file in (TOP / "vnetd").rglob("*.*") if file.suffix != ".pyc"}
    assert files <= names
    assert "vnetctl/__init__.py" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "scripts/", "support/"))]
