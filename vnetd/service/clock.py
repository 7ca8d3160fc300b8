"""The clock of deadlines that outlive the daemon."""

import time


def boottime() -> float:
    """Seconds since the machine started, time asleep included: the same for every run of the daemon in one boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
