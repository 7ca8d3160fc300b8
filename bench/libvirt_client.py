"""Drives libvirt through its own Python binding; runs inside libvirt's root directory, by that system's Python.

Reads a job as JSON from standard input and writes lists of seconds as JSON to standard output.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import libvirt  # type: ignore[import-not-found]  # only where this runs

SOCKET = "?socket=/run/libvirt/libvirt-sock"


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds an action took, and its result."""
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def start_and_stop(networks: Any, document: str, rounds: int) -> dict[str, list[float]]:
    """Start and stop a defined network, call to return."""
    network = networks.networkDefineXML(document)
    seconds: dict[str, list[float]] = {"start": [], "stop": []}
    for _ in range(rounds):
        seconds["start"].append(timed(network.create)[0])
        seconds["stop"].append(timed(network.destroy)[0])
    return seconds


def bind_and_unbind(filters: Any, documents: list[str], binding: str, rounds: int) -> dict[str, list[float]]:
    """Bind the last of the filters to a device and remove the binding again."""
    for document in documents:
        filters.nwfilterDefineXML(document)
    seconds: dict[str, list[float]] = {"bind": [], "unbind": []}
    for _ in range(rounds):
        took, bound = timed(lambda: filters.nwfilterBindingCreateXML(binding, 0))
        seconds["bind"].append(took)
        seconds["unbind"].append(timed(bound.delete)[0])
    return seconds


def reads(networks: Any, name: str, length: float) -> float:
    """Look a network up by its name for ``length`` seconds; calls a second."""
    done = 0
    end = time.perf_counter() + length
    while time.perf_counter() < end:
        networks.networkLookupByName(name)
        done += 1
    return done / length


def main() -> None:
    """Do the job, or only bind filters that stay bound."""
    job = json.load(sys.stdin)
    if "bind" in job:
        filters = libvirt.open(f"nwfilter:///system{SOCKET}")
        for document in job["bind"]:
            filters.nwfilterBindingCreateXML(document, 0)
        return
    networks = libvirt.open(f"network:///system{SOCKET}")
    filters = libvirt.open(f"nwfilter:///system{SOCKET}")
    result: dict[str, Any] = start_and_stop(networks, job["network"], job["rounds"])
    result |= bind_and_unbind(filters, job["filters"], job["binding"], job["filter_rounds"])
    result["reads"] = reads(networks, job["name"], job["seconds"])
    json.dump(result, sys.stdout)


main()
