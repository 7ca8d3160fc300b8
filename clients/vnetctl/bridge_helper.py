"""``vnet-bridge-helper``: stands in for qemu-bridge-helper, and needs no privilege of its own.

QEMU starts it for ``-netdev bridge,br=NAME,helper=…`` and reads a tap's descriptor from a socket it handed over. The
tap comes from vnetd, which decides whether this user may have one; it goes when QEMU ends.
"""

import argparse
import array
import asyncio
import os
import socket
import sys
from collections.abc import Sequence

from vnetctl.connection import Daemon, connected, options
from vnetctl.errors import CommandError, Exit
from vnetctl.text import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand one tap over; the exit code is 0 if that was done, else the reason is on stderr."""
    given = parser().parse_args(arguments)
    try:
        asyncio.run(_serve(given))
    except CommandError as error:
        print(f"vnet-bridge-helper: {printable(error)}", file=sys.stderr)
        return error.code
    return Exit.DONE


async def _serve(given: argparse.Namespace) -> None:
    async with connected(given.bus, descriptors=True) as daemon:
        network = await _network(daemon, given.br)
        spec = options(
            {
                "vnet_hdr": given.use_vnet,
                "mac": given.mac,
                "learn_mac": given.mac is None,
                "filter": given.filter,
            }
        )
        tap = await daemon.open_tap(network, spec)
        try:
            _hand_over(given.fd, tap)
        finally:
            os.close(tap)


async def _network(daemon: Daemon, name: str) -> str:
    """The network of this name, else the one whose bridge has it: that is what QEMU's users are used to."""
    listed = await daemon.manager("ListNetworks", "a{sv}", {})
    for key in ("name", "bridge"):
        for row in listed:
            if row[key] == name:
                return str(row["uuid"])
    raise CommandError(f"there is no network {name!r}, and none whose bridge has this name", Exit.NOT_FOUND)


def _hand_over(number: int, tap: int) -> None:
    """Send the descriptor as QEMU expects it: with one byte, over the stream socket ``number``."""
    try:
        with socket.socket(fileno=os.dup(number)) as qemu:
            qemu.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tap]))])
    except OSError as error:
        raise CommandError(f"cannot hand the tap over descriptor {number}: {error.strerror}") from None


def parser() -> argparse.ArgumentParser:
    """The options, those QEMU gives first."""
    made = argparse.ArgumentParser("vnet-bridge-helper", description="Gives QEMU a tap in one of vnetd's networks.")
    made.add_argument("--br", required=True, metavar="NAME", help="the network, or its bridge")
    made.add_argument("--fd", required=True, type=int, help="QEMU's socket, which the tap is sent over")
    made.add_argument("--use-vnet", action="store_true", help="frames carry virtio's header")
    made.add_argument("--mac", help="the guest's address, as given to QEMU's -device")
    made.add_argument("--filter", help="a filter for the port")
    made.add_argument("--bus", default=os.environ.get("VNETD_BUS", "system"), help="system, session or an address")
    return made


if __name__ == "__main__":
    sys.exit(main())
