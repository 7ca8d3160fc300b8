"""A bare Debian 13 on this host's kernel, for tests that need newer libraries than this host has.

Nothing boots: it is the root file system that packages are tried on. Tests find there the checkout, the Python packages
of vnetd's Debian package, which are made for that release's Python, and this run's pytest.
"""

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.debian_package import TOP, prepared, unpacked

RELEASE = "trixie"
PYTHON = "/usr/bin/python3"
LIMIT = 600.0
"""Seconds for all of its tests together."""
LIBRARIES = "usr/lib/vnetd/lib/python3.*/site-packages"


def run_in_newer_system(command: Sequence[str], environment: Mapping[str, str], share: Path) -> str:
    """What ``command`` prints there, in the checkout. It finds the directory ``share`` as ``/machine``.

    Raises ``debian_package.Unprepared``, and ``subprocess.TimeoutExpired`` if it does not end in time.
    """
    made = prepared(RELEASE)
    testing = Path(pytest.__file__).resolve().parents[1]
    shared = {str(TOP): TOP, str(testing): testing, "/machine": share}
    with tempfile.TemporaryDirectory(prefix="newer-system-") as work:
        system = unpacked(made.system, Path(work) / "root", shared)
        subprocess.run(["dpkg-deb", "--extract", made.package, system.root], check=True)
        libraries = next(system.root.glob(LIBRARIES)).relative_to(system.root)
        # vnetd's own packages first: of pytest's environment only what is made for every Python can be used.
        places = [*map(str, (TOP, TOP / "clients", f"/{libraries}", testing)), environment.get("PYTHONPATH", "")]
        variables = {**environment, "PYTHONPATH": ":".join(places), "PYTHONDONTWRITEBYTECODE": "1"}
        assigned = [f"{name}={value}" for name, value in variables.items()]
        line = ["env", "-C", str(TOP), *assigned, "sh", "-c", 'exec "$@" 2>&1', "sh", *command]
        return system.run(*line, check=False, timeout=LIMIT)
