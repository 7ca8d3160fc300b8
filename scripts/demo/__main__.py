"""``./run [--shell]``."""

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from demo.report import Report
from demo.stage import Stage, raised_stage
from demo.steps import Show

LOG_LINES = 40


async def _play(report: Report, show: Show) -> None:
    await report.step("daemon ready", show.ready)
    for what, action in (
        ("default network started", show.start),
        ("guest attached by veth", show.attach),
        ("guest gets a DHCP lease", show.lease),
    ):
        if not await report.step(what, action):
            return  # nothing after this could hold
    await report.step("NAT to an outside host", show.nat)
    await report.step("filter blockicmp bound", show.block)
    await report.step("filter unbound", show.unblock)
    await report.step("healed: nft flush ruleset", show.flushed_rules)
    await report.step("healed: ip link del virbr0", show.deleted_bridge)
    await report.step("healed: ip address flush", show.flushed_addresses)
    await report.step("healed: kill -9 dnsmasq", show.killed_dnsmasq)


async def _run(shell: bool, console: Console) -> bool:
    report = Report(console)
    async with raised_stage() as stage:
        show = Show(stage)
        await _play(report, show)
        if shell:
            await asyncio.to_thread(_shell, stage, console)
        await report.step("network stopped", show.stop)
        if not report.held:
            _print_log(stage, console)
    report.draw()
    return report.held


def _print_log(stage: Stage, console: Console) -> None:
    lines = stage.daemon.log.read_text(errors="replace").splitlines()
    console.print("What the daemon logged last:")
    console.print("\n".join(lines[-LOG_LINES:]), markup=False, highlight=False)


def _shell(stage: Stage, console: Console) -> None:
    console.print(
        f"A shell on the host's namespace. vnetctl is on PATH; the guest is namespace {stage.guest.name}, the host "
        f"outside {stage.outside.name}: ip netns exec {stage.guest.name} ping {stage.outside.ipv4}. Leave it to end."
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"VNETD_BUS": stage.bus, "PATH": path, "PS1": "vnetd# "}
    subprocess.run(stage.host.argv("bash", "--norc", "-i"), env=environment, check=False)


def main() -> int:
    """Exit status 0 only if everything held."""
    parser = argparse.ArgumentParser("run", description="Shows the main job of vnetd in throwaway namespaces.")
    parser.add_argument("--shell", action="store_true", help="stay there with a shell before the network is stopped")
    options = parser.parse_args()
    try:
        return 0 if asyncio.run(_run(options.shell, Console(width=None if sys.stdout.isatty() else 120))) else 1
    except KeyboardInterrupt:
        return 130


sys.exit(main())
