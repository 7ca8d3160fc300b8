"""``bench/run``: exit status 0 if both could be measured, 2 if not; with ``--strict`` 1 if an aim is missed."""

import argparse
import asyncio
import sys
import traceback
from pathlib import Path

from rich.console import Console
from support.netns import Lab

from bench import libvirt_peer
from bench.boot import boot_figure
from bench.figures import Figure, against_the_kernel, loop_lag, milliseconds, own_figures
from bench.forwarding import Rates, forwarding_figures, vnetd_rates
from bench.job import Job, Measured
from bench.ports import port_figures
from bench.report import draw, save
from bench.vnetd_peer import measure, running


async def _vnetd(job: Job, lab: Lab, peer: Rates) -> tuple[Measured, list[Figure]]:
    async with running(lab) as run:
        measured, deletions = await measure(job, run)
        figures = against_the_kernel(deletions)
        figures.append(milliseconds("bind a filter", measured.bind, 5))
        figures.append(milliseconds("unbind it", measured.unbind, 5))
        figures += await own_figures(job, run, lab)
    async with running(lab) as run:
        for document in job.filters:
            await run.client.define_filter(document)
        figures += await port_figures(run, lab, job.port_rounds)
        figures += forwarding_figures(await vnetd_rates(run, lab), peer)
    figures.append(await boot_figure(lab))
    figures.append(await loop_lag(job, lab))
    return measured, figures


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser("bench/run")
    parser.add_argument("--libvirt-root", type=Path, required=True, help="root directory with Debian's libvirt")
    parser.add_argument("--rounds", type=int, default=50, help="of each of vnetd's actions")
    parser.add_argument("--json", type=Path, help="write everything measured there as well")
    parser.add_argument("--strict", action="store_true", help="fail if an aim is missed")
    options = parser.parse_args()
    job = Job(rounds=options.rounds)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        with Lab() as lab:
            console.print("libvirt …")
            libvirt, rates = libvirt_peer.measure(job, options.libvirt_root, lab)
        with Lab() as lab:
            console.print("vnetd …")
            vnetd, figures = asyncio.run(_vnetd(job, lab, rates))
    except Exception:  # whatever it was: a comparison with nothing is none
        traceback.print_exc()
        print("error: both must run for a comparison", file=sys.stderr)
        return 2
    draw(console, vnetd, libvirt, figures)
    if options.json:
        save(options.json, vnetd, libvirt, figures)
    return 1 if options.strict and not all(figure.holds for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
