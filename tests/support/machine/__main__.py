"""``python -m support.machine``: prepare what machines need, or run a command in one.

python -m support.machine --prepare
python -m support.machine [--systemd] [--card] [--limit SECONDS] [--share DIRECTORY] COMMAND…
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from support.machine import CARD, Machine, MachineError, StockKernel, prepare, prepare_card


def main() -> int:
    """The command's exit status; 125 if there was no machine to run it."""
    options = _parser().parse_args()
    try:
        kernel = prepare()
        if options.prepare:
            print(f"stock kernel {kernel.version} is ready")
            prepare_card()
            print("a QEMU with virtual functions of network cards is ready")
            return 0
        return _machine(kernel, options).run(options.command, limit=options.limit, share=options.share, output=_print)
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 125


def _machine(kernel: StockKernel, options: argparse.Namespace) -> Machine:
    machine = Machine(kernel, systemd=options.systemd, processors=options.processors)
    return replace(machine, emulator=prepare_card(), devices=CARD) if options.card else machine


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("support.machine", description="Runs a command on a stock kernel, in emulation.")
    parser.add_argument("--prepare", action="store_true", help="download and unpack a kernel and a QEMU, and no more")
    parser.add_argument("--systemd", action="store_true", help="boot systemd first")
    parser.add_argument("--card", action="store_true", help="with a network card that has virtual functions")
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--processors", type=int, default=1, metavar="N")
    parser.add_argument("--share", type=Path, metavar="DIRECTORY", help="writable from inside, as /machine")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
