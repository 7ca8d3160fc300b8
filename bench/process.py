"""What the kernel says about a running process."""

from pathlib import Path


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    return int(_field(Path(f"/proc/{pid}/status"), "VmRSS")) * 1024


def wake_ups(pid: int) -> int:
    """How often any of its threads has waited and gone on so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int(_field(task / "status", "voluntary_ctxt_switches")) for task in tasks)


def _field(status: Path, name: str) -> str:
    return next(line.split()[1] for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
