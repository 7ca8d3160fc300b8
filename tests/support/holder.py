"""Processes that hold or want a tap: of another user, with nothing but a descriptor, or with the device node alone."""

import fcntl
import os
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.netns import Namespace

NOBODY = 65534
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETLINK = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CD
TUNSETGROUP, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CE, 0x400454D0, 0x400454D8
TUNSETQUEUE, TUNSETCARRIER, SIOCSIFHWADDR = 0x400454D9, 0x400454E2, 0x8924
IFF_TAP, IFF_MULTI_QUEUE, IFF_DETACH_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x2, 0x100, 0x400, 0x1000, 0x4000
ARPHRD_ETHER = 1
PYTHON = os.path.realpath(sys.executable)
"""Where another user can run it, which a virtual environment may not be."""

HOLDER = """
import fcntl, sys
print("ready", flush=True)
for line in sys.stdin:
    fd, request, argument = line.split()
    try:
        given = bytes.fromhex(argument[1:]) if argument[0] == "x" else int(argument)
        fcntl.ioctl(int(fd), int(request), given)
        print(0, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""
OPENER = """
import fcntl, os, sys
uid, gid, node, request = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], bytes.fromhex(sys.argv[4])
os.setgroups([])
os.setgid(gid)
os.setuid(uid)
fds = []
for _ in range(int(sys.argv[5])):
    try:
        fds.append(os.open(node, os.O_RDWR))
        fcntl.ioctl(fds[-1], 0x400454CA, request)
        print(0, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
sys.stdin.read()
"""


class Holder:
    """Has descriptors and uid 65534, and nothing else."""

    def __init__(self, fds: list[int]) -> None:
        """Takes the descriptors over: ours are closed."""
        options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.fds = list(fds)
        self._process = subprocess.Popen(
            [PYTHON, "-I", "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            cwd="/",
            text=True,
            **options,
        )
        for fd in fds:
            os.close(fd)
        fds.clear()
        assert self._answer() == "ready"

    def does(self, request: int, argument: int | bytes, queue: int = 0) -> int:
        """The error number of an ioctl on one of its descriptors, 0 if the kernel did it."""
        given = f"x{argument.hex()}" if isinstance(argument, bytes) else str(argument)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self.fds[queue]} {request} {given}\n")
        self._process.stdin.flush()
        return int(self._answer())

    def kill(self) -> None:
        """End it without warning. Killing it twice is harmless."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def hardware_address(mac: str) -> bytes:
    """SIOCSIFHWADDR's argument."""
    return struct.pack("=16sH6s16x", b"", ARPHRD_ETHER, bytes.fromhex(mac.replace(":", "")))


def opened_in(host: Namespace, device: str, *, multi_queue: bool = False) -> int:
    """A queue of a tap in ``host``, opened by this process."""
    with host.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, _request(device, multi_queue))
    return fd


def _request(device: str, multi_queue: bool) -> bytes:
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if multi_queue else 0)
    return struct.pack("=16sH22x", device.encode(), flags)


@contextmanager
def opened_by(
    host: Namespace, device: str, uid: int, gid: int, *, queues: int = 1, multi_queue: bool = False
) -> Iterator[list[int]]:
    """What a user gets who opens a tap in ``host`` by its name: an error number a queue, 0 for one that is open."""
    request = _request(device, multi_queue)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        node = Path(directory, "tun")  # the machine's own may be root's alone
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 200))
        node.chmod(0o666)
        arguments = [str(uid), str(gid), str(node), request.hex(), str(queues)]
        process = host.start(PYTHON, "-I", "-c", OPENER, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            yield [int(process.stdout.readline()) for _ in range(queues)]
        finally:
            process.kill()
            process.communicate()
