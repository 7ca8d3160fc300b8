"""vnetd on a machine that is about to boot: from this checkout, at the places a package would use."""

import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
LIBRARY = "/usr/lib/vnetd"
PROGRAM = """#!{interpreter} -P
import sys
sys.path[:0] = ["{library}/source", "{library}/source/clients", "{library}/packages"]
from {module} import {function}
sys.exit({function}())
"""


def installing() -> str:
    """A shell script that does it. Source and packages are bound to a place the service's sandbox lets it see."""
    packages = Path(distribution("pydantic").locate_file(".")).resolve()
    lines = ["set -e", f"mkdir -p {LIBRARY}/source {LIBRARY}/packages"]
    for source, name in ((TOP, "source"), (packages, "packages")):
        lines.append(f"mount --bind {shlex.quote(str(source))} {LIBRARY}/{name}")
    for source, target in _places():
        lines.append(f"mkdir -p {target.parent}; cp {shlex.quote(str(source))} {target}")
    for script in distribution("vnetd").entry_points.select(group="console_scripts"):
        module, function = script.value.split(":")
        text = PROGRAM.format(
            interpreter=sys._base_executable, library=LIBRARY, module=module, function=function
        )  # fmt: skip
        lines.append(f"printf %s {shlex.quote(text)} >/usr/bin/{script.name}; chmod 755 /usr/bin/{script.name}")
    lines.append("systemd-sysusers vnetd.conf")
    return "\n".join(lines)


def _places() -> Iterator[tuple[Path, Path]]:
    """Files and where they are installed, by ``packaging/files``; no network of its own to begin with."""
    for line in (TOP / "packaging/files").read_text().splitlines():
        match line.partition("#")[0].split():
            case [source, target, _] if "default-network" not in source:
                for found in TOP.glob(source):
                    yield found, Path(target) / found.name if target.endswith("/") else Path(target)
