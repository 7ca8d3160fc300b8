"""vnetd as it is installed: a wheel built from a copy of the checkout, and an environment that has it alone."""

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "vnetd", "clients", "dbus")


def build_wheel(directory: Path) -> Path:
    """The wheel, built below ``directory`` without the network."""
    # Built from a copy: setuptools leaves its traces beside the sources.
    for name in SOURCES:
        source = TOP / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, directory / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "-w", "out", ".", cwd=directory)
    return next(directory.glob("out/*.whl"))


@dataclass(frozen=True, slots=True)
class Installation:
    """A virtual environment into which the wheel was installed."""

    directory: Path

    def program(self, name: str) -> str:
        """Path of a program or interpreter of this environment."""
        return str(self.directory / "bin" / name)

    def run(self, name: str, *arguments: str) -> str:
        """What a program prints. It has to succeed; the checkout is nowhere on its way."""
        done = subprocess.run(
            [self.program(name), *arguments],
            cwd=self.directory,
            env=bare_environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout


def install(wheel: Path, directory: Path) -> Installation:
    """Install the wheel into a new environment, which borrows all that vnetd depends on from the one that runs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=60)
    installation = Installation(directory)
    _pip("--python", installation.program("python"), "install", "--no-deps", "--no-index", str(wheel), cwd=directory)
    # The files of a directory named here are not executed, so the checkout's editable installation stays unknown.
    site = next(directory.glob("lib/python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return installation


def bare_environment() -> dict[str, str]:
    """This environment without what could lead to the checkout's modules."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _pip(*arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
