"""``python -m support.machine``: prepare the stock kernel, or run a command on it.

python -m support.machine --prepare
python -m support.machine [--systemd] [--limit SECONDS] [--share DIRECTORY] COMMAND…
"""

import argparse
import sys
from pathlib import Path

from support.machine import Machine, MachineError, prepare


def main() -> int:
    """The command's exit status; 125 if there was no machine to run it."""
    options = _parser().parse_args()
    try:
        kernel = prepare()
        if options.prepare:
            print(f"stock kernel {kernel.version} is ready")
            return 0
        machine = Machine(kernel, systemd=options.systemd, processors=options.processors)
        return machine.run(options.command, limit=options.limit, share=options.share, output=_print)
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 125


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("support.machine", description="Runs a command on a stock kernel, in emulation.")
    parser.add_argument("--prepare", action="store_true", help="download and unpack the kernel, and no more")
    parser.add_argument("--systemd", action="store_true", help="boot systemd first")
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--processors", type=int, default=1, metavar="N")
    parser.add_argument("--share", type=Path, metavar="DIRECTORY", help="writable from inside, as /machine")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
